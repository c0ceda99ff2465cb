from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.parallel import in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("jobs", [1, 5])
def test_every_item_is_worked_on_once(jobs: int) -> None:
    done: list[int] = []
    in_threads(range(1000), done.extend, jobs=jobs)
    assert sorted(done) == list(range(1000))
    assert threading.active_count() == 1


def test_the_workers_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    def worker(items: Iterator[int]) -> None:
        for _ in items:
            together.wait()

    in_threads(range(3), worker, jobs=3)


def test_an_error_of_a_worker_ends_the_work_of_all() -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    def worker(items: Iterator[int]) -> None:
        for number in items:
            if number == 100:
                raise ValueError("no 100")

    with pytest.raises(ValueError, match="no 100"):
        in_threads(endless(), worker, jobs=4)
    assert threading.active_count() == 1


def test_an_error_of_the_items_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    done: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        in_threads(items(), done.extend, jobs=3)
