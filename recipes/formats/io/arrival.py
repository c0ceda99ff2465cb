"""A file that grows while others read it: what has come of a download, to be decoded before the rest is there."""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Seconds that `Growing.arrived` waits for more.
_MOMENT = 0.05


class Gone(Exception):
    """What was read is not what arrives any more: it began anew, or nothing follows."""


class Arrival:
    """The file at `path` as somebody writes it from its beginning; one writer, and readers on other threads.

    The writer says when it begins (again), how far it is, and how it ends. Bytes that it has passed and that the file
    does not have are zeros, as `SparseFile` leaves them out.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self._path = path
        #: Bytes of the whole, where they are known beforehand.
        self._declared = size
        self._changed = Condition()
        #: Which beginning this is: 0 before the first.
        self._turn = 0
        self._position = 0
        self._size: int | None = None
        self._ended = False
        self._failed = False

    def begin(self, size: int | None) -> None:
        """Begin, or begin again, with a file of `size` bytes; its `path` is there."""
        with self._changed:
            self._turn += 1
            self._position = 0
            self._size = self._declared if size is None else size
            self._changed.notify_all()

    def reach(self, position: int) -> None:
        """Say that the first `position` bytes are there."""
        with self._changed:
            self._position = position
            self._changed.notify_all()

    def end(self) -> None:
        """Say that all is there and right."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def fail(self) -> None:
        """Say that nothing follows any more; nothing happens after the `end`."""
        with self._changed:
            self._failed = not self._ended
            self._changed.notify_all()

    def ended(self, turn: int) -> bool:
        """Wait until `turn` has ended; say whether it was right. False: another began, or none will."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._failed or self._turn != turn)
            return self._ended and self._turn == turn

    @contextmanager
    def follow(self, after: int) -> Iterator[Growing | None]:
        """Wait for a later beginning than `after` whose size is known, and yield it; None where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._ended or (self._turn > after and self._size))
            size = self._size if self._turn > after and not self._failed else None
            turn = self._turn
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC) if size else None
        except FileNotFoundError:
            # It was cleared meanwhile; whoever asks again gets the next one.
            fd = None
            size = None if self._failed else size
        if size is None:
            yield None
            return
        try:
            yield Growing(turn, size, fd, self._wait)
        finally:
            if fd is not None:
                os.close(fd)

    def _wait(self, turn: int, stop: int, seconds: float | None) -> bool:
        """Wait until `turn` has come as far as `stop`, for so long at the most; say whether it has. `Gone`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._failed or self._turn != turn or self._position >= stop, timeout=seconds
            )
            if self._failed or self._turn != turn:
                raise Gone
            return self._position >= stop


class Growing:
    """One beginning of an `Arrival`, of `size` bytes; methods raise `Gone` once it is over."""

    def __init__(self, turn: int, size: int, fd: int | None, wait: Callable[[int, int, float | None], bool]) -> None:
        self.turn = turn
        self.size = size
        self._fd = fd
        self._wait = wait

    def pread(self, offset: int, count: int) -> bytes:
        """Return `count` bytes at `offset`, fewer at the end of the file, once they are there."""
        if self._fd is None:
            raise Gone
        count = max(0, min(count, self.size - offset))
        self._wait(self.turn, offset + count, None)
        # What the file lacks are zeros.
        return os.pread(self._fd, count, offset).ljust(count, b"\0")

    def arrived(self, stop: int) -> bool:
        """Wait a moment for the first `stop` bytes; say whether they are there."""
        return self._wait(self.turn, min(stop, self.size), _MOMENT)
