from __future__ import annotations

import gzip
import lzma
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, Interrupted, LarderError, LimitExceeded, StoreError, UnsupportedFeature
from recipes.formats.disk.to_raw import RawDisk, to_raw
from recipes.formats.io.context import Context
from recipes.formats.io.sparse import allocated
from recipes.progress import SILENCE, Progress
from tests.kit.disks import reference
from tests.kit.oracles import need
from tests.kit.qcow2_images import build, content, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.progress import Meter

CLUSTER = 65536
QCOW2 = build(l2={0: 4 * CLUSTER}, data=b"x" * CLUSTER)


class Watcher:
    """A progress that counts, and that stops the work when `stop` is set."""

    def __init__(self, *, stop: bool = False) -> None:
        self.labels: set[str] = set()
        self.total: int | None = None
        self.done = 0
        self._stop = stop

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        self.labels.add(label)
        self.expect(total)
        self.done = 0
        yield self
        assert self.done == self.total

    def advance(self, count: int) -> None:
        if self._stop:
            raise Interrupted("told to stop")
        self.done += count

    def expect(self, total: int | None) -> None:
        self.total = total

    def note(self, message: str) -> None:
        raise AssertionError(message)


def raw(source: Path, *, limit: int = 1 << 40, progress: Progress = SILENCE, blkhash: bool = True) -> RawDisk:
    destination = source.with_name("out")
    return to_raw(source, destination, Context(progress, "raw:test", 2, limit), blkhash=blkhash)


def test_qcow2(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(QCOW2)
    progress = Watcher()
    disk = raw(tmp_path / "disk", progress=progress)
    data = b"x" * CLUSTER + bytes((1 << 20) - CLUSTER)
    assert (tmp_path / "out").read_bytes() == data
    assert (disk.source_format, disk.virtual_size, disk.method) == ("qcow2", 1 << 20, "convert")
    assert disk.blkhash is not None
    assert disk.blkhash.hex == reference(data)
    assert progress.labels == {"raw:test"}
    assert progress.total == CLUSTER


@pytest.mark.parametrize("size", [512, 1000, 3_000_000, 3_000_001])
def test_raw_has_whole_sectors(tmp_path: Path, size: int) -> None:
    need("qemu-img")
    (tmp_path / "disk").write_bytes(content(510) + b"\x55\xaa" + content(size - 512))
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", tmp_path / "disk", tmp_path / "wanted")
    progress = Watcher()
    disk = raw(tmp_path / "disk", progress=progress)
    data = (tmp_path / "out").read_bytes()
    assert data == (tmp_path / "wanted").read_bytes()
    assert disk.virtual_size == len(data)
    assert disk.blkhash is not None
    assert disk.blkhash.hex == reference(data)
    assert disk.source_format == "raw"
    assert progress.labels == {"raw:test"}


def test_an_iso_image_is_a_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(0x8001) + b"CD001".ljust(2047, b"\1"))
    assert raw(tmp_path / "disk").source_format == "iso9660"
    assert (tmp_path / "out").read_bytes() == (tmp_path / "disk").read_bytes()


def test_raw_becomes_sparse(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4 << 20) + b"x" * 4096)
    disk = raw(tmp_path / "disk")
    # A reflink shares the source's extents, zeros included, and costs nothing.
    assert disk.method == "reflink" or allocated(tmp_path / "out") <= 4096 + 16384


def test_nobody_need_ask_for_a_digest(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(QCOW2)
    (tmp_path / "raw").write_bytes(bytes(512))
    assert raw(tmp_path / "disk", blkhash=False).blkhash is None
    (tmp_path / "out").unlink()
    assert raw(tmp_path / "raw", blkhash=False).blkhash is None


@pytest.mark.parametrize(
    ("file", "found"),
    [
        (b"", "an empty file"),
        (b"Not Found\n", "text"),
        (b"<!DOCTYPE html>\n<html>".ljust(1024), "an HTML page"),
        (b"-----BEGIN PGP SIGNATURE-----\n", r"a signature or a key \(OpenPGP\)"),
        (b"x" * (2 << 20), "text"),
        (b"\x04\x22\x4d\x18" + bytes(508), "data that is compressed with lz4"),
        (lzma.compress(bytes(1 << 20), lzma.FORMAT_ALONE), "data that is compressed with lzma"),
        (b"\x1f\x9d\x90" + bytes(509), "data that is compressed with compress"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(506), "a 7z archive"),
        (gzip.compress(bytes(512), mtime=0), "data that is compressed with gzip"),
        (b"\x50\x2a\x4d\x18\4\0\0\0" + bytes(504), "data that is compressed with zstd"),
        (b"\1\2" * 250, "500 bytes of data that is not known"),
        (bytes(513), "513 bytes of data that is not known"),
    ],
)
def test_what_cannot_be_a_disk(tmp_path: Path, file: bytes, found: str) -> None:
    (tmp_path / "disk").write_bytes(file)
    with pytest.raises(UnsupportedFeature, match=f"expected a disk image, found {found}") as caught:
        raw(tmp_path / "disk")
    assert "qemu-img" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


@pytest.mark.parametrize(
    "file",
    [
        bytes(512),
        bytes(range(256)) * 2,
        # What a guest keeps without a file system may begin with text; so may a boot sector.
        b"x" * 100_000 + bytes(352),
        b"x" * 510 + b"\x55\xaa",
        b"x" * 510 + b"\x55\xaa" + b"x",
        b"hsqs" + bytes(97),
    ],
)
def test_what_may_be_a_disk(tmp_path: Path, file: bytes) -> None:
    (tmp_path / "disk").write_bytes(file)
    assert raw(tmp_path / "disk").source_format == "raw"


@pytest.mark.parametrize("name", ["qed", "qcow"])
def test_other_formats_are_named(tmp_path: Path, name: str) -> None:
    need("qemu-img")
    subprocess.run(["qemu-img", "create", "-q", "-f", name, str(tmp_path / "disk"), "1M"], check=True)
    with pytest.raises(UnsupportedFeature, match=f"{name} is not supported yet"):
        raw(tmp_path / "disk")
    assert not (tmp_path / "out").exists()


def test_asif_is_named(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"shdw".ljust(4096, b"\0"))
    with pytest.raises(UnsupportedFeature, match="asif is not supported yet"):
        raw(tmp_path / "disk")


@pytest.mark.parametrize(
    ("image", "limit", "error"),
    [
        (QCOW2[:-1], 1 << 40, CorruptImage),
        (QCOW2[:100], 1 << 40, CorruptImage),
        (QCOW2, (1 << 20) - 1, LimitExceeded),
        (bytes(4096), 4095, LimitExceeded),
    ],
)
def test_nothing_is_left_after_an_error(tmp_path: Path, image: bytes, limit: int, error: type[LarderError]) -> None:
    (tmp_path / "disk").write_bytes(image)
    with pytest.raises(error):
        raw(tmp_path / "disk", limit=limit)
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


@pytest.mark.parametrize("image", [QCOW2, b"x" * CLUSTER + bytes(512)])
def test_nothing_is_left_when_it_is_stopped(tmp_path: Path, image: bytes) -> None:
    (tmp_path / "disk").write_bytes(image)
    with pytest.raises(Interrupted):
        raw(tmp_path / "disk", progress=Watcher(stop=True))
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


@pytest.mark.parametrize("image", [QCOW2, QCOW2[:-1], b"x" * CLUSTER, b"shdw"])
def test_what_is_there_already_is_left_alone(tmp_path: Path, image: bytes) -> None:
    (tmp_path / "disk").write_bytes(image)
    (tmp_path / "out").write_bytes(b"precious")
    with pytest.raises(LarderError):
        raw(tmp_path / "disk")
    assert (tmp_path / "out").read_bytes() == b"precious"


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path / 'disk'}: No such file"):
        raw(tmp_path / "disk")
    (tmp_path / "disk").write_bytes(QCOW2)
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match=f"{tmp_path / 'out'}: File exists"):
        raw(tmp_path / "disk")


def test_a_raw_that_nobody_else_needs_is_moved(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"x" * 700 + bytes(836))
    inode = source.stat().st_ino
    with pytest.raises(LimitExceeded):
        to_raw(source, out, Context(durable=False, limit=512), own=True)
    assert source.exists()
    found = to_raw(source, out, Context(durable=False), own=True)
    assert (found.method, out.stat().st_ino, source.exists()) == ("rename", inode, False)
    assert to_raw(out, source, Context(durable=True), own=True).method != "rename"
    assert out.exists(), "what has to be on the disk is copied there"
