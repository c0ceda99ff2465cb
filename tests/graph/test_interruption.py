"""Ctrl-C and SIGTERM through the real `doit` program: told, and over, whatever is going on; and nothing is harmed."""

from __future__ import annotations

import gzip
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.kit.project import DOIT, Project, disk, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.servers import Exchange

#: Seconds within which an interrupted process ends, with a lot to spare: it takes less than one of its own.
SOON = 8.0
#: Seconds after which one that does not even begin is broken.
PATIENCE = 60.0
STATUS = 130
NAMES = "abcd"

#: Work that hears of nothing, deep in C: signals go to other threads, and no bytecode is executed.
DEAF = """
import ctypes, pathlib, signal
def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGINT, signal.SIGTERM}})
    pathlib.Path({mark!r}).touch()
    ctypes.CDLL(None).sleep(600)
"""
#: So is the flush of what is made, not the one of what is written while the project is loaded.
DEAF_FSYNC = """
import os
from recipes.cache.store import Held
temporary = Held.temporary
def made(*arguments):
    os.fsync = lambda fd: deaf()
    return temporary(*arguments)
Held.temporary = made
"""


@contextmanager
def running(project: Project, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [DOIT, *words],
        cwd=project.folder,
        env=project.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return status and standard error of a process that ends soon."""
    _, err = process.communicate(timeout=SOON)
    assert "Traceback" not in err
    return process.returncode, err


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> signal.Signals:
    found: signal.Signals = request.param
    return found


def hang(exchange: Exchange) -> None:
    """Announce a file, and send half of it."""
    data = gzip.compress(disk(exchange.path[1]), mtime=0)
    exchange.start(200, {"Content-Length": len(data)})
    exchange.wfile.write(data[: len(data) // 2])
    exchange.wfile.flush()
    exchange.stopping.wait()


def say_nothing(exchange: Exchange) -> None:
    exchange.stopping.wait()


def declare(project: Project, url: str) -> None:
    for name in NAMES:
        data = gzip.compress(disk(name), mtime=0)
        source = {"url": f"{url}/{name}.raw.gz", "digest": sha256(data), "size": len(data)}
        project.declared[name] = {"source": source}
    project.write()


@pytest.mark.parametrize("behave", [hang, say_nothing])
def test_downloads_from_a_server_that_hangs(
    project: Project, behave: Callable[[Exchange], None], number: signal.Signals
) -> None:
    with misbehaving(behave) as server:
        declare(project, server.url)
        with running(project, "run", "-n", "4", "raw") as process:
            until(lambda: len(server.seen) == len(NAMES))
            # What was sent is received, and nothing follows.
            time.sleep(1.0)
            process.send_signal(number)
            status, err = ended(process)
    assert status == STATUS
    assert err.endswith("larder: interrupted; the same command goes on from here\n")
    assert "larder: stopping; once more ends it at once\n" in err
    with misbehaving(lambda exchange: exchange.file(gzip.compress(disk(exchange.path[1]), mtime=0))) as server:
        declare(project, server.url)
        project.ok("run", "-n", "4", "raw")
    for name in NAMES:
        assert project.files(name) == {"disk.raw", "raw.json"}
    project.ok("verify")


@pytest.mark.parametrize("jobs", ["0", "1", "4"])
def test_work_that_hears_of_nothing(project: Project, tmp_path: Path, number: signal.Signals, jobs: str) -> None:
    """fsync of a slow disk, say: the process ends, and what it leaves is made good."""
    mark = tmp_path / "mark"
    for name in NAMES:
        project.declare(name, gzip.compress(disk(name), mtime=0), f"{name}.raw.gz")
    project.hook(DEAF.format(mark=str(mark)) + DEAF_FSYNC)
    with running(project, "run", "-n", jobs, "raw") as process:
        until(mark.exists)
        process.send_signal(number)
        status, err = ended(process)
    assert status == STATUS
    assert err.endswith("larder: interrupted; the same command goes on from here\n")
    del project.environ["PYTHONPATH"]
    project.ok("raw")
    for name in NAMES:
        assert project.files(name) == {"disk.raw", "raw.json"}
    project.ok("verify")


def test_once_more_ends_it_at_once(project: Project, tmp_path: Path, number: signal.Signals) -> None:
    """Also where there is no end to the time that work has for its clean-up."""
    mark = tmp_path / "mark"
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz")
    project.hook(DEAF.format(mark=str(mark)) + DEAF_FSYNC)
    project.hook("from recipes import interruption\ninterruption.GRACE = 600")
    with running(project, "raw:a") as process:
        until(mark.exists)
        process.send_signal(number)
        assert process.stderr is not None
        assert process.stderr.readline() == "larder: stopping; once more ends it at once\n"
        process.send_signal(number)
        status, err = ended(process)
    assert (status, err) == (STATUS, "larder: interrupted; the same command goes on from here\n")
    del project.environ["PYTHONPATH"]
    project.ok("raw:a")
    assert (project.entry("a") / "disk.raw").read_bytes() == disk("a")


def test_waiting_for_locks(project: Project, number: signal.Signals) -> None:
    for name in NAMES:
        project.declare(name, gzip.compress(disk(name), mtime=0), f"{name}.raw.gz")
        project.entry(name).mkdir(parents=True)
    locks = [FileLock(project.entry(name) / ".lock") for name in NAMES]
    try:
        for lock in locks:
            lock.acquire()
        with running(project, "run", "-n", "4", "raw") as process:
            out = process.stdout
            assert out is not None
            until(lambda: "waiting for " in out.readline())
            process.send_signal(number)
            status, err = ended(process)
    finally:
        for lock in locks:
            lock.release()
    assert status == STATUS
    assert err.endswith("larder: interrupted; the same command goes on from here\n")


def test_what_is_ignored_stays_ignored(project: Project) -> None:
    """As after nohup, or in the background of a shell script."""
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz")
    project.hook(
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import recipes.derive.engine as engine\n"
        "ensure = engine.ensure_current\n"
        "def interrupted(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return ensure(*arguments)\n"
        "engine.ensure_current = interrupted"
    )
    project.ok("raw:a")


@pytest.mark.parametrize("command", ["verify", "plan", "update"])
def test_commands(project: Project, tmp_path: Path, number: signal.Signals, command: str) -> None:
    mark = tmp_path / "mark"
    project.declare("a", disk("a"))
    project.ok("raw:a")
    project.hook(
        DEAF.format(mark=str(mark)) + "from recipes.graph.commands.command import CacheCommand\n"
        "space = CacheCommand.space\n"
        "def deaf_space(self):\n    deaf()\n    return space(self)\n"
        "CacheCommand.space = deaf_space"
    )
    with running(project, command) as process:
        until(mark.exists)
        process.send_signal(number)
        status, err = ended(process)
    assert status == STATUS
    assert err.endswith("larder: interrupted\n")
