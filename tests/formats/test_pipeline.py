"""Threads that hand chunks on in order."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from recipes.formats.pipeline import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longer than any of this takes, so that what hangs fails.
SECONDS = 20


def _chunks(name: int, count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"%d.%d" % (name, number)


def test_the_chunks_of_all_tasks_come_in_order() -> None:
    counts = [3, 0, 7, 1, 0, 5, 2, 4, 9]
    expected = [chunk for name, count in enumerate(counts) for chunk in _chunks(name, count)]
    for workers in (1, 2, 3, 8):
        for room in (1, 10, 1000):
            tasks = (_chunks(name, count) for name, count in enumerate(counts))
            assert list(in_order(tasks, workers=workers, room=room)) == expected


def test_no_more_is_held_than_the_room_and_a_chunk_for_each_worker() -> None:
    made = threading.Semaphore(0)
    count = 0

    def task() -> Iterator[bytes]:
        nonlocal count
        for _ in range(100):
            count += 1
            made.release()
            yield bytes(10)

    with closing(in_order((task() for _ in range(9)), workers=3, room=200)) as chunks:
        next(chunks)
        # 20 fill the room, and each thread has one that it waits with; the one that was taken made room for one.
        for _ in range(1 + 20 + 3):
            assert made.acquire(timeout=SECONDS)
        assert not made.acquire(timeout=0.2)
    assert count == 24


def test_a_task_whose_turn_comes_goes_on_though_others_have_filled_the_room() -> None:
    filled = threading.Event()

    def slow() -> Iterator[bytes]:
        assert filled.wait(SECONDS)
        yield from _chunks(1, 5)

    def greedy() -> Iterator[bytes]:
        yield bytes(100)
        filled.set()

    def first() -> Iterator[bytes]:
        yield b"first"
        assert filled.wait(SECONDS)

    found: list[bytes] = []
    tasks = iter([first(), slow(), greedy()])
    reader = threading.Thread(target=lambda: found.extend(in_order(tasks, workers=3, room=50)), daemon=True)
    reader.start()
    reader.join(SECONDS)
    assert found == [b"first", *_chunks(1, 5), bytes(100)]


def test_an_error_comes_where_the_task_ended() -> None:
    def bad() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the rest")

    found: list[bytes] = []
    with pytest.raises(ValueError, match="the rest"):
        found.extend(in_order(iter([_chunks(0, 2), bad(), _chunks(2, 2)]), workers=2, room=10))
    assert found == [b"0.0", b"0.1", b"half"]


def test_whoever_stops_reading_ends_the_threads() -> None:
    before = threading.active_count()
    with closing(in_order((_chunks(name, 1000) for name in range(100)), workers=4, room=10)) as chunks:
        assert next(chunks) == b"0.0"
        assert threading.active_count() > before
    assert threading.active_count() == before
