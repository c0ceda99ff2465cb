"""A cache that went through an archive or a copy is adopted, made sparse again, and not rebuilt."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.sparse import BLOCK, allocated
from tests.kit.oracles import need
from tests.kit.project import MiB, disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

SIZE = 8 * MiB


@pytest.fixture
def raw(project: Project) -> Path:
    """The RAW of a small image, made; its upstream is gone since."""
    project.declare("a", disk("a", SIZE))
    project.ok("raw:a")
    path = project.entry("a") / "disk.raw"
    assert allocated(path) < MiB
    shutil.rmtree(project.upstream)
    return path


def restore(project: Project, *commands: list[str]) -> None:
    """Replace the cache by what `commands` leave of it: from the folder `old`, to the folder `cache`."""
    old = project.cache.rename(project.cache.with_name("old"))
    for command in commands:
        subprocess.run(command, cwd=old.parent, check=True)
    shutil.rmtree(old)


TAR = ["tar", "--create", "--file=archive.tar", "--directory=old", "."]
UNTAR = ["tar", "--extract", "--file=archive.tar", "--directory=cache"]
MKDIR = ["mkdir", "cache"]
RESTORES = {
    "tar": [TAR, MKDIR, UNTAR],
    "tar with whole mtimes": [[*TAR, "--format=posix"], MKDIR, UNTAR],
    "tar without mtimes": [TAR, MKDIR, [*UNTAR, "--touch"]],
    "tar with holes": [[*TAR, "--sparse", "--format=posix"], MKDIR, UNTAR],
    "cp": [["cp", "--archive", "--sparse=never", "old", "cache"]],
    "cp without mtimes": [["cp", "--recursive", "--sparse=never", "old", "cache"]],
}


@pytest.mark.parametrize("commands", RESTORES.values(), ids=list(RESTORES))
def test_it_is_adopted_and_sparse(commands: list[list[str]], project: Project, raw: Path) -> None:
    need("tar", "cp")
    before = raw.read_bytes(), raw.stat().st_mtime_ns, allocated(raw)
    receipt = project.receipt("a", "raw")
    restore(project, *commands)
    assert project.executed("raw:a") == set()
    assert (raw.read_bytes(), raw.stat().st_mtime_ns) == before[:2]
    assert allocated(raw) <= before[2] + BLOCK
    assert project.receipt("a", "raw") == receipt
    assert project.ok("path", "raw:a").strip() == str(raw)
    found = raw.stat()
    assert project.executed("raw:a") == set()
    assert raw.stat().st_ctime_ns == found.st_ctime_ns, "it was done once"


def test_all_names_of_a_file_become_sparse(project: Project) -> None:
    project.declare("a", disk("a", SIZE), derive=["raw", "fetch"])
    project.ok("raw:a", "fetch:a")
    wrapper, raw = project.entry("a") / "wrapper", project.entry("a") / "disk.raw"
    shutil.rmtree(project.upstream)
    restore(project, [*TAR, "--format=posix"], MKDIR, UNTAR)
    assert allocated(raw) >= SIZE
    assert project.executed("raw:a", "fetch:a") == set()
    assert wrapper.samefile(raw)
    assert allocated(raw) < MiB


def test_what_was_damaged_on_the_way_is_rebuilt(project: Project) -> None:
    project.declare("a", disk("a", SIZE))
    project.ok("raw:a")
    raw = project.entry("a") / "disk.raw"
    content = raw.read_bytes()
    raw.chmod(0o644)
    raw.write_bytes(content[:-1] + b"x")
    assert "raw:a" in project.executed("raw:a")
    assert raw.read_bytes() == content


def test_a_file_that_cannot_have_holes_is_looked_at_once(project: Project, raw: Path) -> None:
    project.hook(
        "import recipes.formats.io.sparse as sparse\n"
        "def refuse(*_):\n"
        "    raise OSError(95, 'not here')\n"
        "sparse._punch_hole = refuse\n"
    )
    restore(project, [*TAR, "--format=posix"], MKDIR, UNTAR)
    assert project.executed("raw:a") == set()
    assert project.receipt("a", "raw")["artifact"]["allocated"] == allocated(raw) >= SIZE
    found = raw.stat()
    assert project.executed("raw:a") == set()
    assert raw.stat().st_ctime_ns == found.st_ctime_ns
    assert found.st_mode & 0o777 == 0o444


def test_an_artifact_of_somebody_else_is_left_as_it_is(project: Project, raw: Path) -> None:
    if os.geteuid():
        pytest.skip("giving files away takes root")
    restore(project, [*TAR, "--format=posix"], MKDIR, UNTAR)
    os.chown(raw, 12345, -1)
    assert project.executed("raw:a") == set()
    assert allocated(raw) >= SIZE
