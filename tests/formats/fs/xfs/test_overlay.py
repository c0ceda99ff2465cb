"""The disk as the log leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.fs.xfs import overlay
from recipes.formats.fs.xfs.layout import SECTOR
from recipes.formats.fs.xfs.overlay import Replayed
from recipes.formats.fs.xfs.volume import BmapIntent
from recipes.formats.io.source import BytesSource
from tests.kit.xfs_images import (
    Writer,
    facts,
    transaction,
)
from tests.kit.xfs_logs import buffer

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_log_may_take(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Writer(logged).record(transaction(buffer(8000, 8, {0: b"x" * 128, 9: b"y" * 128})))
    facts(logged)
    monkeypatch.setattr(overlay, "MAX_REPLAYED", 512)
    with pytest.raises(LimitExceeded, match="the log changes more than"):
        facts(logged)


BELOW = b"".join(bytes([number]) * SECTOR for number in range(8))


def disk() -> Replayed:
    return Replayed(BytesSource(BELOW, "disk"))


@pytest.mark.parametrize("offset", [0, 1, SECTOR - 1, SECTOR, 3 * SECTOR - 5])
@pytest.mark.parametrize("length", [1, SECTOR, SECTOR + 2, 3 * SECTOR])
def test_what_is_written_is_read_and_all_else_is_the_source(offset: int, length: int) -> None:
    changed = disk()
    changed.write(offset, b"x" * length)
    expected = BELOW[:offset] + b"x" * length + BELOW[offset + length :]
    assert changed.read(0, len(BELOW)) == expected
    for start, count in ((0, 1), (offset, 1), (offset + length - 1, 2), (max(offset - 3, 0), length + 6)):
        assert changed.read(start, count) == expected[start : start + count]


def test_the_later_of_two_writes_counts() -> None:
    changed = disk()
    changed.write(100, b"first" * 10)
    changed.write(110, b"second")
    assert changed.read(100, 20) == b"firstfirstsecondirst"


def test_which_bytes_are_from_the_log_is_known_by_sectors() -> None:
    changed = disk()
    changed.write(2 * SECTOR + 5, b"x")
    assert not changed.is_replayed(0, 2 * SECTOR)
    assert changed.is_replayed(2 * SECTOR, 1)
    assert changed.is_replayed(0, 2 * SECTOR + 1)
    assert not changed.is_replayed(3 * SECTOR, SECTOR)


def test_nothing_is_behind_the_end() -> None:
    changed = disk()
    changed.write(len(BELOW) - 1, b"x")
    for offset, length in ((len(BELOW) - 1, 2), (len(BELOW), 1)):
        with pytest.raises(CorruptImage, match="truncated"):
            changed.read(offset, length)
    with pytest.raises(CorruptImage, match="truncated"):
        changed.write(len(BELOW), b"x")


def test_what_is_changed_again_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "MAX_REPLAYED", 2 * SECTOR)
    changed = disk()
    for _ in range(5):
        changed.write(0, b"x" * 2 * SECTOR)
    with pytest.raises(LimitExceeded, match="mount the disk once"):
        changed.write(2 * SECTOR, b"x")


def test_what_is_left_to_be_done() -> None:
    changed = disk()
    assert list(changed.intents(5)) == []
    assert not changed.is_adopted(5)
    intent = BmapIntent(attributes=False, unmap=True, at=0, length=1, block=2, unwritten=False)
    changed.pending[5] = [intent]
    changed.adopted.add(5)
    assert list(changed.intents(5)) == [intent]
    assert changed.is_adopted(5)
