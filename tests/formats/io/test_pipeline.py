"""Threads that hand chunks on in order."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.pipeline import Stage, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


# A stage.


def _feed(consume: Callable[[Iterator[bytes]], object], chunks: int) -> list[object]:
    """Put chunks into a stage; return what came of each `put`, and of `finish`: None, a result or an error."""
    found: list[object] = []

    def feed() -> None:
        with Stage(consume, room=2) as stage:
            for number in range(chunks):
                try:
                    stage.put(b"%d" % number)
                    found.append(None)
                except ValueError as error:
                    found.append(error)
            try:
                found.append(stage.finish())
            except ValueError as error:
                found.append(error)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    feeder.join(SECONDS)
    assert not feeder.is_alive(), "put waits for ever"
    return found


def test_a_stage_is_given_every_chunk_in_order() -> None:
    assert _feed(b",".join, 12)[-1] == b"0,1,2,3,4,5,6,7,8,9,10,11"


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_a_stage_that_returns_early_drops_what_is_put_later(wanted: int) -> None:
    def some(chunks: Iterator[bytes]) -> list[bytes]:
        return [next(chunks) for _ in range(wanted)]

    assert _feed(some, 50) == [None] * 50 + [[b"0", b"1", b"2"][:wanted]]


def test_a_stage_that_closes_its_chunks_drops_what_is_put_later() -> None:
    def some(chunks: Iterator[bytes]) -> bytes:
        for chunk in chunks:
            return chunk
        return b""

    assert _feed(some, 50)[-1] == b"0"


def test_a_stage_that_fails_says_so_at_every_put() -> None:
    failure = ValueError("no more")

    def fail(chunks: Iterator[bytes]) -> None:
        next(chunks)
        raise failure

    found = _feed(fail, 50)
    # As many as fit go before it, and then there is nothing but the error.
    assert set(found[:2]) <= {None, failure}
    assert found[4:] == [failure] * 47


def test_a_stage_that_is_left_ends_at_its_next_chunk() -> None:
    ended = threading.Event()

    def consume(chunks: Iterator[bytes]) -> None:
        try:
            for _ in chunks:
                pass
        finally:
            ended.set()

    with Stage(consume) as stage:
        stage.put(b"one")
    assert ended.is_set()
