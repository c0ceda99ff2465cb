"""Runs of the real `doit` program that are killed, and what must hold after that.

A `Scenario` says what state a cache is in, which command is killed in it, and what the same command makes of it when
nothing disturbs it. `Bench.kill` runs one kill on a copy of that state and judges it.
"""

from __future__ import annotations

import errno
import hashlib
import re
import sqlite3
import subprocess
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from recipes.cache.store import Entry, Store
from recipes.kinds import DERIVABLE
from tests.kit import lima as limactl
from tests.kit.project import DOIT, Project, Result
from tests.kit.servers import Exchange, misbehaving

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

HOOK = Path(__file__).with_name("instants.py")
#: What may be in an entry beside artifacts, receipts and records of clones when no run is under way.
_MARKS = re.compile(r"\.lock|\w+\.(asked|used)|clones")


@dataclass(frozen=True)
class Scenario:
    """A command in a state of the cache. In words, ``{vm}`` is a folder for clones, ``{lima}`` that of Lima's cache."""

    name: str
    #: Serves and declares images, and runs what is to be there before.
    prepare: Callable[[Bench], None]
    command: tuple[str, ...]
    #: The kinds that may be made on the way.
    kinds: tuple[str, ...] = ("fetch", "content", "raw")
    #: A kind of image ``a`` of which an artifact, the old or the new one, is to serve at every instant.
    serves: str | None = None
    #: Other commands that make good what a kill of this one may leave; it runs again before them.
    again: tuple[tuple[str, ...], ...] = ()


@dataclass
class Bench:
    """One scenario, prepared in a folder of its own; a context, since it serves what is downloaded."""

    scenario: Scenario
    folder: Path
    project: Project = field(init=False)
    #: Labels of the instants of an undisturbed run.
    instants: list[str] = field(init=False)
    survived: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The artifacts that may be there: kind, key and hash of the bytes.
    _known: set[tuple[str, str, str]] = field(default_factory=set)
    #: Hashes of the files that may be outside of the cache.
    _copies: set[str] = field(default_factory=set)
    _stack: ExitStack = field(default_factory=ExitStack)
    _runs: int = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.project = Project(self.folder)
        self.server = self._stack.enter_context(misbehaving(self._serve))
        state = self.folder / "state"
        for name in ("cache", "vm", "xdg"):
            (state / name).mkdir(parents=True)
        self.project.cache = state / "cache"
        # Threads would make every run another one.
        self.project.environ.update(LARDER_JOBS="1", PYTHONDONTWRITEBYTECODE="1", **self._places(state))
        try:
            self.scenario.prepare(self)
            self.project.hook(HOOK.read_text())
            self._rehearse()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve(self, exchange: Exchange) -> None:
        exchange.file((self.project.upstream / exchange.path.lstrip("/")).read_bytes())

    def declare(self, name: str, data: bytes, file: str, **image: Any) -> None:
        """Serve `data` by http and declare it as the image `name`, pinned."""
        self.project.declare(name, data, file, **image)
        self.project.declared[name]["source"]["url"] = f"{self.server.url}/{file}"
        self.project.write()

    def run(self, *words: str) -> None:
        """Run `doit` in the state that is prepared; the artifacts that it makes may be there later on."""
        state = self.folder / "state"
        self._run(state, words)
        self._learn(state)

    def _rehearse(self) -> None:
        """Run the command undisturbed: for its instants, its artifacts, and what is there in the end."""
        run = self._copy()
        for name, image in self.project.declared.items():
            # What is made on the way has a receipt as well, and may be there after a kill.
            kinds = DERIVABLE[image.get("kind", "rootfs" if ".tar" in image["source"]["url"] else "disk")]
            self._run(run, tuple(f"{kind}:{name}" for kind in kinds if kind in self.scenario.kinds))
        self._learn(run)
        _remove(run)
        run = self._copy()
        log = run / "instants"
        result = self._doit(run, self.scenario.command, INSTANT_LOG=str(log))
        assert result.status == 0, result
        self.instants = log.read_text().splitlines()
        log.unlink()
        self._learn(run)
        for words in self.scenario.again:
            self._run(run, words)
        self.outcome = self._outcome(run)
        self.requests = len(self.server.seen)
        _remove(run)

    def kill(self, at: int, number: signal.Signals) -> None:
        """Kill the command at an instant; raise AssertionError where anything is not as it must be after that."""
        run = self._copy()
        where = f"{self.scenario.name}: {number.name} at {at} ({self.instants[at]})"
        environ = {"INSTANT_AT": str(at), "INSTANT_SIGNAL": str(int(number))}
        self._judge(run, self._doit(run, self.scenario.command, **environ), where)
        self.survived[number.name, self.instants[at].split()[0]] += 1

    def fail(self, at: int, number: int) -> None:
        """Let what the command does at an instant fail with an errno."""
        run = self._copy()
        name = errno.errorcode[number]
        where = f"{self.scenario.name}: {name} at {at} ({self.instants[at]})"
        environ = {"INSTANT_AT": str(at), "INSTANT_ERRNO": str(number)}
        self._judge(run, self._doit(run, self.scenario.command, **environ), where)
        self.survived[name, self.instants[at].split()[0]] += 1

    def kill_after(self, seconds: float, number: signal.Signals) -> None:
        """Kill the command some time after its start."""
        run = self._copy()
        where = f"{self.scenario.name}: {number.name} after {seconds:.3f} s"
        process = self._popen(run, self.scenario.command)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
        self._judge(run, Result(process.returncode, out, err), where)
        self.survived[number.name, "at random"] += 1

    def _judge(self, run: Path, killed: Result, where: str) -> None:
        # Of Ctrl-C before larder is imported, Python tells as of any other program.
        if not (killed.err.endswith("\nKeyboardInterrupt\n") and "recipes" not in killed.err):
            assert "Traceback" not in killed.out + killed.err, (where, killed)
        self._require_right(run, where)
        for words in (self.scenario.command, *self.scenario.again):
            again = self._doit(run, words)
            assert again.status == 0, (where, again)
            assert "Traceback" not in again.out + again.err, (where, again)
        self._require_right(run, where)
        outcome = self._outcome(run)
        assert outcome == self.outcome, (where, "too much", outcome - self.outcome, "lacks", self.outcome - outcome)
        _remove(run)

    def _require_right(self, run: Path, where: str) -> None:
        """Require that what is handed out is right, and that the database is one."""
        serving = set()
        for entry in Store(run / "cache").entries():
            for found in _handed_out(entry):
                assert found in self._known, (where, found)
                serving.add(f"{found[0]}:{entry.image}")
        if self.scenario.serves:
            assert f"{self.scenario.serves}:a" in serving, (where, "nothing serves", serving)
        if (run / "cache" / "doit.db").exists():
            with closing(sqlite3.connect(run / "cache" / "doit.db")) as database:
                assert database.execute("pragma integrity_check").fetchall() == [("ok",)], where
        vm = run / "vm"
        for path in vm.iterdir():
            if not path.name.startswith("."):
                assert _hash(path) in self._copies, (where, path)
            if path.suffix == ".qcow2":
                assert path.with_name(f"{path.name}.base.raw").exists(), (where, "an overlay without its base")
        self._require_lima(run, where)

    def _require_lima(self, run: Path, where: str) -> None:
        cache = run / "xdg" / "lima"
        for image in self.project.declared.values() if cache.exists() else ():
            url, digest = image["source"]["url"], image["source"]["digest"]
            hit = limactl.get_cached(cache, url, digest, ("raw",))
            if hit is not None and not hit.converts:
                assert _hash(hit.path) in self._copies, (where, hit)

    def _learn(self, run: Path) -> None:
        for entry in Store(run / "cache").entries():
            self._known |= _handed_out(entry)
        self._copies |= {_hash(path) for name in ("vm", "xdg") for path in (run / name).rglob("*") if path.is_file()}

    def _outcome(self, run: Path) -> set[tuple[str, ...]]:
        """Return what is there: artifacts by their bytes, other files by their names."""
        found: set[tuple[str, ...]] = set()
        for entry in Store(run / "cache").entries():
            found |= {(entry.image, *each) for each in _handed_out(entry)}
            found |= {(entry.image, path.name) for path in entry.path.iterdir() if not _MARKS.fullmatch(path.name)}
        for path in (run / "cache").rglob("*"):
            if path.name.startswith(".") and path.name != ".lock":
                found.add(("leftover", path.name))
        for name in ("vm", "xdg"):
            for path in (run / name).rglob("*"):
                if path.is_file():
                    found.add((name, str(path.relative_to(run / name)), _hash(path)))
        return found

    def _copy(self) -> Path:
        self._runs += 1
        run = self.folder / f"run{self._runs}"
        subprocess.run(["cp", "-a", "--sparse=always", self.folder / "state", run], check=True)
        return run

    def _places(self, run: Path) -> dict[str, str]:
        return {"LARDER_CACHE": str(run / "cache"), "XDG_CACHE_HOME": str(run / "xdg")}

    def _run(self, run: Path, words: tuple[str, ...]) -> None:
        result = self._doit(run, words)
        assert result.status == 0, result

    def _popen(self, run: Path, words: tuple[str, ...], **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [DOIT, *(word.format(vm=run / "vm") for word in words)],
            cwd=self.project.folder,
            env={**self.project.environ, **self._places(run), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _doit(self, run: Path, words: tuple[str, ...], **environ: str) -> Result:
        with self._popen(run, words, **environ) as process:
            out, err = process.communicate(timeout=60)
        return Result(process.returncode, out, err)


def _handed_out(entry: Entry) -> set[tuple[str, str, str]]:
    """Return kind, key and hash of every artifact whose receipt vouches for it."""
    found = set()
    for kind in entry.kinds():
        receipt = entry.receipt(kind)
        if receipt is not None and entry.matches(receipt):
            found.add((kind, receipt.key, _hash(entry.artifact(kind))))
    return found


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _remove(run: Path) -> None:
    subprocess.run(["rm", "-rf", run], check=True)
