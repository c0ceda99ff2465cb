from __future__ import annotations

import time

import pytest

from recipes.formats.disk.ahead import encoded

CHUNKS = [(at, at + 1) for at in range(40)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_order(jobs: int) -> None:
    def encode(start: int, stop: int) -> tuple[int, int]:
        time.sleep(0.001 * (start % 3))
        return start, stop

    assert list(encoded(encode, CHUNKS, jobs)) == CHUNKS


def test_an_error_is_raised_in_its_turn() -> None:
    def encode(start: int, _: int) -> int:
        return 12 // (start - 3)

    found = encoded(encode, CHUNKS, 2)
    assert [next(found) for _ in range(3)] == [-4, -6, -12]
    with pytest.raises(ZeroDivisionError):
        next(found)
