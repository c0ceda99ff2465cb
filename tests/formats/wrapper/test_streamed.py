"""Compressed tars in one pass, against the same in two."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from recipes.formats.codec import compression
from recipes.formats.io.context import Context
from recipes.formats.wrapper import archived, streamed
from tests.kit.archives import SPARSE, gnu_tar, manifest, ovf, tar, zipped
from tests.kit.disk_images import disk, made
from tests.kit.oracles import need

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

MiB = 1 << 20


@pytest.fixture
def context(tmp_path: Path) -> Context:
    numbers = iter(range(100))
    return Context(durable=False, jobs=2, scratch=lambda: tmp_path / f"scratch-{next(numbers)}")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = disk(tmp_path / "disk.raw", 9 * MiB)
    with path.open("r+b") as file:
        file.seek(510)
        file.write(b"\x55\xaa")
    return path


def zstd(data: bytes) -> bytes:
    need("zstd")
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def packed(path: Path, data: bytes, compress: Callable[[bytes], bytes] = gzip.compress) -> Path:
    path.write_bytes(compress(data))
    return path


def both(folder: Path, source: Path, data: bytes, context: Context, pattern: str = "") -> bytes:
    """Return what one pass makes of `source`, once it is what two make of it."""
    (folder / "inside").write_bytes(data)
    there = set(folder.iterdir())
    one = streamed.take(source, folder / "one", context, pattern=pattern)
    assert set(folder.iterdir()) - there == {folder / "one"}
    two = archived.take(folder / "inside", folder / "two", context, pattern=pattern, stored=source.stat().st_size)
    assert one == two
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()
    return (folder / "one").read_bytes()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
@pytest.mark.parametrize("how", ["pax 1.0", "none"])
def test_every_codec(compress: Callable[[bytes], bytes], how: str, raw: Path, tmp_path: Path, context: Context) -> None:
    (tmp_path / "x.txt").write_bytes(b"x" * 700)
    data = gnu_tar(tmp_path / "a.tar", how, tmp_path / "x.txt", raw).read_bytes()
    assert both(tmp_path, packed(tmp_path / "packed", data, compress), data, context) == raw.read_bytes()


@pytest.mark.parametrize("how", SPARSE)
def test_every_way_to_store_holes(how: str, raw: Path, tmp_path: Path, context: Context) -> None:
    data = gnu_tar(tmp_path / "a.tar", how, raw).read_bytes()
    assert both(tmp_path, packed(tmp_path / "packed", data), data, context) == raw.read_bytes()


def test_a_box_with_a_descriptor_behind_its_disks(raw: Path, tmp_path: Path, context: Context) -> None:
    need("qemu-img")
    files = {name: made(raw, "vmdk").read_bytes() for name in ("a.vmdk", "b.vmdk")}
    files |= {"x.ovf": ovf("b.vmdk")}
    data = tar({**files, "x.mf": manifest(files)})
    assert both(tmp_path, packed(tmp_path / "packed", data), data, context) == files["b.vmdk"]


def test_a_small_disk_and_one_that_is_compressed_once_more(raw: Path, tmp_path: Path, context: Context) -> None:
    small = bytes(510) + b"\x55\xaa" + bytes(512)
    data = tar({"a.img": small, "b.img.xz": lzma.compress(raw.read_bytes())})
    source = packed(tmp_path / "packed", data)
    assert both(tmp_path, source, data, context, "a.*") == small
    (tmp_path / "one").unlink()
    (tmp_path / "two").unlink()
    assert both(tmp_path, source, data, context, "*.xz") == raw.read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        tar({"a.img": b"1", "b.img": b"2"}),
        tar({"disk.raw": bytes(3 * MiB)})[:-12_000],
        zipped({"disk.raw": bytes(100)}),
        b"no archive" * 100,
        tar({"../disk.raw": bytes(2 * MiB)}),
        tar({f"{number}.img": bytes(2 * MiB) for number in range(5)}),
        tar({str(number): b"" for number in range(1001)}),
    ],
    ids=["several", "cut", "zip", "text", "outside", "many disks", "many files"],
)
def test_what_takes_more_than_one_pass_is_left_alone(data: bytes, tmp_path: Path, context: Context) -> None:
    source = packed(tmp_path / "packed", data)
    assert streamed.take(source, tmp_path / "out", context) is None
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_what_follows_an_archive_is_bounded(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros behind the end of an archive are no part of it, and cost as much as any content."""
    seen = 0

    def counted(*arguments: Any, **options: Any) -> Generator[bytes]:
        nonlocal seen
        for chunk in content(*arguments, **options):
            seen += len(chunk)
            yield chunk

    content = compression.content
    monkeypatch.setattr(compression, "content", counted)
    monkeypatch.setattr(streamed, "content_limit", lambda stored, most: 3 * MiB)
    source = packed(tmp_path / "packed", tar({"disk.raw": bytes(2 * MiB)}) + bytes(60 * MiB))
    assert streamed.take(source, tmp_path / "out", context) is None
    assert seen < 12 * MiB
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_damage_at_the_end_of_the_wrapper(tmp_path: Path, context: Context) -> None:
    """The disk is whole by then: nothing is made of it all the same."""
    whole = gzip.compress(tar({"disk.raw": bytes(2 * MiB)}))
    for data in (whole[:-8] + bytes(8), whole + b"garbage", whole[:-1]):
        (tmp_path / "packed").write_bytes(data)
        assert streamed.take(tmp_path / "packed", tmp_path / "out", context) is None
        assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_what_is_not_compressed_or_has_no_room_for_drafts(tmp_path: Path, context: Context) -> None:
    (tmp_path / "a.tar").write_bytes(tar({"disk.raw": bytes(2 * MiB)}))
    assert streamed.take(tmp_path / "a.tar", tmp_path / "out", context) is None
    source = packed(tmp_path / "packed", tar({"disk.raw": bytes(2 * MiB)}))
    assert streamed.take(source, tmp_path / "out", context._replace(scratch=None)) is None
