"""doit's own commands, in projects of larder's and in others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kit.project import Project


def test_they_work(bare: Project) -> None:
    bare.larder_ok("raw:a")
    assert '"raw:a"' in bare.larder_ok("dumpdb")
    assert "forgetting raw:a" in bare.larder_ok("forget", "raw:a")
    assert '"raw:a"' not in bare.larder_ok("dumpdb")
    assert "ignoring raw:a" in bare.larder_ok("ignore", "raw:a")
    assert bare.larder_ok("raw:a") == "!! raw:a\n"
    bare.larder_ok("forget", "raw:a")
    assert bare.larder_ok("raw:a") == "-- raw:a\n"
    assert "raw:a" in bare.larder_ok("reset-dep", "raw:a")
    assert "up-to-date" in bare.larder_ok("info", "raw:a")
    result = bare.larder("strace", "raw:a")
    assert (result.status, result.err) == (3, "ERROR: strace follows commands of a shell, and raw:a has none\n")


def test_of_a_project_that_is_not_larders(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(
        "DOIT_CONFIG = {'backend': 'json'}\n\n\ndef task_hello():\n    return {'actions': ['echo hello']}\n"
    )
    result = bare.larder("dumpdb")
    assert result.status == 3
    assert "Traceback" not in result.err
