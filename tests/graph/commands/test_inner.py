"""doit's own commands, in projects of larder's and in others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from recipes.kinds import DERIVABLE
from tests.kit.project import OWN_DODO, disk, sha256

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
    result = bare.larder("strace", "raw:a")
    assert (result.status, result.err) == (3, "ERROR: strace follows commands of a shell, and raw:a has none\n")


class TestInfo:
    def test_of_an_artifact(self, bare: Project) -> None:
        result = bare.larder("info", "raw:a")
        assert (result.status, result.err) == (1, "")
        lines = result.out.splitlines()
        assert lines[0] == "raw:a  a as a sparse RAW disk"
        assert lines[1] == "  state         would run: it is not in the cache"
        facts = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in lines[1:])
        assert facts["upstream"].startswith(f"{sha256(disk('a'))} from file:")
        assert facts["made from"] == "content:a"
        assert facts["asked for by"] == f"derive of {bare.folder / 'images.toml'}"
        assert facts["file"] == str(bare.entry("a") / "disk.raw")
        bare.larder_ok("raw:a")
        assert "up to date, made 20" in bare.larder_ok("info", "raw:a")
        assert "asked for by  the command line and derive of" in bare.larder_ok("info", "raw:a")

    def test_of_an_image(self, bare: Project) -> None:
        bare.larder_ok("raw:a")
        lines = bare.larder_ok("info", "a").splitlines()
        assert [line.split()[0] for line in lines] == [f"{kind}:a" for kind in DERIVABLE["disk"]]
        assert [line.split()[0] for line in lines if "up to date" in line] == ["raw:a"]

    def test_of_what_is_done_with_one(self, bare: Project) -> None:
        assert bare.larder_ok("info", "clone:a").endswith("  `larder help clone` says how it is used\n")

    def test_of_tasks_of_ones_own(self, project: Project) -> None:
        (project.folder / "dodo.py").write_text(OWN_DODO)
        project.declare("a", disk("a"))
        assert "task_dep" in project.doit("info", "use").out
        assert "raw:a  a as a sparse RAW disk" in project.doit("info", "raw:a").out
        result = project.doit("info", "raw:b")
        assert (result.status, "declares no image 'b'" in result.err) == (3, True)


def test_of_a_project_that_is_not_larders(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(
        "DOIT_CONFIG = {'backend': 'json'}\n\n\ndef task_hello():\n    return {'actions': ['echo hello']}\n"
    )
    result = bare.larder("dumpdb")
    assert result.status == 3
    assert "Traceback" not in result.err
