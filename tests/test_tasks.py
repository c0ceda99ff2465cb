"""A dodo.py of one's own, through the real program: it fetches, and its task uses what was made."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from typing import TYPE_CHECKING

from tests.kit.project import OWN_DODO, REPOSITORY, Project, disk

if TYPE_CHECKING:
    from pathlib import Path


def test_a_task_that_uses_an_artifact(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(OWN_DODO)
    assert bare.real("use").status == 0
    assert (bare.folder / "used").read_bytes() == disk("a")
    result = bare.real("use")
    assert (result.status, result.out) == (0, "-- raw:a\n-- use\n")
    assert not list(bare.folder.glob(".doit*"))


def test_what_it_says_of_the_run_counts(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(OWN_DODO.replace("globals())", 'globals(), default_tasks=["use"])'))
    assert ".  use\n" in bare.ok()


def test_an_artifact_that_cannot_be(bare: Project) -> None:
    bare.declare("image", disk("a"))
    for word, said in (("raw:imgae", "raw:image"), ("image", "expected KIND:IMAGE"), ("rw:image", "raw:image")):
        (bare.folder / "dodo.py").write_text(OWN_DODO.replace('path("raw:a")', f'path("{word}")'))
        for result in (bare.larder("list"), bare.doit("list")):
            assert result.status == 3
            assert result.err.startswith(f"tasks.path: {word}: ")
            assert said in result.err


def test_the_declarations_may_be_above(bare: Project) -> None:
    below = bare.folder / "below"
    below.mkdir()
    (below / "dodo.py").write_text(OWN_DODO)
    assert "use" in bare.larder_ok("list", folder=below).split()
    assert tomllib.loads((bare.folder / "images.toml").read_text())["images"].keys() == {"a"}


def test_the_front_door_of_the_checkout_is_one_too() -> None:
    assert (REPOSITORY / "dodo.py").read_text().endswith(OWN_DODO.partition("\n\n\n")[0] + "\n")


def test_the_dodo_of_the_documentation(bare: Project) -> None:
    text = (REPOSITORY / "docs" / "project.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert bare.larder("add", "demo").status == 0
    (bare.folder / "dodo.py").write_text(code)
    assert bare.real("boot").status == 0
    assert (bare.folder / "disk.raw").stat().st_size == 64 << 20
    assert bare.ok("boot") == bare.larder_ok("boot") == "-- raw:demo\n-- boot\n"


def test_the_commands_of_the_documentation(bare: Project, tmp_path: Path) -> None:
    """Each `console` block prints what it shows, one after the other in one folder."""
    text = (REPOSITORY / "docs" / "project.md").read_text()
    folder = tmp_path / "a project"
    folder.mkdir()
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        shown, printed = [line for line in block.splitlines() if line[:1] != "$"], ""
        for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            program, *words = shlex.split(command)
            if program == "larder":
                printed += bare.larder_ok(*words, folder=folder)
            else:
                subprocess.run([program, *words], cwd=folder, check=True)
        # How much of the file stands before the hunk is no matter.
        assert re.sub("(?m)^@@.*", "@@", printed).splitlines() == [re.sub("^@@.*", "@@", line) for line in shown]
