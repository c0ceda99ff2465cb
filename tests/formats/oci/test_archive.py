from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import stat
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, LimitExceeded, NoSpace, StoreError, UnsupportedFeature
from recipes.formats.io import bounds
from recipes.formats.io.blkhash import of_file
from recipes.formats.io.context import Context
from recipes.formats.io.source import FileSource
from recipes.formats.oci import archive as oci_archive
from recipes.formats.oci.layers import flatten
from recipes.formats.oci.layout import open_image
from recipes.formats.tar import write as tar_write
from recipes.formats.tree.tree import Extent, Node, Tree
from recipes.progress import SILENCE, SILENT_METER
from tests.kit import trees

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.model import Arch, Compression

NAME = "localhost/debian-12:latest"
LIMIT = 64 << 20
ANNOTATIONS = {
    "org.opencontainers.image.title": "Debian 12 „bookworm“",
    "org.opencontainers.image.source": "https://x/y",
}

each_compression = pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """A small root file system: text, noise, zeros, a file with holes, links, a device, attributes."""
    tree = Tree()
    store = tmp_path / "data"
    noise = random.Random(1).randbytes(3_000_000)
    store.write_bytes(noise)
    file = stat.S_IFREG | 0o644
    with tree:
        data_file = FileSource(tree.keep(store.open("rb")).fileno(), "data")
        tree.add(b"", Node(stat.S_IFDIR | 0o755, mtime_ns=5))
        tree.add(b"bin", Node(stat.S_IFLNK | 0o777, target=b"usr/bin"))
        tree.add(b"usr/bin/noise", Node(file, 1, 2, 3_000_000_000, len(noise), (Extent(0, len(noise), data_file, 0),)))
        tree.link(b"usr/bin/again", b"usr/bin/noise")
        tree.add(b"text", Node(file, size=2_000_000, data=b"line of text\n" * 153_846 + b"12"))
        tree.add(b"holes", Node(file, size=9_000_001, data=(Extent(4_000_000, 1000, data_file, 77),)))
        tree.add(b"null", Node(stat.S_IFCHR | 0o666, device=(1, 3)))
        tree.add(b"ping", Node(file, xattrs={b"security.capability": b"\1\0\0\2\0\x20" + bytes(14)}))
        yield tree


def write(tree: Tree, path: Path, compression: Compression, jobs: int = 2, arch: Arch = "x86_64") -> Any:
    written = oci_archive.write(
        tree,
        path,
        oci_archive.About(arch, NAME, ANNOTATIONS),
        Context(SILENCE, "oci:debian-12", jobs, LIMIT),
        compression=compression,
    )
    assert written.blkhash == of_file(path, jobs=2, meter=SILENT_METER)
    return written


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]


def load(data: bytes) -> Any:
    return json.loads(data)


@each_compression
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_what_is_written_is_read(compression: Compression, arch: Arch, tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    made = write(tree, path, compression, arch=arch)
    names = itertools.count()
    with open_image(path, arch=arch) as image:
        assert [(layer.digest, layer.diff_id, layer.blob.size) for layer in image.layers] == [
            (made.layer, made.diff_id, made.layer_size)
        ]
        found = flatten(image, Context(limit=1 << 30, scratch=lambda: tmp_path / f"layer{next(names)}"))
    with found:
        assert trees.differences(trees.of_tree(found), trees.of_tree(tree)) == []


@each_compression
def test_its_documents(compression: Compression, tree: Tree, tmp_path: Path) -> None:
    made = write(tree, tmp_path / "image.tar", compression)
    files = contents(tmp_path / "image.tar")
    for name, data in files.items():
        if name.startswith("blobs/sha256/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    assert load(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = load(files["index.json"])["manifests"]
    assert entry["digest"] == str(made.manifest)
    assert entry["platform"] == {"os": "linux", "architecture": "amd64"}
    assert entry["annotations"] == {
        "org.opencontainers.image.ref.name": "latest",
        "io.containerd.image.name": NAME,
    }
    manifest = load(files[f"blobs/sha256/{made.manifest.hex}"])
    suffix = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[compression]
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["annotations"] == ANNOTATIONS
    (layer,) = manifest["layers"]
    assert layer == {
        "mediaType": f"application/vnd.oci.image.layer.v1.tar{suffix}",
        "digest": str(made.layer),
        "size": made.layer_size,
    }
    assert len(files[f"blobs/sha256/{made.layer.hex}"]) == made.layer_size
    assert load(files["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{made.config.hex}",
            "Layers": [f"blobs/sha256/{made.layer.hex}"],
            "RepoTags": [NAME],
        }
    ]
    config = load(files[f"blobs/sha256/{made.config.hex}"])
    assert manifest["config"]["digest"] == str(made.config)
    assert (config["architecture"], config["os"], config["created"]) == ("amd64", "linux", "1970-01-01T00:00:03Z")
    assert config["config"]["Cmd"] == ["/bin/sh"]
    assert config["config"]["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert config["config"]["Labels"] == ANNOTATIONS
    assert config["rootfs"] == {"type": "layers", "diff_ids": [str(made.diff_id)]}
    assert len(config["history"]) == 1


def test_the_diff_id_is_that_of_the_canonical_tar_without_holes(tree: Tree, tmp_path: Path) -> None:
    class Hashed:
        digest = hashlib.sha256()

        def write(self, data: memoryview) -> None:
            self.digest.update(data)

    sink = Hashed()
    tar_write.write(tree, sink, sparse=False, meter=SILENT_METER)
    for compression in ("zstd", "gzip", "none"):
        assert write(tree, tmp_path / compression, compression).diff_id.hex == sink.digest.hexdigest()


def test_another_architecture(tree: Tree, tmp_path: Path) -> None:
    made = write(tree, tmp_path / "image.tar", "none", arch="aarch64")
    files = contents(tmp_path / "image.tar")
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    assert load(files["index.json"])["manifests"][0]["platform"] == platform
    config = load(files[f"blobs/sha256/{made.config.hex}"])
    assert {key: config[key] for key in platform} == platform


@each_compression
def test_the_same_bytes_with_any_number_of_threads(compression: Compression, tree: Tree, tmp_path: Path) -> None:
    write(tree, tmp_path / "first", compression, jobs=1)
    first = (tmp_path / "first").read_bytes()
    for jobs in (1, 2, 3, 9):
        path = tmp_path / f"again-{jobs}"
        write(tree, path, compression, jobs=jobs)
        assert path.read_bytes() == first


@each_compression
def test_every_header_is_a_plain_one(compression: Compression, tree: Tree, tmp_path: Path) -> None:
    write(tree, tmp_path / "image.tar", compression)
    with tarfile.open(tmp_path / "image.tar") as archive:
        for member in archive:
            assert not member.pax_headers
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", 0)
            assert member.mode == (0o755 if member.isdir() else 0o644)
    assert (tmp_path / "image.tar").stat().st_size % 512 == 0


def test_a_layer_of_more_than_8_gib_has_a_header_that_says_so() -> None:
    name = "blobs/sha256/" + "0" * 64
    header = oci_archive._header(name, 9 << 30)
    assert len(header) == 512
    found = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (found.name, found.size) == (name, 9 << 30)


@pytest.mark.parametrize("path", [b".wh.x", b"usr/bin/.wh..wh..opq", b".wh.dir/x"])
def test_names_that_would_delete_files(path: bytes, tree: Tree, tmp_path: Path) -> None:
    tree.add(path, Node(stat.S_IFREG | 0o644))
    with pytest.raises(UnsupportedFeature, match="an image cannot have this file"):
        write(tree, tmp_path / "image.tar", "none")
    assert not (tmp_path / "image.tar").exists()


def test_holes_that_a_layer_would_store_are_limited(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.add(b"claims", Node(stat.S_IFREG | 0o644, size=LIMIT))
    with pytest.raises(LimitExceeded, match=f"which a layer stores; the limit is {LIMIT}"):
        write(tree, tmp_path / "image.tar", "none")
    tree.add(b"claims", Node(stat.S_IFREG | 0o644, size=LIMIT // 2))
    monkeypatch.setattr(bounds, "FREE_CONTENT", LIMIT // 4)
    monkeypatch.setattr(bounds, "EXPANSION", 0)
    with pytest.raises(LimitExceeded, match=f"which a layer stores; the limit is {LIMIT // 4}"):
        write(tree, tmp_path / "image.tar", "none")
    assert not (tmp_path / "image.tar").exists()


@each_compression
def test_an_error_leaves_nothing(compression: Compression, tree: Tree, tmp_path: Path) -> None:
    data_file = FileSource(tree.keep((tmp_path / "data").open("rb")).fileno(), "data")
    tree.add(b"zz", Node(stat.S_IFREG | 0o644, size=9_000_000, data=(Extent(0, 9_000_000, data_file, 0),)))
    with pytest.raises(CorruptImage, match="'zz': expected 9000000 bytes"):
        write(tree, tmp_path / "image.tar", compression)
    assert not (tmp_path / "image.tar").exists()


def test_an_existing_file_is_left_alone(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"mine")
    with pytest.raises(StoreError, match="File exists"):
        write(tree, tmp_path / "image.tar", "none")
    assert (tmp_path / "image.tar").read_bytes() == b"mine"


@each_compression
def test_a_full_disk(compression: Compression, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoSpace, match=r"image.tar: No space left"):
        write(tree, tmp_path / "image.tar", compression)
    assert not (tmp_path / "image.tar").exists()
