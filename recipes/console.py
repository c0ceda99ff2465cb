"""How progress reaches a person, and how a run that is told to stop reaches the work.

In a terminal one bar per piece of work, several at once (`Bars`); elsewhere a line when the size is known and one every
30 seconds after that, so that a CI log shows life and stays short (`Lines`); or none (`Watch`). Every meter raises
Interrupted once the run is told to stop.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from .errors import Interrupted
from .units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.progress import TaskID

    from .progress import Meter

#: Seconds between two lines about the same work where there is no terminal, and until the first.
LINE_SECONDS = 30.0
FIRST_LINE_SECONDS = 2.0


#: Columns of a terminal below which only the first part of how far work is is told, and from which on all.
_NARROW, _WIDE = 50, 80


class Console(Protocol):
    """Progress on a stream that other text is written to as well."""

    def meter(self, label: str, total: int | None = None) -> AbstractContextManager[Meter]:
        """See `recipes.progress.Progress`."""

    def note(self, message: str) -> None:
        """See `recipes.progress.Progress`."""

    def write(self, text: str) -> None:
        """Write `text`, above the bars where there are any."""

    def close(self) -> None:
        """Stop showing progress."""


def console(stream: TextIO, stop: threading.Event) -> Console:
    """Return what suits `stream`: bars in a terminal that can move its cursor, lines elsewhere and in CI."""
    can_move = stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    return Bars(stream, stop) if can_move else Lines(stream, stop)


def tell(stream: TextIO, text: str) -> None:
    """Write `text` at once. Whoever stopped reading (``| head``) is told no more, and the work goes on."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # What is still buffered would fail again when Python closes the stream.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


#: Name of the error handler that `take_any_text` gives a stream.
_ESCAPE = "larder.escape"


def take_any_text(stream: TextIO) -> None:
    """Let `stream` write what its encoding has no room for: a title with an umlaut in the locale C is no error.

    File names that are not UTF-8 are written as the bytes that they are, so that scripts get the path; every other
    character is escaped as in Python's own standard error.
    """
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error(_ESCAPE, _escape)
        stream.reconfigure(errors=_ESCAPE)


def _escape(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    escaped = bytearray()
    for each in error.object[error.start : error.end]:
        try:
            escaped += each.encode("ascii", "surrogateescape")
        except UnicodeEncodeError:
            escaped += each.encode("ascii", "backslashreplace")
    return bytes(escaped), error.end


class _StoppableMeter:
    """A meter that nobody reads; `advance` raises Interrupted once the run is told to stop."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def advance(self, count: int) -> None:
        """See `recipes.progress.Meter`."""
        if self._stop.is_set():
            raise Interrupted("stopped before it was finished; the same command goes on from here")

    def expect(self, total: int | None) -> None:
        """See `recipes.progress.Meter`."""


class Watch:
    """The progress of a run whose reporter shows none: doit's own, JSON among them.

    Notes go to standard error, which leaves the reporter's output alone: a warning is to be seen in any case.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        """See `recipes.progress.Progress`."""
        yield _StoppableMeter(self._stop)

    def note(self, message: str) -> None:
        """See `recipes.progress.Progress`."""
        tell(sys.stderr, f"larder: {message}\n")


class Lines:
    """Progress as plain lines."""

    def __init__(self, stream: TextIO, stop: threading.Event) -> None:
        self.stop = stop
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write `text` as it is."""
        with self._lock:
            tell(self._stream, text)

    def close(self) -> None:
        """Nothing is open."""

    def note(self, message: str) -> None:
        """See `recipes.progress.Progress`."""
        self.write(f"   {message}\n")

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        """See `recipes.progress.Progress`."""
        yield _LineMeter(self, label, total)


class _LineMeter(_StoppableMeter):
    def __init__(self, lines: Lines, label: str, total: int | None) -> None:
        super().__init__(lines.stop)
        self._lines = lines
        self._label = label
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        # Most work is done before anybody would read about it.
        self._next = self._began + FIRST_LINE_SECONDS
        self._lock = threading.Lock()

    def expect(self, total: int | None) -> None:
        """See `recipes.progress.Meter`."""
        self._total = total

    def advance(self, count: int) -> None:
        """See `recipes.progress.Meter`."""
        super().advance(count)
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + LINE_SECONDS
            self._lines.note(self._line(now - self._began))

    def _line(self, seconds: float) -> str:
        told = how_far(self._done, self._total, self._done / seconds if seconds else 0.0)
        return f"{self._label}: {', '.join(told)}" if told else f"{self._label} …"


def how_far(done: int, total: int | None, rate: float) -> list[str]:
    """Return how far work is, by what matters most: bytes done of those in all, time left, bytes a second.

    Percentages and times are of what is known: a stream of unknown length has neither.

    >>> how_far(1 << 20, 4 << 20, 1 << 20)
    ['25 % of 4.0 MiB', '3.0 s left', '1.0 MiB/s']
    >>> how_far(1 << 20, None, 1 << 20), how_far(0, None, 0)
    (['1.0 MiB', '1.0 MiB/s'], [])
    """
    speed = [f"{format_size(int(rate))}/s"] if rate else []
    if not total:
        return [format_size(done), *speed] if done else []
    left = [f"{format_duration(max(0, total - done) / rate)} left"] if rate else []
    return [f"{min(100, 100 * done // total)} % of {format_size(total)}", *left, *speed]


class Bars:
    """Progress as one bar per piece of work, with rate and time left."""

    def __init__(self, stream: TextIO, stop: threading.Event) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column
        from rich.text import Text

        # Work of the same run begins at the same time, so one width for all; who makes the window smaller meanwhile
        # sees lines that are cut.
        terminal = Console(file=stream, highlight=False, markup=False, emoji=False)
        width = terminal.width

        class HowFar(ProgressColumn):
            """What there is room for, in the units of everything else."""

            def render(self, task: RichTask) -> Text:
                told = how_far(int(task.completed), None if task.total is None else int(task.total), task.speed or 0.0)
                return Text(", ".join(told[: 1 if width < _NARROW else 2 if width < _WIDE else 3]), no_wrap=True)

        # What larder prints is text: `raw:x: 1 MiB` has an emoji of rich's in it, and a path may have [brackets].
        self._stop = stop
        self._rich = RichProgress(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            *([BarColumn(min(40, width // 4))] if width >= _WIDE else []),
            HowFar(table_column=Column(no_wrap=True)),
            console=terminal,
            expand=True,
            transient=True,
        )
        self._rich.start()

    def write(self, text: str) -> None:
        """Write `text` above the bars."""
        self._rich.console.print(text, end="", soft_wrap=True)

    def close(self) -> None:
        """Remove the bars."""
        self._rich.stop()

    def note(self, message: str) -> None:
        """See `recipes.progress.Progress`."""
        self.write(f"   {message}\n")

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        """See `recipes.progress.Progress`."""
        task = self._rich.add_task(label, total=total)
        try:
            yield _BarMeter(self._rich, task, self._stop)
        finally:
            self._rich.remove_task(task)


class _BarMeter(_StoppableMeter):
    def __init__(self, rich: RichProgress, task: TaskID, stop: threading.Event) -> None:
        super().__init__(stop)
        self._rich = rich
        self._task = task

    def expect(self, total: int | None) -> None:
        """See `recipes.progress.Meter`."""
        self._rich.update(self._task, total=total)

    def advance(self, count: int) -> None:
        """See `recipes.progress.Meter`."""
        super().advance(count)
        self._rich.advance(self._task, count)
