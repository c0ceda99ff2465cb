"""Container images in files: which image there is for a machine, and where its layers are; nothing is unpacked.

Read are image layouts (OCI image-spec 1.1, image-layout.md) in a folder or a plain tar, and the archives of ``docker
save`` and what imitates it, whose ``manifest.json`` names the files of each image (moby, image/spec/v1.2.md, "Combined
Image JSON + Filesystem Changeset Format"). An archive that is both is read as a layout.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature, printable
from recipes.formats.io.files import os_errors
from recipes.formats.io.source import FileSource, Window
from recipes.formats.tar import read as tar_read
from recipes.formats.tree.tree import MAX_LINKS_FOLLOWED, show

from . import spec as oci_spec
from .spec import CONFIGS, IMAGE_NAME, INDEXES, JSON_LIMIT, LAYERS, MANIFESTS, REF_NAME, Descriptor, Platform, get

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.model import Arch, Digest

T = TypeVar("T")

#: Indexes within indexes; in practice there is one.
_DEPTH_LIMIT = 8
#: What overlayfs takes (fs/overlayfs/params.h, OVL_MAX_STACK); docker stops at 125.
_LAYER_LIMIT = 500
#: Bytes of all documents that are read on the way to one image. Thousands of entries may name the same large one.
_DOCUMENTS_LIMIT = 4 * JSON_LIMIT

#: How docker and its imitators name a config for its digest. Others take any name.
_CONFIG_NAME = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")


class Blob(NamedTuple):
    """Bytes of an open file."""

    fd: int
    offset: int
    size: int

    def source(self, name: str) -> Window:
        """Return the bytes as a source, called `name`, that reads from the same descriptor."""
        return Window(FileSource(self.fd, name), self.offset, self.size)


class Layer(NamedTuple):
    """A layer as it is stored: a tar, perhaps compressed."""

    blob: Blob
    #: Of the blob, as far as the image says it; not verified.
    digest: Digest | None
    #: Of the tar (config.md, "Layer DiffID"); not verified.
    diff_id: Digest


class ContainerImage:
    """An image in a file or folder, which stays open until this context ends."""

    def __init__(self, path: Path, config: dict[str, Any], layers: tuple[Layer, ...], files: ExitStack) -> None:
        self.path = path
        #: What config.md describes.
        self.config = config
        #: The lowest one first.
        self.layers = layers
        self._files = files

    @property
    def stored(self) -> int:
        """Return the bytes of all layers as they are stored; several may be one file."""
        return sum(blob.size for blob in {layer.blob for layer in self.layers})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()


def open_image(path: Path, *, arch: Arch) -> ContainerImage:
    """Open the image for Linux on `arch` that is in the file or folder `path`.

    Errors: `UnsupportedFeature` where there is none, more than one, or one whose layers are encrypted or kept
    elsewhere; `CorruptImage`, also for a blob of another digest (layers excepted) or size than the image says;
    `LimitExceeded`; `StoreError` for what the operating system refuses.
    """
    with ExitStack() as stack, os_errors(path):
        search = _Search(_open(path, stack), path, arch)
        found = search.run()
        return ContainerImage(path, found.config, tuple(search.layers(found)), stack.pop_all())


def is_image(path: Path) -> bool:
    """Say whether the file or folder `path` is an image layout or a docker archive, and no root file system.

    Errors: as `open_image`.
    """
    with ExitStack() as stack:
        files = _open(path, stack)
        if files.find("oci-layout"):
            return True
        listing = files.find("manifest.json")
        # A root file system may have a manifest.json, too.
        return listing is not None and b'"Layers"' in os.pread(
            listing.fd, min(listing.size, JSON_LIMIT), listing.offset
        )


def _open(path: Path, stack: ExitStack) -> _Folder | _Archive:
    return stack.enter_context(_Folder(path)) if path.is_dir() else stack.enter_context(_Archive(path))


class _Folder:
    """The files of a layout in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[str, Blob] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for blob in self._open.values():
            os.close(blob.fd)

    def find(self, name: str) -> Blob | None:
        """Return the file `name`, None where there is none."""
        if name == "manifest.json":
            # What docker writes is one file. The names in it are anybody's, and from a folder they could lead anywhere.
            return None
        if name not in self._open:
            try:
                fd = _open_beneath(self._path, name)
            except FileNotFoundError:
                return None
            status = os.fstat(fd)
            self._open[name] = Blob(fd, 0, status.st_size)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptImage(f"{self._path / name}: expected a regular file")
        return self._open[name]


def _open_beneath(folder: Path, name: str) -> int:
    """Open the file `name` in `folder` for reading; a symbolic link on the way is an OSError, as at its end."""
    *parents, last = name.split("/")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for each in parents:
            below = os.open(each, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(last, flags, dir_fd=at)
    except OSError as error:
        error.filename = str(folder / name)
        raise
    finally:
        os.close(at)


class _Archive:
    """The files in a tar."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tree = tar_read.load(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tree.__exit__()

    def find(self, name: str) -> Blob | None:
        """Return the file `name`, None where there is none."""
        at = name.encode("utf-8", "surrogatepass")
        node = self._tree.find(at)
        # docker writes a layer that two images share once, and links to it.
        for _ in range(MAX_LINKS_FOLLOWED):
            if node is None or not node.is_symlink:
                break
            at = node.target if node.target.startswith(b"/") else at.rpartition(b"/")[0] + b"/" + node.target
            node = self._tree.find(at)
        if node is None:
            return None
        if not node.is_file or isinstance(node.data, bytes) or [each.length for each in node.data] != [node.size]:
            raise CorruptImage(f"{self._path}: expected {show(at)} to be a regular file, in one piece and not empty")
        fd = node.data[0].source.fileno()
        assert fd is not None, "the files of an archive lie in it as they are"
        return Blob(fd, node.data[0].offset, node.size)


class _Found(NamedTuple):
    """An image for the machine."""

    #: For a person who has to choose.
    name: str
    #: What two names of the same image have in common.
    digest: Digest
    config: dict[str, Any]
    #: Names or, in a layout, descriptors.
    layers: list[Any]


class _Search:
    """The way through the documents of a layout or archive to the one image that is for a machine."""

    def __init__(self, files: _Folder | _Archive, path: Path, arch: Arch) -> None:
        self._files = files
        self._path = path
        self._arch = arch
        #: What was met and is not for the machine.
        self._others: dict[str, None] = {}
        self._seen: set[Digest] = set()
        #: Bytes of documents that may still be read.
        self._left = _DOCUMENTS_LIMIT

    def run(self) -> _Found:
        if self._files.find("index.json"):
            found = list(self._in_layout())
        elif self._files.find("manifest.json"):
            found = list(self._in_docker_archive())
        else:
            raise UnsupportedFeature(
                f"{self._path}: expected a container image, found neither index.json (an OCI image layout) nor "
                "manifest.json (an archive of docker save)",
                hint='a root file system in a tarball is kind = "rootfs"',
            )
        wanted = f"{self._path}: expected an image for {Platform.of(self._arch)}"
        if not found:
            raise UnsupportedFeature(f"{wanted}, found {', '.join(self._others) or 'nothing'}")
        if len({each.digest for each in found}) > 1:
            raise UnsupportedFeature(
                f"{wanted}, found {len(found)}: {', '.join(sorted(each.name for each in found))}",
                hint="save the one that you want by itself: podman save, docker save and skopeo copy take its name",
            )
        return found[0]

    def layers(self, found: _Found) -> Iterator[Layer]:
        where = f"{self._path}: the image's config"
        diff_ids = get(get(found.config, "rootfs", dict, where), "diff_ids", list, where)
        if len(diff_ids) != len(found.layers):
            raise CorruptImage(
                f"{where}: expected {len(found.layers)} diff_ids, one for a layer, found {len(diff_ids)}"
            )
        if len(diff_ids) > _LAYER_LIMIT:
            raise LimitExceeded(f"{self._path}: {len(diff_ids)} layers, and {_LAYER_LIMIT} are allowed")
        for text, layer in zip(diff_ids, found.layers, strict=True):
            diff_id = oci_spec.digest(text, f"{where}: diff_ids")
            if isinstance(layer, Descriptor):
                self._check_type(layer)
                yield Layer(self._described(layer), layer.digest, diff_id)
            else:
                yield Layer(self._blob(layer), None, diff_id)

    def _check_type(self, layer: Descriptor) -> None:
        kind = layer.media_type
        if kind in LAYERS:
            return
        if kind.endswith("+encrypted"):
            why = "is encrypted"
        elif "nondistributable" in kind or "foreign" in kind:
            why = "is not distributed with the image"
        else:
            why = "is of a type that larder does not know"
        raise UnsupportedFeature(f"{self._path}: the layer {layer.digest} {why}: {kind!r}")

    # Image layouts.

    def _in_layout(self) -> Iterator[_Found]:
        """Yield the image of each entry of index.json that has one: they are images by name, not by platform."""
        where = f"{self._path}: oci-layout"
        version = get(self._json("oci-layout", dict), "imageLayoutVersion", str, where)
        if version != "1.0.0":
            raise UnsupportedFeature(f"{where}: expected version 1.0.0, found {version!r}")
        for entry in self._entries(self._json("index.json", dict), "index.json"):
            # image-index.md: "If multiple manifests match a client or runtime's requirements, the first matching entry
            # SHOULD be used."
            for found in self._below(entry, 1):
                names = (entry.annotations.get(key) for key in (IMAGE_NAME, REF_NAME))
                yield found._replace(name=printable(str(next(filter(None, names), entry.digest))[:200]))
                break

    def _entries(self, index: dict[str, Any], name: str) -> list[Descriptor]:
        where = f"{self._path}: {name}"
        # One that is both is an index to us and an image to others (CVE-2021-41190).
        if "layers" in index or "config" in index:
            raise CorruptImage(f"{where}: expected an index, found an image manifest")
        return [Descriptor.read(entry, f"{where}: manifests") for entry in get(index, "manifests", list, where)]

    def _below(self, entry: Descriptor, depth: int) -> Iterator[_Found]:
        """Yield the images that fit of `entry`, an image or an index of some."""
        if depth > _DEPTH_LIMIT:
            raise LimitExceeded(f"{self._path}: more than {_DEPTH_LIMIT} indexes within one another")
        if entry.platform and not entry.platform.runs_on(self._arch):
            self._others[str(entry.platform)] = None
        elif entry.media_type not in INDEXES | MANIFESTS:
            self._others[printable(entry.media_type[:100])] = None
        elif entry.digest not in self._seen:
            self._seen.add(entry.digest)
            document = self._document(entry)
            if entry.media_type in INDEXES:
                for child in self._entries(document, entry.path):
                    yield from self._below(child, depth + 1)
            else:
                yield from self._image(entry, document)

    def _image(self, entry: Descriptor, manifest: dict[str, Any]) -> Iterator[_Found]:
        where = f"{self._path}: {entry.path}"
        described = Descriptor.read(manifest.get("config"), f"{where}: config")
        if described.media_type not in CONFIGS:
            # An artifact: a signature, a chart, a bill of materials.
            self._others[printable(described.media_type[:100])] = None
            return
        if "manifests" in manifest:
            raise CorruptImage(f"{where}: expected an image manifest, found an index")
        config = self._document(described)
        if entry.platform or self._fits(config, described.path):
            layers = [Descriptor.read(each, f"{where}: layers") for each in get(manifest, "layers", list, where)]
            yield _Found("", entry.digest, config, layers)

    # Docker archives.

    def _in_docker_archive(self) -> Iterator[_Found]:
        where = f"{self._path}: manifest.json"
        for entry in self._json("manifest.json", list):
            if not isinstance(entry, dict):
                raise CorruptImage(f"{where}: expected an array of objects")
            name = get(entry, "Config", str, where)
            data = self._read(self._blob(name), name)
            digest = oci_spec.digest(f"sha256:{hashlib.sha256(data).hexdigest()}", name)
            if (claimed := _CONFIG_NAME.fullmatch(name)) and claimed[1] != digest.hex:
                raise CorruptImage(f"{self._path}: {name}: has the digest {digest}")
            config = oci_spec.parse(data, dict, f"{self._path}: {name}")
            if self._fits(config, name):
                tags = (printable(str(each)[:200]) for each in get(entry, "RepoTags", list, where, []))
                layers = [str(each) for each in get(entry, "Layers", list, where)]
                yield _Found(" = ".join(tags) or name, digest, config, layers)

    # Both.

    def _fits(self, config: dict[str, Any], name: str) -> bool:
        platform = Platform.read(config, f"{self._path}: {name}")
        if platform and platform.runs_on(self._arch):
            return True
        self._others[str(platform or "an image without a platform")] = None
        return False

    def _json(self, name: str, kind: type[T]) -> T:
        return oci_spec.parse(self._read(self._blob(name), name), kind, f"{self._path}: {name}")

    def _document(self, descriptor: Descriptor) -> dict[str, Any]:
        """Return the document that `descriptor` describes, verified."""
        where = f"{self._path}: {descriptor.path}"
        data = self._read(self._described(descriptor), descriptor.path)
        hasher = descriptor.digest.hasher()
        hasher.update(data)
        if hasher.hexdigest() != descriptor.digest.hex:
            raise CorruptImage(f"{where}: has the digest {descriptor.digest.algorithm}:{hasher.hexdigest()}")
        return oci_spec.parse(data, dict, where)

    def _described(self, descriptor: Descriptor) -> Blob:
        blob = self._blob(descriptor.path)
        if blob.size != descriptor.size:
            raise CorruptImage(f"{self._path}: {descriptor.path}: expected {descriptor.size} bytes, found {blob.size}")
        return blob

    def _blob(self, name: str) -> Blob:
        blob = self._files.find(name)
        if blob is None:
            raise CorruptImage(f"{self._path}: expected {show(name.encode('utf-8', 'surrogatepass'))} to be there")
        return blob

    def _read(self, blob: Blob, name: str) -> bytes:
        if blob.size > JSON_LIMIT:
            raise LimitExceeded(f"{self._path}: {name}: {blob.size} bytes, and documents have at most {JSON_LIMIT}")
        self._left -= blob.size
        if self._left < 0:
            raise LimitExceeded(f"{self._path}: its images have documents of more than {_DOCUMENTS_LIMIT} bytes in all")
        return os.pread(blob.fd, blob.size, blob.offset)
