"""A root file system as the archive of a container image that every client loads.

It is an image layout (OCI image-spec 1.1, image-layout.md) and has the ``manifest.json`` of ``docker save`` as well:
docker before release 25 reads nothing else. The image has one layer, the canonical tar of the tree.

The archive is written in one pass, while the layer is made: its header comes before it, and its name, which is its
digest, after it, so the header is filled in at the end. The order of the members means nothing to any client.

The same tree gives the same bytes, whatever the machine and the number of threads, as long as the releases of
libdeflate and libzstd are the same. That is why gzip is not igzip's, which is three times as fast: its output depends
on the processor.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.codec import libzstd
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.files import os_errors
from recipes.formats.io.hashed import HashedFile
from recipes.formats.io.pipeline import Stage, in_order
from recipes.formats.io.sparse import CHUNK, SparseFile, removed_on_error
from recipes.formats.tar import write as tar_write
from recipes.formats.tar.header import BLOCK, padding
from recipes.formats.tree.tree import show
from recipes.model import BlockHash, Digest

from . import spec as oci_spec
from .spec import CONFIG, IMAGE_NAME, INDEX, LAYER, MANIFEST, REF_NAME, WHITEOUT, Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from recipes.formats.io.context import Context
    from recipes.formats.tree.tree import Tree
    from recipes.model import Arch, Compression

#: What docker and buildah set where an image does not.
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_BLOBS = "blobs/sha256"

#: Faster than what podman and skopeo compress with, and 4 % smaller. Level 5 takes 2 % off, for a fifth more time.
_GZIP_LEVEL = 3
#: zstd(1)'s default.
_ZSTD_LEVEL = 3
#: Bytes that a thread compresses at a time: less memory than with libzstd's choice, for 0.5 % more output.
_ZSTD_JOB = 2 << 20
#: More would wait for the tar.
_ZSTD_THREADS = 4


@dataclass(frozen=True, slots=True)
class OciArchive:
    """What `write` wrote."""

    #: Of the layer's tar: what the image is, however it is compressed.
    diff_id: Digest
    #: Of the layer as it is stored, and its bytes.
    layer: Digest
    layer_size: int
    #: What docker and podman call the image's id.
    config: Digest
    #: What a registry will serve the image by.
    manifest: Digest
    #: Of the archive.
    blkhash: BlockHash


class About(NamedTuple):
    """What an image says of itself."""

    arch: Arch
    #: The whole reference, tag included, that clients know the image by once they have loaded it.
    name: str
    #: The manifest's annotations, and the config's labels.
    annotations: Mapping[str, str]


def write(
    tree: Tree,
    path: Path,
    about: About,
    context: Context,
    *,
    compression: Compression,
) -> OciArchive:
    """Write `tree` to `path`, which must not exist, as an image for Linux.

    The image was created when its newest file was changed. `context.limit` is the most bytes that the files may have,
    holes included: layers have none, so `content_limit` holds as well. The meter is told the bytes of files' data.

    On success the archive is on the disk if it is to be durable; after an error nothing is at `path`. Memory: a few
    `CHUNK` for each thread; with zstd 15 MiB for each of at most 4.

    Every client reads gzip and none; docker before 23 and umoci before 0.5 do not read zstd.

    Errors: those of `tar_write.write`; `LimitExceeded`; `UnsupportedFeature` for files whose names mean something else
    in a layer; `NoSpace`; `StoreError` for what else the operating system refuses.
    """
    created = _check(tree, context.limit)
    suffix, compress = _COMPRESSIONS[compression]
    with (
        os_errors(path),
        context.meter() as meter,
        HashedFile(path, durable=context.durable) as file,
        removed_on_error(path),
    ):
        archive = _Archive(file)
        with Stage(_sha256) as hasher, Stage(lambda chunks: archive.layer(compress(chunks, context.jobs))) as layer:
            tar_write.write(tree, _Both(hasher, layer), sparse=False, meter=meter)
            diff_id = hasher.finish()
            blob = layer.finish()
        config = archive.blob(oci_spec.dump(_config(about, diff_id, created)))
        document = _manifest(config, blob.descriptor(LAYER + suffix), about.annotations)
        manifest = archive.blob(oci_spec.dump(document))
        archive.file("index.json", oci_spec.dump(_index(about, manifest)))
        archive.file("oci-layout", oci_spec.dump({"imageLayoutVersion": "1.0.0"}))
        listing = [{"Config": config.path, "Layers": [blob.path], "RepoTags": [about.name]}]
        archive.file("manifest.json", oci_spec.dump(listing))
        archive.finish()
    assert file.blkhash is not None, "a finished file knows it"
    return OciArchive(diff_id, blob.digest, blob.size, config.digest, manifest.digest, file.blkhash)


def _check(tree: Tree, limit: int) -> str:
    """Refuse what cannot be in a layer; return the time of the newest file, as RFC 3339 has it."""
    nodes = {}
    for path, node in tree.walk():
        nodes[id(node)] = node
        if path.rpartition(b"/")[2].startswith(WHITEOUT):
            raise UnsupportedFeature(
                f"{show(path)}: an image cannot have this file: in a layer, the name says that another one is deleted"
            )
    size = sum(node.size for node in nodes.values())
    limit = content_limit(sum(node.stored for node in nodes.values()), limit)
    if size > limit:
        raise LimitExceeded(f"the files have {size} bytes with their holes, which a layer stores; the limit is {limit}")
    newest = max(0, *(node.mtime_ns for node in nodes.values()))
    return datetime.fromtimestamp(newest // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# The documents.


def _config(about: About, diff_id: Digest, created: str) -> dict[str, Any]:
    return {
        **_platform(about.arch),
        "created": created,
        "config": {"Cmd": ["/bin/sh"], "Env": [_PATH], "Labels": dict(about.annotations)},
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id)]},
        "history": [{"created": created, "created_by": "larder"}],
    }


def _manifest(config: _Blob, layer: dict[str, Any], annotations: Mapping[str, str]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer],
        "annotations": dict(annotations),
    }


def _index(about: About, manifest: _Blob) -> dict[str, Any]:
    names = {REF_NAME: about.name.rpartition(":")[2], IMAGE_NAME: about.name}
    entry = manifest.descriptor(MANIFEST) | {"platform": _platform(about.arch), "annotations": names}
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}


def _platform(arch: Arch) -> dict[str, str]:
    return {key: value for key, value in Platform.of(arch)._asdict().items() if value}


# The layer.


class _Both:
    """What the tar is written to: the same bytes, to two threads."""

    def __init__(self, *stages: Stage[Any]) -> None:
        self._stages = stages

    def write(self, data: memoryview) -> None:
        chunk = bytes(data)
        for stage in self._stages:
            stage.put(chunk)


def _sha256(chunks: Iterable[bytes]) -> Digest:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return Digest("sha256", digest.hexdigest())


def _plain(chunks: Iterable[bytes], _: int) -> Iterable[bytes]:
    return chunks


def _gzip(chunks: Iterable[bytes], jobs: int) -> Iterator[bytes]:
    """Yield a gzip member for each chunk, as the layers of eStargz have one for each file: every client reads that."""
    from deflate import gzip_compress

    def member(chunk: bytes) -> Iterator[bytes]:
        # Its header has neither time nor name.
        yield bytes(gzip_compress(chunk, _GZIP_LEVEL))

    return in_order(map(member, chunks), workers=jobs, room=(jobs + 1) * CHUNK)


def _zstd(chunks: Iterable[bytes], jobs: int) -> Iterator[bytes]:
    # Even one thread goes the way of several, whose output is another than that of none.
    compressor = libzstd.backend().stream(_ZSTD_LEVEL, threads=min(jobs, _ZSTD_THREADS), job=_ZSTD_JOB)
    for chunk in chunks:
        yield compressor.compress(chunk)
    yield compressor.flush()


_COMPRESSIONS: Mapping[Compression, tuple[str, Callable[[Iterable[bytes], int], Iterable[bytes]]]] = {
    "none": ("", _plain),
    "gzip": ("+gzip", _gzip),
    "zstd": ("+zstd", _zstd),
}


# The archive.


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: Digest
    size: int

    @property
    def path(self) -> str:
        return f"{_BLOBS}/{self.digest.hex}"

    def descriptor(self, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": str(self.digest), "size": self.size}


class _Archive:
    """The tar that everything is in."""

    def __init__(self, file: SparseFile) -> None:
        self._file = file
        for name in ("blobs", _BLOBS):
            self._file.write(_header(name, 0, tarfile.DIRTYPE))

    def layer(self, pieces: Iterable[bytes]) -> _Blob:
        """Append a blob that is known when it is over."""
        place = self._file.position
        start = self._file.position = place + BLOCK
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
            at = self._file.position
            self._file.write(piece)
            # The disk works while the processors do: fsync has less to wait for.
            self._file.write_back(at, len(piece))
        blob = _Blob(Digest("sha256", digest.hexdigest()), self._file.position - start)
        self._file.pwrite(_header(blob.path, blob.size), place)
        self._pad()
        return blob

    def blob(self, data: bytes) -> _Blob:
        """Append a document by its digest."""
        blob = _Blob(Digest("sha256", hashlib.sha256(data).hexdigest()), len(data))
        self.file(blob.path, data)
        return blob

    def file(self, name: str, data: bytes) -> None:
        """Append a document by its name."""
        self._file.write(_header(name, len(data)))
        self._file.write(data)
        self._pad()

    def finish(self) -> None:
        """Write the end."""
        self._file.finish(self._file.position + 2 * BLOCK)

    def _pad(self) -> None:
        self._file.position += padding(self._file.position)


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return the header of a member: always one block, since GNU's format has numbers of any size."""
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = size
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return member.tobuf(tarfile.GNU_FORMAT)
