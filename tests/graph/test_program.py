"""`larder`: where it finds its images, what it says, and that it is doit where a dodo.py is."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from recipes.kinds import KINDS
from recipes.settings import catalogue
from tests.kit.project import OWN_DODO, Project, disk

if TYPE_CHECKING:
    from pathlib import Path


class TestWhereItIs:
    def test_in_a_project(self, bare: Project) -> None:
        bare.larder_ok("raw:a")
        assert (bare.entry("a") / "disk.raw").read_bytes() == disk("a")
        assert {path.name for path in bare.folder.iterdir()} == {"images.toml"}
        assert (bare.cache / "doit.db").is_file()

    def test_in_a_folder_of_a_project(self, bare: Project) -> None:
        below = bare.folder / "a b" / "c"
        below.mkdir(parents=True)
        bare.larder_ok("raw:a", folder=below)
        bare.larder_ok("clone:a", "--to", "disk.raw", folder=below)
        assert (below / "disk.raw").read_bytes() == disk("a")

    def test_in_no_project(self, project: Project, tmp_path: Path) -> None:
        empty = tmp_path / "empty folder"
        empty.mkdir()
        said = project.larder_ok("list", "-q", "--all", folder=empty)
        assert {f"raw:{name}" for name in ("ubuntu-24.04", "debian-12")} <= set(said.split())
        assert not list(empty.iterdir())

    def test_in_no_project_nothing_is_made_unasked(self, project: Project, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        assert project.larder_ok(folder=empty) == project.larder_ok("-h", folder=empty)
        assert not project.cache.exists()

    def test_in_no_project_a_kind_is_not_of_every_image(self, project: Project, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        result = project.larder("raw", folder=empty)
        assert result.status == 3
        assert "name one, such as raw:demo" in result.err
        project.declare("a", disk("a"))
        project.larder_ok("raw")

    def test_the_environment_counts_above_the_folder(self, bare: Project, tmp_path: Path) -> None:
        said = bare.larder_ok("list", "-q", "--all", LARDER_IMAGES=str(catalogue()))
        assert "raw:debian-12" in said
        assert "raw:a" not in said.split()
        empty = tmp_path / "empty"
        empty.mkdir()
        assert (
            "raw:a" in bare.larder_ok("list", "-q", "--all", "--images", "../project/images.toml", folder=empty).split()
        )

    def test_with_a_dodo_of_ones_own(self, bare: Project) -> None:
        (bare.folder / "dodo.py").write_text(OWN_DODO)
        below = bare.folder / "below"
        below.mkdir()
        assert "use" in bare.larder_ok("list", folder=below).split()
        said = bare.larder_ok("use")
        assert (bare.folder / "used").read_bytes() == disk("a")
        assert bare.doit("use").out == bare.larder_ok("use") == "-- raw:a\n-- use\n" != said
        assert not list(bare.folder.glob(".doit*"))

    def test_with_a_dodo_that_is_not_larders(self, bare: Project) -> None:
        (bare.folder / "dodo.py").write_text("def task_hello():\n    return {'actions': ['echo hello']}\n")
        assert bare.larder_ok("hello") == ".  hello\n"
        result = bare.larder("status")
        assert result.status == 3
        assert "from recipes import tasks" in result.err

    @pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
    def test_a_file_of_somebody_else_above_is_not_believed(self, bare: Project) -> None:
        below = bare.folder / "below"
        below.mkdir()
        os.chown(bare.folder / "images.toml", 12345, -1)
        assert bare.larder("list").status == 0
        result = bare.larder("list", folder=below)
        assert result.status == 3
        assert "belongs to another user" in result.err
        assert bare.larder_ok("list", folder=below, LARDER_IMAGES=str(bare.folder / "images.toml"))
        os.chown(bare.folder / "images.toml", 0, -1)
        (bare.folder / "dodo.py").write_text("raise SystemExit('it was run')\n")
        os.chown(bare.folder / "dodo.py", 12345, -1)
        result = bare.larder("list", folder=below)
        assert result.status == 3
        assert "dodo.py is above this folder and belongs to another user" in result.err


class TestOptions:
    def test_stand_before_and_after(self, bare: Project, tmp_path: Path) -> None:
        other = tmp_path / "other cache"
        bare.larder_ok("--cache", str(other), "raw:a")
        assert (other / "images" / "a" / "x86_64" / "disk.raw").is_file()
        assert str(other) in bare.larder_ok("path", "raw:a", f"--cache={other}")
        result = bare.larder("raw:a", "--arch", "arm64")
        assert "not declared for aarch64, only for x86_64" in result.err
        assert '"offline": true' in bare.larder_ok("--offline", "plan", "--json")
        assert not (bare.cache / "images").exists()

    def test_of_a_run_may_follow_tasks(self, bare: Project) -> None:
        bare.declare("b", disk("b"))
        said = bare.larder_ok("raw:a", "raw:b", "-n", "2", "-a")
        assert "raw:a: 2.0 MiB" in said
        assert "raw:b: 2.0 MiB" in said
        bare.larder_ok("clone:a", "--to", "x", "-n", "2", "--force", "--size=3MiB")
        assert (bare.folder / "x").stat().st_size == 3 << 20

    def test_of_others_tasks_stay_theirs(self, bare: Project) -> None:
        task = (
            'def task_say():\n    return {"actions": ["echo %(end)s"], "verbosity": 2, "params": '
            '[{"name": "end", "long": "arch", "default": ""}]}\n'
        )
        (bare.folder / "dodo.py").write_text(OWN_DODO + task)
        assert bare.larder_ok("say", "--arch", "!") == bare.ok("say", "--arch", "!") == ".  say\n!\n"


class TestAnImage:
    def test_is_what_it_derives(self, bare: Project) -> None:
        bare.declare("b", disk("b"), derive=["fetch", "raw"])
        bare.larder_ok("b")
        assert {"wrapper", "disk.raw"} <= bare.files("b")
        assert bare.doit("b").status == 3 - 3 * (bare.folder / "dodo.py").is_file()

    def test_that_derives_nothing(self, bare: Project) -> None:
        bare.declare("b", disk("b"), derive=[])
        result = bare.larder("b")
        assert result.status == 3
        assert "name one of fetch:b, content:b, raw:b" in result.err

    def test_nothing_at_all(self, bare: Project) -> None:
        result = bare.larder()
        assert result.status == 3
        assert "prewarm = true" in result.err


class TestHelp:
    def test_is_one_screen(self, bare: Project) -> None:
        said = bare.larder_ok("-h")
        assert said == bare.larder_ok("--help") == bare.larder_ok("help")
        lines = said.splitlines()
        assert len(lines) <= 60
        assert max(map(len, lines)) <= 110
        for kind in KINDS:
            assert re.search(f"^  {kind} ", said, re.MULTILINE)
        for word in ("status", "clone", "verify", "larder raw:demo", "--arch"):
            assert word in said
        for hidden in ("strace", "dumpdb", "reset-dep", "CmdOption", "doit"):
            assert hidden not in said

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("help", "raw"), "of a disk image: made from its content"),
            (("help", "clone"), "how the bytes come: auto is the cheapest way"),
            (("clone:a", "-h"), "larder clone:IMAGE --to PATH"),
            (("help", "status"), "--json"),
            (("status", "--help"), "--json"),
            (("help", "run"), "--fresh"),
            (("help", "a"), "Makes raw:a, as images.toml says."),
            (("help", "raw:a"), "a of its own"),
        ],
    )
    def test_of_something(self, words: tuple[str, ...], said: str, bare: Project) -> None:
        if words == ("help", "raw:a"):
            said = str(bare.entry("a") / "disk.raw")
        shown = bare.larder_ok(*words)
        assert said in shown
        assert "CmdOption" not in shown
        assert "%(default)s" not in shown

    def test_says_what_the_defaults_are(self, bare: Project) -> None:
        shown = " ".join(bare.larder_ok("help", "run").split())
        for true in ("(default: thread)", "(default: larder)", "(default: doit.db in the cache)"):
            assert true in shown
        assert ".doit.db" not in shown

    def test_version(self, bare: Project) -> None:
        assert re.fullmatch(r"larder \d+\.\d+\S* \(doit \S+, Python \S+\)\n", bare.larder_ok("--version"))


def test_a_bug_is_status_two(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(
        OWN_DODO.partition("\n\n\n")[0] + "\n\ndef task_bug():\n    raise RuntimeError\n"
    )
    for result in (bare.larder("status"), bare.doit("status"), bare.doit("list")):
        assert result.status == 2
        assert "RuntimeError" in result.err
