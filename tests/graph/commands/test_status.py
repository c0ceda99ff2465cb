"""The commands that look at the cache, through the real `doit` program."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.project import DOIT, MiB, disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project


def status(project: Project, *names: str) -> dict[tuple[str, str], dict[str, Any]]:
    document = json.loads(project.ok("status", "--json", *names))
    return {(row["image"], row["kind"]): row for row in document["artifacts"]}


class TestStatus:
    def test_of_an_empty_cache(self, project: Project) -> None:
        project.declare("a", disk("a"))
        assert status(project)["a", "raw"]["state"] == "missing"
        assert "missing" in project.ok("status")

    def test_of_what_is_current_and_what_is_stale(self, project: Project) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
        project.ok("raw:a", "fetch:a")
        rows = status(project)
        assert {key: row["state"] for key, row in rows.items()} == {("a", "fetch"): "current", ("a", "raw"): "current"}
        assert rows["a", "raw"]["size"] == 2 * MiB
        assert rows["a", "raw"]["allocated"] < MiB
        assert rows["a", "raw"]["receipt"]["kind"] == "raw"
        assert rows["a", "fetch"]["asked"]
        project.declare("a", gzip.compress(disk("new")), "a.raw.gz")
        assert status(project)["a", "raw"]["state"] == "stale"

    def test_of_what_is_not_declared_any_more(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.declare("b", disk("b"))
        project.ok("raw")
        del project.declared["b"]
        project.write()
        assert not status(project)["b", "raw"]["declared"]
        assert "not declared" in project.ok("status")

    def test_of_a_download_that_was_begun(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.entry("a").mkdir(parents=True)
        (project.entry("a") / "wrapper.part").write_bytes(b"half")
        row = status(project)["a", "fetch"]
        assert (row["state"], row["size"]) == ("partial", 4)

    def test_of_a_file_that_was_touched(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        (project.entry("a") / "disk.raw").touch()
        assert status(project)["a", "raw"]["state"] == "changed"

    def test_counts_a_file_with_two_names_once(self, project: Project) -> None:
        project.declare("a", disk("a"), derive=["raw", "fetch"])
        project.ok("raw:a", "fetch:a")
        totals = json.loads(project.ok("status", "--json"))["totals"]
        assert totals["artifacts"] == 2
        assert totals["allocated"] == (project.entry("a") / "disk.raw").stat().st_blocks * 512
        assert totals["holes"] == 2 * MiB - totals["allocated"]

    def test_of_some_images(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.declare("b", disk("b"))
        assert set(status(project, "b")) == {("b", "raw")}
        result = project.doit("status", "c")
        assert result.status == 3
        assert "'c'" in result.err

    def test_of_one_artifact(self, project: Project) -> None:
        project.declare("a", disk("a"), derive=["raw", "fetch"])
        project.ok("a")
        assert set(status(project, "a")) == {("a", "raw"), ("a", "fetch")}
        assert set(status(project, "raw:a")) == {("a", "raw")}
        assert set(status(project, "raw:a", "fetch:a")) == {("a", "raw"), ("a", "fetch")}
        for word, said in (
            ("raw:b", "images.toml declares no image 'b'"),
            ("rwa:a", "there is no kind rwa; did you mean raw?"),
        ):
            result = project.doit("status", word)
            assert result.status == 3
            assert said in result.err

    def test_for_whom_a_thing_is_kept_and_what_is_missing(self, project: Project) -> None:
        for number in range(8):
            project.declare(f"i{number}", disk("i"), derive=["raw"])
        project.ok("raw:i0")
        lines = project.ok("status").splitlines()
        assert lines[0].endswith("KEPT FOR")
        assert lines[1].endswith("you, images.toml")
        named = ", ".join(f"raw:i{number}" for number in range(1, 7))
        assert lines[3] == f"missing: {named} and 1 more; `larder plan` says what they would take"
        found = status(project)
        assert found["i0", "raw"]["asked_by"] == ["command line", str(project.folder / "images.toml")]
        assert found["i1", "raw"]["asked_by"] == [str(project.folder / "images.toml")]

    def test_needs_nothing_but_the_cache(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        shutil.rmtree(project.upstream)
        (project.cache / "doit.db").unlink()
        assert status(project)["a", "raw"]["state"] == "current"


class TestPath:
    def test_of_what_is_current(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        assert project.ok("path", "raw:a") == f"{project.entry('a') / 'disk.raw'}\n"

    def test_of_what_is_not(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("path", "raw:a")
        assert result.status == 1
        assert result.out == ""
        assert "larder raw:a" in result.err

    def test_of_what_cannot_be(self, project: Project) -> None:
        project.declare("a", disk("a"))
        for words in ([], ["a"], ["raw:b"], ["vmkd:a"], ["raw"]):
            assert project.doit("path", *words).status == 3


def test_the_commands_stay_out_of_other_projects(tmp_path: Path) -> None:
    import subprocess

    from tests.kit.project import DOIT

    (tmp_path / "dodo.py").write_text("def task_hello():\n    return {'actions': ['echo hello'], 'verbosity': 2}\n")
    done = subprocess.run([DOIT], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == ".  hello\nhello\n"
    done = subprocess.run([DOIT, "status"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "this dodo.py is not" in done.stderr


@pytest.mark.parametrize("words", [("list",), ("help",), ("help", "list"), ("status",)])
def test_whoever_stops_reading_is_told_no_more(project: Project, words: tuple[str, ...]) -> None:
    project.declare("a", disk("a"))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [DOIT, *words], cwd=project.folder, env=project.environ, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.returncode in (0, -signal.SIGPIPE)
    assert done.stderr == ""


def test_titles_in_a_locale_that_has_no_room_for_them(project: Project) -> None:
    project.declare("a", b"\x55" * 512, title="Übung")
    for words in (("list", "--all"), ("info", "fetch:a"), ("help", "fetch:a")):
        result = project.doit(*words, PYTHONIOENCODING="ascii")
        # info exits with 1 for what is not up to date.
        assert (result.status, result.err) == (int("info" in words), "")
        assert "the original of \\xdcbung, kept" in result.out
