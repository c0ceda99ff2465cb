"""Signals, in processes of their own: heard whatever goes on, told once, and the end in any case."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.interruption import STATUS, heard

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = """
import os, signal, sys, threading, time
from recipes import interruption
from recipes.interruption import heard
stop = threading.Event()
"""

#: Work that looks at what meters look at.
POLITE = """
with heard(stop.set) as heard_:
    try:
        print("ready", flush=True)
        while not stop.wait(30):
            pass
        time.sleep(30)
    except KeyboardInterrupt:
        print("cleaned up", flush=True)
        heard_.bid_farewell()
        heard_.bid_farewell()
        sys.exit(interruption.STATUS)
"""

#: Work that never hears of it: the handler in the main thread waits for C code to come back.
DEAF = """
with heard(stop.set, farewell="gone"):
    try:
        print("ready", flush=True)
        while True:
            time.sleep(30)
    except KeyboardInterrupt:
        threading.Event().wait(60)
"""


def run(code: str, *signals: int, before: str = "") -> tuple[int, str, str]:
    """Run `code`, send it `signals` once it is ready; return its status, and what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", before + _HEAD + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in signals:
            process.send_signal(number)
            if len(signals) > 1:
                _wait_for(process, "stopping")
        out, err = process.communicate(timeout=30)
    return process.returncode, out, "".join(_told.pop(process.pid, [])) + err


_told: dict[int, list[str]] = {}


def _wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Wait until the process has said that it stops: the next signal is a second one then."""
    assert process.stderr is not None
    said = _told.setdefault(process.pid, [])
    while word not in "".join(said) and select.select([process.stderr], [], [], 20)[0]:
        piece = os.read(process.stderr.fileno(), 4096).decode()
        if not piece:
            return
        said.append(piece)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_cleans_up_and_it_is_told_once(number: int) -> None:
    status, out, err = run(POLITE, number)
    assert (status, out) == (STATUS, "cleaned up\n")
    assert err.count("larder: interrupted\n") == 1


def test_work_that_does_not_hear_ends_with_the_process() -> None:
    status, _, err = run(DEAF, signal.SIGTERM)
    assert status == STATUS
    assert err.splitlines() == ["larder: stopping; once more ends it at once", "larder: gone"]


def test_a_second_signal_ends_it_at_once() -> None:
    patient = "interruption.GRACE = 60\n" + DEAF
    status, _, err = run(patient, signal.SIGINT, signal.SIGINT)
    assert status == STATUS
    assert err.splitlines()[-1] == "larder: gone"


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As after nohup."""
    ignored = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    again = POLITE.replace("    try:\n", "    os.kill(os.getpid(), signal.SIGINT)\n    try:\n", 1)
    status, out, _ = run(again, signal.SIGTERM, before=ignored)
    assert (status, out) == (STATUS, "cleaned up\n")


def handlers(numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> list[object]:
    return [signal.getsignal(number) for number in numbers]


def test_without_a_signal_all_is_as_it_was() -> None:
    before = handlers()
    folder = Path("/proc/self/fd")
    descriptors = len(list(folder.iterdir())) if folder.is_dir() else 0
    for _ in range(3):
        with heard(lambda: None) as found:
            assert handlers() != before
            assert not found.came
    assert handlers() == before
    if descriptors:
        assert len(list(folder.iterdir())) == descriptors


def test_an_error_of_the_body_passes() -> None:
    before = handlers()
    with pytest.raises(ValueError, match="body"), heard(lambda: None):
        raise ValueError("body")
    assert handlers() == before


def test_outside_of_the_main_thread_nothing_is_heard() -> None:
    found: list[object] = []

    def work() -> None:
        with heard(lambda: None):
            found.extend(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == handlers()


def test_handlers_of_a_program_around_it_stay() -> None:
    def theirs(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        with heard(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)
