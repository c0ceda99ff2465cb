from __future__ import annotations

from tests.kit.project import Project, disk


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
