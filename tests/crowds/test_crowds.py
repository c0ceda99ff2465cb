"""Many `doit` processes on one cache. `python -m tests.crowds --minutes 10` does the same for longer."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.project import DOIT, Project, disk, sha256

from .crowd import CROWD, crowd, nap
from .rush import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Seconds that a crowd mingles for here.
SECONDS = 25.0


def test_each_artifact_is_downloaded_and_made_once(tmp_path: Path) -> None:
    with crowd(tmp_path) as many:
        many.start_together()
        assert many.tally.wrong == []
        assert many.wrong_bytes() == []
        assert set(many.made().values()) == {1}
        # Of the two images with the same bytes, either may be had from the other, and is up to date then.
        assert _either(many.made()) == _either(many.expected)
        assert _either(many.tally.done) >= _either(many.expected)
        downloads = {f"/{name}.{suffix}": f"fetch:{name}" for name, suffix in many.suffixes.items()}
        assert {file: many.asked()[file] for file in downloads} == {
            file: many.made()[task] for file, task in downloads.items()
        }
        assert many.asked()["/SHA256SUMS"] <= CROWD, "once a run"
        assert many.unrecorded() == set()
        assert many.leftovers() == []


def _either(tasks: Iterable[str]) -> set[str]:
    return {task.replace("twin", "tree") for task in tasks}


def test_whatever_they_do_and_whoever_is_killed(tmp_path: Path) -> None:
    with crowd(tmp_path) as many:
        many.mingle(SECONDS, seed=1)
        assert many.judge() == []
        assert sum(many.tally.runs.values()) > CROWD


class TestTheHolderOfALock:
    """A process that was killed while it held one blocks nobody; one that lives makes the others wait."""

    @staticmethod
    def held(project: Project, mark: Path) -> subprocess.Popen[bytes]:
        """Start a `doit` that goes to sleep in the middle of a conversion."""
        project.hook(
            "import dataclasses, os, pathlib, time\n"
            "from recipes.derive import engine\n"
            "recipe = engine.RECIPES['raw']\n"
            "def slow(work):\n"
            "    if os.environ.get('SLEEPS'):\n"
            f"        pathlib.Path({str(mark)!r}).touch()\n"
            "        time.sleep(600)\n"
            "    return recipe.make(work)\n"
            "engine.RECIPES['raw'] = dataclasses.replace(recipe, make=slow)"
        )
        process = subprocess.Popen(
            [DOIT, "raw:a"],
            cwd=project.folder,
            env={**project.environ, "SLEEPS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        nap(mark)
        return process

    @pytest.mark.parametrize("waits", [True, False], ids=["while others wait", "before they come"])
    def test_killed(self, tmp_path: Path, waits: bool) -> None:
        project = Project(tmp_path)
        data = disk("a")
        project.declare("a", data)
        holder = self.held(project, tmp_path / "mark")
        try:
            killer = threading.Timer(1.0 if waits else 0.0, holder.kill)
            killer.start()
            if not waits:
                holder.wait(PATIENCE)
            project.ok("raw:a")
            killer.join()
        finally:
            holder.kill()
            status = holder.wait(PATIENCE)
        assert status == -signal.SIGKILL
        assert sha256((project.entry("a") / "disk.raw").read_bytes()) == sha256(data)
        assert project.files("a") == {"disk.raw", "raw.json"}


class TestWhatVanishes:
    """Another process takes a file away between two looks of this one: it is not there, and that is all."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        project = Project(tmp_path)
        project.declare("a", disk("a"))
        project.declare("b", disk("b"))
        project.ok("raw:a", "raw:b")
        return project

    def test_under_prune(self, project: Project) -> None:
        (project.cache / "lists").mkdir(exist_ok=True)
        (project.cache / "lists" / "old-0123456789ab.json").touch()
        del project.declared["a"]
        project.write()
        project.hook(
            "import shutil\n"
            "from recipes.project import holdings\n"
            "from recipes.cache import store\n"
            "kinds = store.Entry.kinds\n"
            "def vanishing(entry):\n"
            "    found = kinds(entry)\n"
            "    if entry.image == 'a':\n"
            "        shutil.rmtree(entry.path, ignore_errors=True)\n"
            "        shutil.rmtree(entry.path.parents[2] / 'lists', ignore_errors=True)\n"
            "    return found\n"
            "store.Entry.kinds = vanishing"
        )
        assert "0 B freed" in project.ok("prune")
        assert (project.entry("b") / "disk.raw").exists()

    @pytest.mark.parametrize("moment", ["_rows", "totals"])
    def test_under_status(self, project: Project, moment: str) -> None:
        path = project.entry("a") / "disk.raw"
        project.hook(
            "import os\n"
            "from recipes.project import inventory\n"
            f"real = inventory.{moment}\n"
            "def vanishing(*arguments):\n"
            f"    if os.path.exists({str(path)!r}):\n"
            f"        os.unlink({str(path)!r})\n"
            "    return real(*arguments)\n"
            f"inventory.{moment} = vanishing"
        )
        out = project.ok("status")
        assert "b " in out
        assert not path.exists()


def test_a_database_that_is_locked_for_long_is_waited_for(tmp_path: Path) -> None:
    """What others recorded is not put aside as broken because one of them takes its time."""
    project = Project(tmp_path)
    project.declare("a", disk("a"))
    project.ok("raw:a")
    database = project.cache / "doit.db"
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("begin exclusive")

    def release() -> None:
        time.sleep(7)
        connection.execute("commit")

    releaser = threading.Thread(target=release)
    releaser.start()
    try:
        project.ok("raw:a")
    finally:
        releaser.join()
        connection.close()
    assert [path.name for path in project.cache.glob("doit.db*")] == ["doit.db"]
