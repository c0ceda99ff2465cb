from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from recipes.formats.io.sparse import allocated
from recipes.units import format_size
from tests.kit.lima import entry_of as lima_entry
from tests.kit.project import Project, disk

if TYPE_CHECKING:
    from pathlib import Path


def test_what_could_not_be_deleted_is_a_failure(project: Project) -> None:
    project.declare("a", disk("a"), derive=["raw"])
    project.declare("b", disk("b"), derive=["raw"])
    project.ok("raw:a", "raw:b")
    raw = project.entry("a") / "disk.raw"
    raw.unlink()
    (raw / "in the way").mkdir(parents=True)
    result = project.doit("clean", "raw:a", "raw:b")
    assert result.status == 1
    assert result.err.startswith(f"raw:a: {raw}: ")
    assert "Traceback" not in result.err
    assert "disk.raw" not in project.files("b")
    assert project.doit("clean", "--dry-run", "raw:a").status == 0
    assert project.doit("clean", "raw:b").status == 0


def test_everything_is_what_is_in_the_cache(project: Project, tmp_path: Path) -> None:
    project.environ["XDG_CACHE_HOME"] = str(tmp_path / "caches")
    project.declare("a", disk("a"), derive=["raw"])
    # Nobody has asked for its list, so nothing says what of it Lima might have.
    project.follow("b", "https://example.org/b.img", "https://example.org/SUMS")
    project.ok("raw:a")
    url = "https://example.org/a.img"
    project.declared["a"]["source"]["url"] = [(project.upstream / "a.img").as_uri(), url]
    project.write()
    lima = lima_entry(tmp_path / "caches" / "lima", url)
    lima.mkdir(parents=True)
    (lima / "data").write_bytes(disk("a"))
    (lima / "sha256.digest").write_text(project.declared["a"]["source"]["digest"])
    result = project.doit("clean", "-a")
    assert result.status == 0, result.err
    assert result.err == ""
    assert project.files("a") == set()
    assert (lima / "data").exists(), "Lima's cache is not larder's"
    assert project.doit("clean", "clone:a").status == 0
    project.ok("clean", "lima:a")
    assert not lima.exists()


def size_of(project: Project, file: str) -> str:
    return format_size(allocated(project.entry("a") / file))


def test_what_went_is_said(project: Project, tmp_path: Path) -> None:
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz")
    project.declare("b", disk("b"))
    project.ok("raw:a", "raw:b", "fetch:a")
    assert project.ok("clean", "-n", "fetch:a", "raw:a").splitlines() == [
        f"fetch:a: would be deleted, {size_of(project, 'wrapper')} freed",
        f"raw:a: would be deleted, {size_of(project, 'disk.raw')} freed",
    ]
    raw, wrapper = size_of(project, "disk.raw"), size_of(project, "wrapper")
    assert project.ok("clean", "raw:a") == f"raw:a: deleted, {raw} freed\n"
    assert project.ok("clean", "raw:a") == "nothing of it is in the cache\n"
    project.ok("clone:b", "--to", str(tmp_path / "b.raw"), "--mode", "hardlink", "--format", "qcow2")
    assert project.ok("clean", "raw:b") == "raw:b: deleted; its file has another name, so that nothing is freed\n"
    # Of hundreds of tasks those that had something are named.
    assert project.ok("clean", "-a").splitlines() == [f"fetch:a: deleted, {wrapper} freed"]


def test_tasks_of_ones_own_are_cleaned_as_doit_does(project: Project) -> None:
    project.declare("a", disk("a"))
    own = 'def task_own():\n    return {"actions": ["touch made"], "clean": ["echo away; rm made"]}\n'
    (project.folder / "dodo.py").write_text((project.folder / "dodo.py").read_text() + own)
    project.ok("own")
    assert "away" in project.ok("clean", "own")
    assert not (project.folder / "made").exists()
