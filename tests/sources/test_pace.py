from __future__ import annotations

import io

import pytest

from recipes.sources import pace
from recipes.sources.pace import MAX_OVERHEAD, _Watched
from recipes.sources.retry import SLOWEST


class Clock:
    """Time that passes while a source is read, and only then."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Source(io.RawIOBase):
    """So many bytes at a time, after so many seconds each."""

    def __init__(self, clock: Clock, size: int, seconds: float) -> None:
        self.clock, self.size, self.seconds = clock, size, seconds
        self.shut = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self.clock.now += self.seconds
        count = min(self.size, len(buffer))
        buffer[:count] = b"x" * count
        return count

    def close(self) -> None:
        self.shut = True
        super().close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def reads(watched: _Watched, count: int) -> None:
    for _ in range(count):
        watched.readinto(bytearray(1 << 20))
        watched.unheard = 0


def test_slow_enough_is_too_slow(clock: Clock) -> None:
    watched = _Watched(Source(clock, SLOWEST - 1, 1.0), 10.0)
    reads(watched, 9)
    with pytest.raises(OSError, match=f"fewer than {SLOWEST} bytes/s for 10 s"):
        reads(watched, 1)


def test_a_little_more_is_not(clock: Clock) -> None:
    reads(_Watched(Source(clock, SLOWEST, 1.0), 10.0), 1000)


def test_each_window_counts_by_itself(clock: Clock) -> None:
    source = Source(clock, 100 * SLOWEST, 1.0)
    watched = _Watched(source, 10.0)
    reads(watched, 10)
    source.size = 1
    reads(watched, 9)
    with pytest.raises(OSError, match="fewer than"):
        reads(watched, 1)


def test_our_own_time_does_not_count(clock: Clock) -> None:
    watched = _Watched(Source(clock, 1, 0.0), 10.0)
    for _ in range(100):
        clock.now += 60
        reads(watched, 1)


def test_without_a_window_there_is_no_hurry(clock: Clock) -> None:
    reads(_Watched(Source(clock, 1, 100.0), None), 100)


def test_what_nobody_gets_has_an_end(clock: Clock) -> None:
    watched = _Watched(Source(clock, 1 << 16, 0.0), 10.0)
    for _ in range(MAX_OVERHEAD >> 16):
        watched.readinto(bytearray(1 << 20))
    with pytest.raises(OSError, match=f"more than {MAX_OVERHEAD} bytes of headers"):
        watched.readinto(bytearray(1 << 20))


def test_the_source_is_closed_with_it(clock: Clock) -> None:
    source = Source(clock, 1, 0.0)
    _Watched(source, None).close()
    assert source.shut
