from __future__ import annotations

import io
import os
import threading

import pytest
from rich.console import Console

from recipes import console
from recipes.errors import Interrupted
from recipes.progress import SILENCE


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def test_lines_are_few(stop: threading.Event, clock: Clock) -> None:
    stream = io.StringIO()
    with console.console(stream, stop).meter("fetch:a", 100 << 20) as meter:
        for _ in range(61):
            clock.now += 1
            meter.advance(1 << 20)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "   fetch:a: 2 % of 100.0 MiB, 1 min 38 s left, 1.0 MiB/s"
    assert len(lines) == 2


def test_lines_without_a_total(stop: threading.Event, clock: Clock) -> None:
    stream = io.StringIO()
    with console.console(stream, stop).meter("fetch:a") as meter:
        clock.now += 4
        meter.advance(4096)
    assert stream.getvalue() == "   fetch:a: 4.0 KiB, 1.0 KiB/s\n"


def test_quick_work_says_nothing(stop: threading.Event) -> None:
    stream = io.StringIO()
    with console.console(stream, stop).meter("fetch:a", 10) as meter:
        meter.advance(10)
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_in_a_terminal(stop: threading.Event) -> None:
    stream = Terminal()
    shown = console.console(stream, stop)
    with shown.meter("fetch:a") as first, shown.meter("raw:b", 10) as second:
        first.expect(20)
        first.advance(5)
        second.advance(10)
        shown.note("[bold]not markup[/bold]")
        shown.write("   raw:x: 1 MiB\n")
    shown.close()
    assert "[bold]not markup[/bold]" in stream.getvalue()
    assert "raw:x: 1 MiB" in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_work_that_is_told_to_stop_stops(stop: threading.Event, stream: io.StringIO) -> None:
    shown = console.console(stream, stop)
    with shown.meter("fetch:a") as meter:
        meter.advance(1)
        stop.set()
        with pytest.raises(Interrupted):
            meter.advance(0)
    shown.close()
    with console.Watch(stop).meter("fetch:a") as meter, pytest.raises(Interrupted):
        meter.advance(0)
    with SILENCE.meter("fetch:a") as meter:
        meter.advance(0)


def test_a_reader_that_left_is_told_no_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        console.tell(stream, "one\n")
        console.tell(stream, "two\n")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", b"\\xdcbung \\u65e5"), ("iso8859-1", b"\xdcbung \\u65e5"), ("utf-8", "Übung 日".encode())],
)
def test_a_stream_takes_what_its_encoding_does_not_have(encoding: str, shown: bytes) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    console.take_any_text(stream)
    stream.write("Übung 日")
    stream.flush()
    assert written.getvalue() == shown


def test_a_file_name_is_written_as_the_bytes_that_it_has() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="utf-8")
    console.take_any_text(stream)
    stream.write(os.fsdecode(b"/srv/\xfcber/raw"))
    stream.flush()
    assert written.getvalue() == b"/srv/\xfcber/raw"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    shown = console.console(Terminal(), stop)
    assert isinstance(shown, console.Bars)
    shown.close()
    monkeypatch.setenv("CI", "true")
    assert isinstance(console.console(Terminal(), stop), console.Lines)
    monkeypatch.delenv("CI")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(console.console(Terminal(), stop), console.Lines)


@pytest.mark.parametrize(
    ("columns", "told"),
    [(40, "25 % of 400.0 MiB"), (60, "25 % of 400.0 MiB"), (80, "25 % of 400.0 MiB"), (200, "25 % of 400.0 MiB")],
)
def test_a_bar_is_one_line(stop: threading.Event, monkeypatch: pytest.MonkeyPatch, columns: int, told: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    stream = Terminal()
    shown = console.console(stream, stop)
    assert isinstance(shown, console.Bars)
    with shown.meter("rootfs:ubuntu-24.04-minimal-with-a-long-name", 400 << 20) as meter:
        meter.advance(100 << 20)
        paper = Console(file=io.StringIO(), width=columns)
        with paper.capture() as capture:
            paper.print(shown._rich.get_renderable())
        lines = capture.get().splitlines()
    shown.close()
    assert len(lines) == 1
    assert len(lines[0]) <= columns
    assert told in lines[0]
    assert lines[0].startswith("rootfs:ubuntu")
