"""A rush: many real `doit` processes for the same images at once, into an empty cache, as images.toml is by default.

Nothing that is passed through is asked for, so whoever is first releases it while the others still wait for it. What
counts is what the server is asked for, and how often anything is made.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.kit.project import DOIT, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.kit.servers import Exchange, Server

#: Seconds after which a run counts as locked up: far more than any takes, even on a busy machine.
PATIENCE = 120.0

#: Seconds that a server waits once all processes have begun: they have decided what there is to do then, and queue.
SLOWNESS = 1.0

#: Every process tells that it has begun, what it makes, and where all of its threads are when it takes too long.
HOOK = """
import dataclasses, faulthandler, functools, os
faulthandler.dump_traceback_later({patience}, exit=True)
from recipes.derive import engine
def write(name, line):
    file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{{line}}\\n".encode())
    os.close(file)
init = engine.Session.__init__
def begin(self, *arguments, **named):
    init(self, *arguments, **named)
    write({log!r} + ".begun", os.getpid())
engine.Session.__init__ = begin
def make(recipe, work):
    write({log!r}, f"{{recipe.kind}}:{{work.image.name}}")
    return recipe.make(work)
for recipe in list(engine.RECIPES.values()):
    engine.RECIPES[recipe.kind] = dataclasses.replace(recipe, make=functools.partial(make, recipe))
"""


def watched(project: Project, log: Path) -> None:
    """Have every `doit` of `project` write what it makes to `log`."""
    log.touch()
    project.hook(HOOK.format(patience=PATIENCE, log=str(log)))


def made(log: Path) -> Counter[str]:
    """Return how often each artifact was made, or begun to be."""
    return Counter(log.read_text().split())


class Gate:
    """Where a server waits, before it sends what is downloaded, until all processes of a rush queue for it."""

    def __init__(self) -> None:
        self._missing: Callable[[], int] = lambda: 0
        self._slowness = 0.0

    def expect(self, log: Path, processes: int) -> None:
        """Wait for so many processes more than have told `log` that they began."""
        begun = log.with_name(f"{log.name}.begun")
        begun.touch()
        self._slowness = SLOWNESS
        enough = len(begun.read_text().split()) + processes
        self._missing = lambda: enough - len(begun.read_text().split())

    def wait(self, exchange: Exchange) -> None:
        """Wait, but not for processes that have died."""
        end = time.monotonic() + PATIENCE / 4
        while self._missing() > 0 and time.monotonic() < end and not exchange.stopping.wait(0.05):
            pass
        exchange.stopping.wait(self._slowness)
        self._slowness = SLOWNESS / 10


def rush(project: Project, log: Path, gate: Gate, orders: Sequence[Sequence[str]]) -> list[str]:
    """Run a `doit` for each of `orders`, all at once; return what was wrong."""
    wrong = []
    gate.expect(log, len(orders))
    with ExitStack() as stack:
        running = [(order, stack.enter_context(_started(project, order))) for order in orders]
        end = time.monotonic() + PATIENCE + 30
        for order, process in running:
            out, err = process.communicate(timeout=end - time.monotonic())
            if process.returncode != 0 or "Traceback" in err:
                wrong.append(f"doit {' '.join(order)} ended with {process.returncode}\n{out}{err}")
    return wrong


def _started(project: Project, order: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [DOIT, *order],
        cwd=project.folder,
        env=project.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def downloads(server: Server) -> Counter[str]:
    """Return how often the bytes of each file, or of each blob and manifest of a registry, were asked for."""
    return Counter(seen.path for seen in server.seen if seen.method == "GET")
