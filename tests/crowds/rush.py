"""A rush: many real `doit` processes for the same images at once, into an empty cache, as images.toml is by default.

Nothing that is passed through is asked for, so whoever is first releases it while the others still wait for it. What
counts is what the server is asked for, and how often anything is made.
"""

from __future__ import annotations

import gzip
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.kit.project import DOIT, Project, disk, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.kit.servers import Exchange, Server

#: Seconds after which a run counts as locked up: far more than any takes, even on a busy machine.
PATIENCE = 120.0

#: Seconds that a server waits once all processes have begun: they have decided what there is to do then, and queue.
SLOWNESS = 1.0

NAMES = tuple("abcdef")
#: What is made of a disk by default, each once.
CHAIN = ("fetch", "content", "raw")

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
def ahead(recipe, work):
    begun = recipe.ahead(work)
    ended = begun.made
    def made():
        found = ended()
        if found is not None:
            write({log!r}, f"{{recipe.kind}}:{{work.image.name}}")
        return found
    begun.made = made
    return begun
for recipe in list(engine.RECIPES.values()):
    engine.RECIPES[recipe.kind] = dataclasses.replace(
        recipe,
        make=functools.partial(make, recipe),
        ahead=recipe.ahead and functools.partial(ahead, recipe),
    )
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


class Upstream:
    """Serves a compressed disk for each of `NAMES`, once all who want it are there."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.files = {f"/{name}.raw.gz": gzip.compress(disk(name), mtime=0) for name in NAMES}

    def __call__(self, exchange: Exchange) -> None:
        self.gate.wait(exchange)
        exchange.file(self.files[exchange.path])

    def declare(self, project: Project, server: Server, *names: str, head: str = "") -> None:
        for name in names:
            data = self.files[f"/{name}.raw.gz"]
            source = {"url": f"{server.url}/{name}.raw.gz", "digest": sha256(data), "size": len(data)}
            project.declared[name] = {"prewarm": True, "source": source}
        project.write(head)


class Rush(Project):
    """A project whose processes tell what they make."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log = folder / "made"
        self.gate = Gate()
        watched(self, self.log)

    def at_once(self, *orders: list[str]) -> None:
        """Run a `doit` for each of `orders`; all must succeed."""
        assert rush(self, self.log, self.gate, orders) == []


def once(project: Rush, *names: str, kinds: tuple[str, ...] = CHAIN) -> None:
    """Require that each of `kinds` was made once, that the disks are right, and that nothing else is left."""
    assert made(project.log) == {f"{kind}:{name}": 1 for name in names for kind in kinds}
    for name in names:
        assert (project.entry(name) / "disk.raw").read_bytes() == disk(name)


def rush_at_random(folder: Path, dice: random.Random) -> int:
    """Let some processes do something with some images, and require one download and conversion of each; say how many.

    They run derivations in any order, on any number of threads, and make clones of any format.
    """
    folder.mkdir()
    project = Rush(folder)
    upstream = Upstream(project.gate)
    names = dice.sample(NAMES, dice.randint(1, len(NAMES)))

    def order(number: int) -> list[str]:
        if dice.random() < 0.5:
            form = dice.choice(("raw", "qcow2"))
            return [f"clone:{dice.choice(names)}", "--to", str(folder / f"vm-{number}"), "--format", form]
        tasks = [f"raw:{name}" for name in dice.sample(names, dice.randint(1, len(names)))]
        return ["run", "-n", dice.choice("0124"), *tasks]

    with misbehaving(upstream) as server:
        upstream.declare(project, server, *names)
        orders = [["run", "-n", dice.choice("012")], *(order(number) for number in range(dice.randint(2, 7)))]
        project.at_once(*orders)
        assert downloads(server) == {f"/{name}.raw.gz": 1 for name in names}, orders
    once(project, *names)
    return len(orders)
