from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.graph.commands.help import next_commands
from recipes.kinds import KINDS

if TYPE_CHECKING:
    from tests.kit.project import Project


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_paths_in_commands_are_for_a_shell(kind: str) -> None:
    said = next_commands(kind, "a", Path("/my images/a.raw"))
    assert "{path}" not in said
    assert "{image}" not in said
    if "images/a.raw" in said:
        assert "'/my images/a.raw'" in said


def test_everything_on_one_screen(bare: Project) -> None:
    out = bare.larder_ok("help")
    assert "larder help KIND:IMAGE" in out
    for command in ("status", "plan", "prune", "verify"):
        assert command in out


def test_of_an_artifact_of_this_project(bare: Project) -> None:
    out = bare.larder_ok("help", "raw:a")
    assert out.startswith("raw:a")
    assert str(bare.entry("a") / "disk.raw") in out


@pytest.mark.parametrize("word", ["run", "status", "raw", "clone"])
def test_of_a_command_or_a_kind(bare: Project, word: str) -> None:
    assert f"larder {word}" in bare.larder_ok("help", word)


@pytest.mark.parametrize("word", ["raw:nothing", "nothing", "nothing:a"])
def test_of_what_is_not_there(bare: Project, word: str) -> None:
    result = bare.larder("help", word)
    assert result.status == 3
    assert word in result.err
    assert "Traceback" not in result.err
