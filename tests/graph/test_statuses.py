"""What a run and the commands exit with, as the README has it: 1 what could not be, 2 bugs, 3 what was not tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.project import Project, disk, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

BUG = """

def task_bug():
    return {"actions": [lambda: 1 / 0]}


def task_fails():
    return {"actions": ["exit 5"]}
"""


@pytest.fixture
def broken(bare: Project) -> Project:
    """Return a project with an image that is there, `a`, and one whose bytes are not what was declared."""
    bare.declare("wrong", disk("wrong"))
    bare.declared["wrong"]["source"]["digest"] = sha256(b"other")
    bare.write()
    return bare


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["raw:a"], 0),
        (["raw:wrong"], 1),
        # Of a task whose input could not be made doit says 2, which is for bugs.
        (["-c", "raw:wrong", "raw:a"], 1),
        (["-c", "-n", "2", "raw:wrong", "raw:a"], 1),
        (["-c", "-r", "json", "raw:wrong"], 1),
        (["clone:wrong", "--to", "x"], 1),
        (["raw:nothing"], 3),
        (["raw:a", "--no-such-option"], 3),
        (["status", "--no-such-option"], 3),
        (["-n", "many", "raw:a"], 3),
        (["--arch", "pdp11", "raw:a"], 3),
        (["path", "raw:wrong"], 1),
        (["path", "raw:nothing"], 3),
        (["plan", "raw:a"], 0),
        (["prune", "--older-than", "yesterday"], 3),
        (["verify", "nothing"], 3),
        (["update", "nothing"], 3),
        (["--offline", "update"], 3),
    ],
)
def test_statuses(words: Sequence[str], status: int, broken: Project) -> None:
    result = broken.larder(*words)
    assert result.status == status, result
    assert "Traceback" not in result.err + result.out


@pytest.mark.parametrize(("words", "status"), [(["bug"], 2), (["-c", "bug", "raw:a"], 2), (["fails"], 1)])
def test_tasks_of_ones_own(words: Sequence[str], status: int, bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(f"from recipes import tasks\n\nDOIT_CONFIG = tasks.use(globals())\n{BUG}")
    for result in (bare.larder(*words), bare.doit(*words)):
        assert result.status == status, result


def test_a_plan_of_what_nobody_can_know(bare: Project) -> None:
    bare.follow("floats", bare.serve("b.img", disk("b")), (bare.upstream / "SUMS").as_uri())
    result = bare.larder("plan", "floats")
    assert result.status == 1
    assert bare.larder("plan", "a").status == 0
    assert bare.larder("keys", "floats").status == 1


@pytest.mark.parametrize("text", ["[images", "[images.a]\n", "images = 1\n"])
def test_declarations_that_are_wrong(text: str, bare: Project) -> None:
    (bare.folder / "images.toml").write_text(text)
    for words in (["raw:a"], ["status"], ["list"], ["add", "demo"]):
        result = bare.larder(*words)
        assert (result.status, "Traceback" in result.err) == (3, False), result
        assert result.err.startswith("images.toml:")
