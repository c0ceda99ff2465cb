from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.disk.file import ImageFile
from recipes.formats.disk.vhdx.log import replayed
from tests.kit.vhdx_images import GUID, log_entry

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
PLACE = 8 * MiB


class _File(ImageFile):
    title = "VHDX"


def _replayed(path: Path, log: bytes, length: int = MiB, offset: int = 0) -> dict[int, bytes]:
    path.write_bytes(log.ljust(MiB, b"\0"))
    with path.open("rb") as file:
        return replayed(_File(file.fileno(), path), offset, length, GUID)


def page(number: int) -> bytes:
    return bytes([number]) * 4096


def test_the_bytes_of_a_page_come_together_again(tmp_path: Path) -> None:
    """Its first 8 and last 4 are in the descriptor."""
    data = bytes(range(256)) * 16
    assert _replayed(tmp_path / "log", log_entry(1 << 33 | 5, {PLACE: data})) == {PLACE: data}


def test_the_newest_sequence_counts(tmp_path: Path) -> None:
    old = log_entry(3, {PLACE: page(3)})
    new = log_entry(10, {PLACE: page(10)}, tail=len(old))
    assert _replayed(tmp_path / "log", old + new) == {PLACE: page(10)}


def test_what_is_before_the_tail_was_written_already(tmp_path: Path) -> None:
    one = log_entry(3, {PLACE: page(3)})
    two = log_entry(4, {PLACE + 4096: page(4)}, tail=len(one))
    assert _replayed(tmp_path / "log", one + two) == {PLACE + 4096: page(4)}


def test_later_entries_count_above_earlier_ones(tmp_path: Path) -> None:
    one = log_entry(3, {PLACE: page(3), PLACE + 4096: page(4)})
    two = log_entry(4, {PLACE: page(5)}, zeros={PLACE + 8192: 8192})
    assert _replayed(tmp_path / "log", one + two) == {
        PLACE: page(5),
        PLACE + 4096: page(4),
        PLACE + 8192: bytes(4096),
        PLACE + 12288: bytes(4096),
    }


def test_an_entry_of_many_pages(tmp_path: Path) -> None:
    """More descriptors than its first sector has room for."""
    pages = {PLACE + 4096 * index: page(index % 256) for index in range(140)}
    assert _replayed(tmp_path / "log", log_entry(1, pages)) == pages


@pytest.mark.parametrize(("length", "offset"), [(0, 0), (MiB + 4096, 0), (MiB, 4096)])
def test_a_log_that_cannot_be(length: int, offset: int, tmp_path: Path) -> None:
    with pytest.raises(CorruptImage, match="whole MiB"):
        _replayed(tmp_path / "log", b"", length, offset)


def test_one_that_is_larger_than_any(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature, match="a log of"):
        _replayed(tmp_path / "log", b"", 128 * MiB)


def test_entries_that_all_claim_the_whole_log(tmp_path: Path) -> None:
    """To sum them all up would cost the square of its size."""
    sector = bytearray(log_entry(1, {})[:4096])
    sector[8:12] = MiB.to_bytes(4, "little")
    with pytest.raises(CorruptImage, match="overlap"):
        _replayed(tmp_path / "log", bytes(sector) * 256)
