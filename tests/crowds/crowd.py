"""A crowd: many real `doit` processes on one cache at once, some of them killed, and what must hold afterwards.

Whatever the order: every artifact has the bytes that a lone process makes, every run ends well and in time, what
succeeded is in doit's database, and nothing is downloaded or converted more often than somebody's deletion demands.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import signal
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recipes import kinds
from recipes.kinds import DERIVABLE
from tests.kit.ext4_images import make
from tests.kit.oracles import need
from tests.kit.project import DOIT, Project, disk, sha256
from tests.kit.servers import misbehaving

from .rush import PATIENCE, made, watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.servers import Exchange, Server

#: Processes at once.
CROWD = 8

#: Kinds of each image; all of them are declared, so that none is released and must be made again.
KINDS = {"disk": tuple(DERIVABLE["disk"]), "tree": tuple(DERIVABLE["rootfs"]), "twin": tuple(DERIVABLE["rootfs"])}

#: The one that follows a checksum list.
FLOATING = "twin"

#: An image of another project, which comes and goes.
PASSING = "passing"


@dataclass
class Ran:
    """One process, once it has ended."""

    words: tuple[str, ...]
    status: int
    out: str
    err: str
    #: The tasks that it reported as done.
    done: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"doit {' '.join(self.words)} ended with {self.status}\n{self.out}{self.err}"


@dataclass
class Tally:
    """What a crowd did."""

    runs: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    #: What was deleted, or ordered to be made anew, by task: each may cost one conversion.
    demanded: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    #: What should not have happened.
    wrong: list[str] = field(default_factory=list)


class Crowd:
    """A cache, a server that counts, two projects, and the bytes that everything must have."""

    def __init__(self, folder: Path, server: Server, expected: dict[str, str], served: dict[str, bytes]) -> None:
        self.folder = folder
        self.server = server
        self.expected = expected
        #: What each image's file at the server ends in.
        self.suffixes = {name: suffix for name, _, suffix in (file.partition(".") for file in served) if name in KINDS}
        self.tally = Tally()
        self.log = folder / "made"
        (folder / "out").mkdir()
        self.project = _project(folder / "one", server, served)
        watched(self.project, self.log)
        self.other = Project(_made(folder / "two"))
        self.other.cache = self.project.cache
        self.other.environ.update(LARDER_CACHE=str(self.project.cache), PYTHONPATH=self.project.environ["PYTHONPATH"])
        self.other.declare(PASSING, gzip.compress(disk(PASSING), mtime=0), f"{PASSING}.img.gz")
        self._guard = threading.Lock()
        self._number = 0

    def run(self, *words: str, other: bool = False, kill_after: float | None = None) -> Ran:
        """Run one `doit`; kill it after so many seconds, where that is wanted."""
        project = self.other if other else self.project
        with self._guard:
            self._number += 1
            report = self.folder / "out" / f"{self._number}.json"
        is_run = words[0] not in ("status", "prune", "verify", "clean", "plan", "path")
        command = [str(DOIT), "run", "-r", "json", "-o", str(report), *words] if is_run else [str(DOIT), *words]
        process = subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        killer = threading.Timer(kill_after, process.kill) if kill_after is not None else None
        if killer:
            killer.start()
        try:
            out, err = process.communicate(timeout=PATIENCE + 30)
        finally:
            if killer:
                killer.cancel()
            process.kill()
            process.wait()
        ran = Ran(words, process.returncode, out, err)
        if is_run and process.returncode == 0:
            ran.done = {task["name"] for task in json.loads(report.read_text())["tasks"] if task["result"] == "success"}
        with self._guard:
            self.tally.runs[words[0].partition(":")[0]] += 1
            self.tally.killed += process.returncode == -signal.SIGKILL
            self.tally.done |= ran.done
            expected = (0, -signal.SIGKILL) if kill_after is not None else (0,)
            if process.returncode not in expected or "Traceback" in err:
                self.tally.wrong.append(str(ran))
        report.unlink(missing_ok=True)
        return ran

    def made(self) -> Counter[str]:
        """Return how often each artifact was made, or begun to be."""
        return made(self.log)

    def asked(self) -> Counter[str]:
        """Return how often the server was asked for each file."""
        return Counter(seen.path for seen in self.server.seen)

    def wrong_bytes(self) -> list[str]:
        """Return the artifacts, present or missing, that are not what a lone process makes."""
        return [
            task
            for task, digest in self.expected.items()
            if digest_of(self.project.entry(task.partition(":")[2]) / kinds.KINDS[task.partition(":")[0]].file)
            != digest
        ]

    def unrecorded(self) -> set[str]:
        """Return the tasks that succeeded and that doit's database does not know."""
        connection = sqlite3.connect(self.project.cache / "doit.db")
        try:
            rows = connection.execute("select task_id, task_data from doit").fetchall()
        finally:
            connection.close()
        return self.tally.done - {name for name, data in rows if json.loads(data)} - _groups()

    def leftovers(self) -> list[str]:
        """Return what only a holder of a lock, or a download that goes on, may have in an entry."""
        entries = (self.project.cache / "images" / name for name in KINDS)
        return [
            str(path)
            for entry in entries
            for path in entry.glob("*/*")
            if path.name.startswith(".tmp-") or ".part" in path.name
        ]

    def start_together(self) -> None:
        """Let `CROWD` processes ask for everything at once, each in an order of its own."""
        with ThreadPoolExecutor(CROWD) as pool:
            list(pool.map(lambda order: self.run("-n", "2", *order), _orders()))

    def judge(self) -> list[str]:
        """Let a last process ask for everything, and return what is wrong then."""
        wrong = list(self.tally.wrong)
        last = self.run(*_tasks())
        if last.status != 0:
            wrong.append(f"the last run failed\n{last}")
        wrong += [f"{task} has other bytes than a lone process makes" for task in self.wrong_bytes()]
        wrong += [f"{task} succeeded, and doit's database does not know it" for task in self.unrecorded()]
        wrong += [f"left over: {path}" for path in self.leftovers()]
        made = self.made()
        for task in self.expected:
            if made[task] > 1 + self.tally.demanded[task]:
                wrong.append(
                    f"{task} was made {made[task]} times, for {self.tally.demanded[task]} demands and the first"
                )
        for file, count in self.asked().items():
            name = file.strip("/").partition(".")[0]
            if name in KINDS and count > made[f"fetch:{name}"]:
                wrong.append(f"{file} was asked for {count} times in {made[f'fetch:{name}']} downloads")
        verified = self.run("verify")
        return wrong if verified.status == 0 else [*wrong, f"verify finds damage\n{verified}"]

    def mingle(self, seconds: float, seed: int) -> None:
        """Let `CROWD` workers do everything there is, in an order of their own, for so many seconds."""
        end = time.monotonic() + seconds
        workers = [
            threading.Thread(target=self._work, args=(end, random.Random(f"{seed}-{number}"), number))
            for number in range(CROWD)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, end: float, dice: random.Random, number: int) -> None:
        while time.monotonic() < end and not self.tally.wrong:
            try:
                self._one(dice, number)
            except Exception as error:
                with self._guard:
                    self.tally.wrong.append(f"{type(error).__name__}: {error}")
                raise

    def _one(self, dice: random.Random, number: int) -> None:
        image = dice.choice(tuple(KINDS))
        task = f"{dice.choice(KINDS[image])}:{image}"
        act = dice.choices(
            (
                "make",
                "group",
                "clone",
                "lima",
                "again",
                "clean",
                "prune",
                "status",
                "plan",
                "verify",
                "passing",
                "kill",
            ),
            (6, 4, 3, 1, 3, 3, 3, 2, 1, 2, 4, 4),
        )[0]
        if act == "make":
            self.run(task)
        elif act == "group":
            self.run("-n", "3", *dice.sample(list(kinds.KINDS), 3))
        elif act == "clone":
            self._clone(task, number)
        elif act == "lima":
            self.run("lima:disk", "--lima-cache", str(self.folder / f"lima-{number}"))
        elif act == "again":
            self._demand(task)
            self.run("-a", task)
        elif act == "clean":
            self._demand(task)
            self.run("clean", task)
        elif act == "verify":
            self.run("verify", image)
        elif act == "passing":
            self._pass(dice)
        elif act == "kill":
            # Twice: what it began counts, and what it deleted or left is made once more.
            self._demand(task)
            self._demand(task)
            self.run("-a", task, kill_after=dice.uniform(0.2, 2.0))
        else:
            self.run(act)

    def _demand(self, task: str) -> None:
        """Note that `task` may have to be made once more, and with ``-a`` all that comes before it."""
        kind, _, name = task.partition(":")
        with self._guard:
            for each in KINDS[name][: KINDS[name].index(kind) + 1]:
                self.tally.demanded[f"{each}:{name}"] += 1

    def _clone(self, task: str, number: int) -> None:
        kind, _, name = task.partition(":")
        target = self.folder / f"clone-{number}"
        ran = self.run(f"clone:{name}", "--format", kind, "--force", "--to", str(target))
        if ran.status == 0 and digest_of(target) != self.expected[task]:
            with self._guard:
                self.tally.wrong.append(f"a clone of {task} has other bytes\n{ran}")

    def _pass(self, dice: random.Random) -> None:
        """Let the other project make its image, and take its word for it from the cache at any time."""

        def forget() -> None:
            for file in (self.project.cache / "roots").glob("*"):
                with suppress(OSError):
                    if str(self.other.folder) in file.read_text():
                        file.unlink()

        timer = threading.Timer(dice.uniform(0.1, 1.0), forget)
        timer.start()
        self.run(f"{dice.choice(('fetch', 'content', 'raw'))}:{PASSING}", other=True)
        timer.join()


@contextmanager
def crowd(folder: Path) -> Iterator[Crowd]:
    """Start a server, let a lone process make everything, and hand out a crowd with an empty cache."""
    served = _served(folder)

    def behave(exchange: Exchange) -> None:
        exchange.file(served[exchange.path.removeprefix("/")])

    with misbehaving(behave) as server:
        lone = _project(folder / "lone", server, served)
        lone.ok(*_tasks())
        expected = {
            f"{kind}:{name}": digest_of(lone.entry(name) / kinds.KINDS[kind].file)
            for name, of in KINDS.items()
            for kind in of
        }
        server.seen.clear()
        yield Crowd(folder, server, expected, served)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of one that is not there, that it is missing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"


def _orders() -> list[list[str]]:
    return [random.Random(number).sample(_tasks(), len(_tasks())) for number in range(CROWD)]


def _tasks() -> list[str]:
    return [f"{kind}:{name}" for name, kinds in KINDS.items() for kind in kinds]


def _groups() -> set[str]:
    """Return the tasks that are only the sum of others."""
    return {"resolve", "_sums", "clone", "lima", *kinds.KINDS}


def _project(folder: Path, server: Server, served: dict[str, bytes]) -> Project:
    project = Project(_made(folder))
    for file, data in served.items():
        name = file.partition(".")[0]
        if name not in KINDS:
            continue
        project.declared[name] = {
            "derive": list(KINDS[name]),
            "vhdx-size": "64MiB",
            "source": {"url": f"{server.url}/{file}", "digest": sha256(data), "size": len(data)},
        }
        if name == FLOATING:
            project.declared[name]["source"] = {"url": f"{server.url}/{file}", "checksums": f"{server.url}/SHA256SUMS"}
    project.write()
    return project


def _served(folder: Path) -> dict[str, bytes]:
    """Return upstream's files: a disk with a root file system, and one tarball under two names."""
    need("qemu-img")
    tree = _made(folder / "tree")
    (tree / "etc").mkdir()
    (tree / "etc" / "os-release").write_text("ID=crowd\n")
    for number in range(20):
        (tree / f"file-{number}").write_bytes(random.Random(number).randbytes(50_000))
    make(folder / "disk.raw", 16 << 20, "-d", str(tree))
    convert = ["qemu-img", "convert", "-c", "-O", "qcow2", str(folder / "disk.raw"), str(folder / "disk.qcow2")]
    subprocess.run(convert, check=True)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.add(tree, arcname=".")
    tarball = gzip.compress(target.getvalue(), mtime=0)
    disk_image = gzip.compress((folder / "disk.qcow2").read_bytes(), compresslevel=1, mtime=0)
    sums = f"{hashlib.sha256(tarball).hexdigest()}  twin.tar.gz\n".encode()
    return {"disk.qcow2.gz": disk_image, "tree.tar.gz": tarball, "twin.tar.gz": tarball, "SHA256SUMS": sums}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def nap(path: Path, seconds: float = 30.0) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
