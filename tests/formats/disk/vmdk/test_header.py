from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.disk.file import ImageFile
from recipes.formats.disk.vmdk.header import claimed_size, read_header
from recipes.formats.disk.vmdk.layout import AT_END, HEADER, MARKER

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
TEXT = b'parentCID=ffffffff\ncreateType="streamOptimized"\nRW 8 SPARSE "a"\n'


class _File(ImageFile):
    title = "VMDK"


def _header(directory: int, capacity: int = 128) -> bytes:
    fields = (b"KDMV", 3, 0x30001, capacity, 128, 1, 1, 512, 0, directory, 128, 0, b"\n \r\n", 1)
    return HEADER.pack(*fields).ljust(SECTOR, b"\0")


def _read(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    with path.open("rb") as file:
        return read_header(_File(file.fileno(), path)).directory


def test_the_directory_is_where_the_header_says(tmp_path: Path) -> None:
    assert _read(tmp_path / "vmdk", _header(7) + TEXT.ljust(SECTOR, b"\0")) == 7 * SECTOR


@pytest.mark.parametrize("padding", [0, 100, SECTOR, 1 << 19])
def test_or_the_footer(padding: int, tmp_path: Path) -> None:
    front = _header(AT_END) + TEXT.ljust(SECTOR, b"\0")
    end = MARKER.pack(1, 0, 3).ljust(SECTOR, b"\0") + _header(9) + bytes(SECTOR)
    assert _read(tmp_path / "vmdk", front + end + bytes(padding)) == 9 * SECTOR


def test_what_looks_like_a_footer_is_none_without_its_marker(tmp_path: Path) -> None:
    front = _header(AT_END) + TEXT.ljust(SECTOR, b"\0")
    with pytest.raises(CorruptImage, match="footer"):
        _read(tmp_path / "vmdk", front + bytes(SECTOR) + _header(9) + bytes(SECTOR))


def test_the_size_that_is_claimed() -> None:
    data = _header(7, 1000)
    assert claimed_size(lambda at, count: data[at : at + count], None) == 1000 * SECTOR
    assert claimed_size(lambda at, count: data[at : at + count][:50], None) is None
    assert claimed_size(lambda at, count: b"x" * count, None) is None
