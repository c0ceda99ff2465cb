from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.fiemap import common, merged, places

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ([], [(0, 9)], []),
        ([(0, 9)], [(9, 12)], []),
        ([(0, 9)], [(0, 9)], [(0, 9)]),
        ([(0, 9), (20, 30)], [(5, 25)], [(5, 9), (20, 25)]),
        ([(0, 100)], [(1, 2), (3, 4), (99, 120)], [(1, 2), (3, 4), (99, 100)]),
    ],
)
def test_what_two_have_in_common(
    one: list[tuple[int, int]], other: list[tuple[int, int]], both: list[tuple[int, int]]
) -> None:
    assert common(one, other) == both
    assert common(other, one) == both


def test_runs_are_merged() -> None:
    assert merged([]) == []
    assert merged([(5, 7), (0, 2), (1, 3), (3, 4), (5, 6)]) == [(0, 4), (5, 7)]


@pytest.mark.skipif(sys.platform != "linux", reason="FIEMAP is Linux's")
class TestPlaces:
    def synced(self, path: Path, data: bytes, size: int = 0) -> Path:
        with path.open("wb") as file:
            file.write(data)
            file.truncate(max(size, len(data)))
            os.fsync(file.fileno())
        return path

    def told(self, path: Path) -> list[tuple[int, int]]:
        found = places(path)
        if found is None:
            pytest.skip("this file system has no FIEMAP")
        return found

    def test_of_a_file_and_its_copy(self, tmp_path: Path) -> None:
        first = self.told(self.synced(tmp_path / "first", os.urandom(1 << 20), 1 << 30))
        second = self.told(self.synced(tmp_path / "second", os.urandom(1 << 20)))
        assert sum(stop - start for start, stop in first) == 1 << 20
        assert common(first, second) == []
        assert common(first, first) == first

    def test_of_more_extents_than_are_asked_for_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "holes"
        with path.open("wb") as file:
            for number in range(1200):
                os.pwrite(file.fileno(), b"x" * 4096, number * 3 * 65536)
            os.fsync(file.fileno())
        assert sum(stop - start for start, stop in self.told(path)) >= 1200 * 4096

    def test_of_nothing(self, tmp_path: Path) -> None:
        assert self.told(self.synced(tmp_path / "empty", b"")) == []
        assert self.told(self.synced(tmp_path / "hole", b"", 1 << 20)) == []

    def test_where_it_is_not_told(self) -> None:
        from pathlib import Path

        assert places(Path("/proc/self/status")) is None
