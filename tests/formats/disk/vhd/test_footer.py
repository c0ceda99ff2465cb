from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.disk.file import ImageFile
from recipes.formats.disk.vhd.footer import (
    DYNAMIC,
    FIXED,
    FOOTER,
    HEADER,
    Footer,
    Header,
    checksum,
    claimed_size,
    read_footer,
    read_header,
)

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1 << 20
BLOCK = 1 << 16


class File(ImageFile):
    title = "VHD"


def footer(size: int = SIZE, kind: int = FIXED, *, version: int = 0x10000, wrong: int = 0) -> bytes:
    """Return a footer whose checksum is off by `wrong`."""
    data = FOOTER.pack(b"conectix", 2, version, 512, 0, b"", 0, b"", 77, size, 0, 0, 0, kind, 0).ljust(512, b"\0")
    return data[:64] + ((checksum(data, slice(64, 68)) + wrong) & 0xFFFFFFFF).to_bytes(4, "big") + data[68:]


def header(
    *,
    cookie: bytes = b"cxsparse",
    table: int = 1536,
    version: int = 0x10000,
    entries: int = 16,
    block: int = BLOCK,
    wrong: int = 0,
) -> bytes:
    data = HEADER.pack(cookie, 0, table, version, entries, block, 0).ljust(1024, b"\0")
    return data[:36] + (checksum(data, slice(36, 40)) + wrong).to_bytes(4, "big") + data[40:]


def found(path: Path, image: bytes) -> tuple[Footer, int]:
    path.write_bytes(image)
    with path.open("rb") as file:
        return read_footer(File(file.fileno(), path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk.vhd"


class TestFooters:
    def test_at_the_end(self, path: Path) -> None:
        assert found(path, bytes(SIZE) + footer()) == (Footer(512, SIZE, FIXED), SIZE)

    def test_without_its_last_byte(self, path: Path) -> None:
        assert found(path, bytes(SIZE) + footer()[:511]) == (Footer(512, SIZE, FIXED), SIZE)

    def test_with_a_copy_in_front(self, path: Path) -> None:
        both = footer(kind=DYNAMIC) + bytes(5000) + footer(kind=DYNAMIC)
        assert found(path, both) == (Footer(512, SIZE, DYNAMIC), 5512)

    @pytest.mark.parametrize("end", [b"x" * 512, footer(kind=DYNAMIC, wrong=1)])
    def test_either_will_do(self, path: Path, end: bytes) -> None:
        assert found(path, footer(kind=DYNAMIC) + bytes(5000) + end)[0] == Footer(512, SIZE, DYNAMIC)
        assert found(path, end + bytes(5000) + footer(kind=DYNAMIC))[0] == Footer(512, SIZE, DYNAMIC)

    def test_that_contradict(self, path: Path) -> None:
        with pytest.raises(CorruptImage, match="the footer and its copy contradict"):
            found(path, footer(SIZE, DYNAMIC) + footer(2 * SIZE, DYNAMIC))

    def test_a_fixed_disk_ends_with_it(self, path: Path) -> None:
        with pytest.raises(CorruptImage, match="truncated VHD image: a fixed disk with its footer"):
            found(path, footer() + bytes(SIZE))

    @pytest.mark.parametrize("image", [b"", b"x" * 100, bytes(5000)])
    def test_none(self, path: Path, image: bytes) -> None:
        with pytest.raises(CorruptImage, match="truncated VHD image: the footer"):
            found(path, image)

    def test_a_checksum(self, path: Path) -> None:
        with pytest.raises(CorruptImage, match="the footer at byte 1048576 has the checksum"):
            found(path, bytes(SIZE) + footer(wrong=1))

    @pytest.mark.parametrize(
        ("kind", "size", "match"), [(0, SIZE, "found 0"), (5, SIZE, "found 5"), (2, 513, "513 bytes")]
    )
    def test_what_contradicts_the_format(self, path: Path, kind: int, size: int, match: str) -> None:
        with pytest.raises(CorruptImage, match=match):
            found(path, footer(size, kind))

    @pytest.mark.parametrize(
        ("more", "match"), [({"kind": 4}, "a parent .a differencing disk"), ({"version": 0x20003}, "version 2.3")]
    )
    def test_what_is_refused_by_its_name(self, path: Path, more: dict[str, Any], match: str) -> None:
        with pytest.raises(UnsupportedFeature, match=match):
            found(path, bytes(SIZE) + footer(**more))


class TestHeaders:
    def read(self, path: Path, head: bytes, size: int = SIZE) -> Header:
        path.write_bytes(footer(size, DYNAMIC) + head + bytes(1024))
        with path.open("rb") as file:
            return read_header(File(file.fileno(), path), Footer(512, size, DYNAMIC))

    def test_what_it_says(self, path: Path) -> None:
        assert self.read(path, header(entries=20)) == Header(1536, 20, BLOCK)

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"cookie": b"cxsparsf"}, "expected b'cxsparse' at byte 512"),
            ({"wrong": 1}, "the header has the checksum"),
            ({"block": 0}, "a power of two, found 0"),
            ({"block": 3 << 20}, "a power of two, found 3145728"),
            ({"entries": 15}, "a block allocation table of 16 entries or more, found 15"),
            ({"table": 1 << 50}, "the block allocation table ends at byte"),
            ({"table": 2560 - 63}, "the block allocation table ends at byte 2561"),
        ],
    )
    def test_what_contradicts_the_format(self, path: Path, fields: dict[str, Any], match: str) -> None:
        with pytest.raises(CorruptImage, match=match):
            self.read(path, header(**fields))

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"version": 0x20000}, "a header of version 2.0"),
            ({"block": 512}, "blocks of 512"),
            ({"block": 1 << 31}, "blocks of"),
        ],
    )
    def test_what_is_refused_by_its_name(self, path: Path, fields: dict[str, Any], match: str) -> None:
        with pytest.raises(UnsupportedFeature, match=match):
            self.read(path, header(**fields))

    def test_one_that_is_not_all_there(self, path: Path) -> None:
        path.write_bytes(footer(SIZE, DYNAMIC) + header()[:1000])
        with path.open("rb") as file, pytest.raises(CorruptImage, match="truncated VHD image: the header"):
            read_header(File(file.fileno(), path), Footer(512, SIZE, DYNAMIC))


class TestClaims:
    def of(self, data: bytes, size: int | None) -> int | None:
        return claimed_size(lambda at, count: data[at : at + count], size)

    def test_from_the_front_or_the_end(self) -> None:
        assert self.of(footer(kind=DYNAMIC), None) == SIZE
        fixed = bytes(4096) + footer(4096)
        assert self.of(fixed, len(fixed)) == 4096
        assert self.of(fixed[:-1], len(fixed) - 1) == 4096

    def test_from_nothing(self) -> None:
        fixed = bytes(4096) + footer(4096)
        assert self.of(fixed, None) is None
        assert self.of(fixed[:-2], len(fixed) - 2) is None
        assert self.of(footer(wrong=1), 512) is None
        assert self.of(b"", 0) is None


def test_the_sum_leaves_its_own_field_out() -> None:
    data = struct.pack(">4I", 1, 2, 3, 4)
    assert checksum(data, slice(4, 8)) == 0xFFFFFFFF - 8
