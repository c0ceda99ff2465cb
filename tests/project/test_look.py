"""One look at an entry, whoever declares it; status and prune count by it."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.project import Project, disk

if TYPE_CHECKING:
    from pathlib import Path


def another(project: Project, folder: Path) -> Project:
    """Return a second project that shares the cache of `project`."""
    folder.mkdir()
    found = Project(folder)
    found.cache = project.cache
    found.environ["LARDER_CACHE"] = str(project.cache)
    return found


def rows(project: Project) -> dict[str, dict[str, Any]]:
    found = json.loads(project.ok("status", "--json"))["artifacts"]
    return {f"{row['kind']}:{row['image']}": row for row in found}


def test_status_counts_what_prune_counts(project: Project, tmp_path: Path) -> None:
    other = another(project, tmp_path / "other")
    project.declare("mine", gzip.compress(disk("mine"), mtime=0), "mine.raw.gz", derive=["raw"])
    other.declare("theirs", gzip.compress(disk("theirs"), mtime=0), "theirs.raw.gz", derive=["fetch", "raw"])
    project.ok("raw:mine")
    other.ok("fetch:theirs", "raw:theirs")
    seen = rows(project)
    assert set(seen) == {"raw:mine", "fetch:theirs", "raw:theirs"}
    assert {(row["state"], row["declared"], row["asked"]) for row in seen.values()} == {("current", True, True)}
    # What prune would keep for them, too.
    assert "0 B" in project.ok("prune", "--dry-run")
    assert "theirs" in project.ok("status")
    # Of what is missing, one's own only.
    (project.entry("mine") / "disk.raw").unlink()
    (other.entry("theirs") / "disk.raw").unlink()
    assert rows(project)["raw:mine"]["state"] == "missing"
    assert "raw:theirs" not in rows(project)
    other.declare("mine", gzip.compress(disk("mine"), mtime=0), "mine.raw.gz", derive=["raw", "rootfs"])
    assert "rootfs:mine" not in rows(project)
    assert rows(other)["rootfs:mine"]["state"] == "missing"
    assert rows(other)["raw:theirs"]["state"] == "missing"


def test_one_image_in_two_versions(project: Project, tmp_path: Path) -> None:
    """Current for one of the projects is current: nobody may take it away."""
    other = another(project, tmp_path / "other")
    project.declare("a", gzip.compress(disk("old"), mtime=0), "a.raw.gz", derive=["raw"])
    other.declare("a", gzip.compress(disk("new"), mtime=0), "a.raw.gz", derive=["raw"])
    other.ok("raw:a")
    assert rows(project)["raw:a"]["state"] == "current"
    assert "0 B" in project.ok("prune", "--dry-run")


def test_a_project_that_cannot_be_read_is_left_out_of_status(project: Project, tmp_path: Path) -> None:
    other = another(project, tmp_path / "other")
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["raw"])
    other.declare("b", gzip.compress(disk("b"), mtime=0), "b.raw.gz", derive=["raw"])
    project.ok("raw:a")
    other.ok("raw:b")
    (other.folder / "images.toml").write_text("[images\n")
    assert rows(project)["raw:b"]["declared"] is False
    assert project.doit("prune", "--dry-run").status == 1


def test_a_list_that_was_never_seen_leaves_what_others_know(project: Project, tmp_path: Path) -> None:
    """What is current for this project is, whatever list another one follows; prune keeps it for want of that list."""
    other = another(project, tmp_path / "other")
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["raw"])
    project.ok("raw:a")
    other.follow("a", other.serve("a.raw.gz", b""), (tmp_path / "never-asked-for").as_uri())
    assert other.doit("list").status == 0
    assert rows(project)["raw:a"]["state"] == "current"
    assert "0 B" in project.ok("prune", "--dry-run")


@pytest.mark.parametrize("what", ["no path", "folder"])
def test_status_does_without_a_record_of_projects_that_cannot_be_read(project: Project, what: str) -> None:
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["raw"])
    project.ok("raw:a")
    record = project.cache / "roots" / ("0" * 16)
    if what == "folder":
        record.mkdir()
    else:
        record.write_text("no path")
    assert rows(project)["raw:a"]["state"] == "current"
    # What may delete has to know.
    pruned = project.doit("prune", "--dry-run")
    assert pruned.status == 1
    assert str(record) in pruned.err


def test_whatever_a_command_cannot_do_is_no_traceback(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz")
    project.hook(
        "from recipes.errors import StoreError\n"
        "from recipes.project import inventory\n"
        "def broken(*arguments):\n"
        "    raise StoreError('no such luck', hint='try again')\n"
        "inventory.rows = broken\n"
    )
    result = project.doit("status")
    assert (result.status, result.out, result.err) == (1, "", "no such luck\n  hint: try again\n")
