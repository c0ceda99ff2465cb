from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.arrival import Arrival, Gone

if TYPE_CHECKING:
    from pathlib import Path


def _later(call: object) -> None:
    assert callable(call)
    timer = threading.Timer(0.05, call)
    timer.start()


def test_bytes_are_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "part"
    arrival = Arrival(path)
    path.write_bytes(b"abc")
    arrival.begin(6)
    arrival.reach(3)
    with arrival.follow(0) as growing:
        assert growing is not None
        assert growing.size == 6
        assert growing.pread(0, 3) == b"abc"
        assert not growing.arrived(4)

        def more() -> None:
            path.write_bytes(b"abcdef")
            arrival.reach(6)

        _later(more)
        assert growing.pread(2, 100) == b"cdef"
        assert growing.arrived(100)
        assert growing.pread(6, 10) == b""


def test_what_the_file_lacks_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"a")
    arrival = Arrival(path)
    arrival.begin(9000)
    arrival.reach(9000)
    with arrival.follow(0) as growing:
        assert growing is not None
        assert growing.pread(0, 9000) == b"a" + bytes(8999)


def test_a_new_beginning_ends_the_reading_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"old")
    arrival = Arrival(path)
    arrival.begin(10)
    with arrival.follow(0) as growing:
        assert growing is not None
        _later(lambda: arrival.begin(3))
        with pytest.raises(Gone):
            growing.pread(0, 10)
        assert not arrival.ended(growing.turn)
    path.write_bytes(b"new")
    arrival.reach(3)
    arrival.end()
    with arrival.follow(1) as growing:
        assert growing is not None
        assert growing.pread(0, 3) == b"new"
        assert arrival.ended(growing.turn)


def test_a_failure_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"old")
    arrival = Arrival(path)
    arrival.begin(10)
    with arrival.follow(0) as growing:
        assert growing is not None
        _later(arrival.fail)
        with pytest.raises(Gone):
            growing.pread(0, 10)
        assert not arrival.ended(growing.turn)
    with arrival.follow(0) as growing:
        assert growing is None


def test_a_failure_after_the_end_is_none(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"all")
    arrival = Arrival(path)
    arrival.begin(3)
    arrival.reach(3)
    arrival.end()
    arrival.fail()
    with arrival.follow(0) as growing:
        assert growing is not None
        assert growing.pread(0, 3) == b"all"


def test_without_a_size_there_is_nothing_to_follow(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"all")
    arrival = Arrival(tmp_path / "part")
    arrival.begin(None)
    arrival.reach(3)
    arrival.end()
    with arrival.follow(0) as growing:
        assert growing is None


def test_a_declared_size_will_do(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"all")
    arrival = Arrival(tmp_path / "part", 3)
    arrival.begin(None)
    arrival.reach(3)
    with arrival.follow(0) as growing:
        assert growing is not None
        assert growing.pread(0, 5) == b"all"


def test_a_file_that_was_taken_away_is_gone(tmp_path: Path) -> None:
    arrival = Arrival(tmp_path / "part")
    arrival.begin(3)
    with arrival.follow(0) as growing:
        assert growing is not None
        with pytest.raises(Gone):
            growing.pread(0, 1)
