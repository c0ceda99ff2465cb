from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.disk.file import ImageFile
from recipes.formats.disk.vdi.header import HEADER, claimed_size, read_header

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20


class _File(ImageFile):
    title = "VDI"


def test_the_header_is_as_long_as_virtualboxes() -> None:
    assert HEADER.size == 456


def test_what_a_header_says(tmp_path: Path) -> None:
    path = tmp_path / "vdi"
    fields = (b"", 0xBEDA107F, 0x10001, 0x190, 1, 0, b"", 512, 1024, 0, 0, 0, 512, 0, 700, MiB, 0, 1, 0)
    path.write_bytes(HEADER.pack(*fields, *[bytes(16)] * 4).ljust(1024, b"\0"))
    with path.open("rb") as file:
        found = read_header(_File(file.fileno(), path))
    assert (found.map_offset, found.data_offset, found.size, found.blocks) == (512, 1024, 1024, 1)


def test_another_magic(tmp_path: Path) -> None:
    path = tmp_path / "vdi"
    path.write_bytes(bytes(1024))
    with path.open("rb") as file, pytest.raises(CorruptImage, match="magic"):
        read_header(_File(file.fileno(), path))


@pytest.mark.parametrize(("size", "claimed"), [(0, 0), (1, 512), (512, 512), (1 << 40, 1 << 40)])
def test_the_size_is_claimed_in_whole_sectors(size: int, claimed: int) -> None:
    data = bytes(368) + struct.pack("<Q", size)
    assert claimed_size(lambda at, count: data[at : at + count], None) == claimed


def test_a_beginning_claims_nothing() -> None:
    assert claimed_size(lambda at, count: b"", None) is None
