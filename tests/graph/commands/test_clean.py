from __future__ import annotations

from typing import TYPE_CHECKING

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
