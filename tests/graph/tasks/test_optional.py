from __future__ import annotations

from typing import Any

import pytest
from doit.exceptions import InvalidCommand, TaskFailed

from recipes.errors import Interrupted, LarderError, StoreError
from recipes.graph.tasks.optional import OptionTask
from recipes.model import Digest, Image, Source

IMAGE = Image("a", "x86_64", "disk", Source(("https://h.example/a.img",), Digest("sha256", "a" * 64)))
PARAMS: list[dict[str, Any]] = [
    {"name": "to", "long": "to", "default": ""},
    {"name": "force", "long": "force", "type": bool, "default": False},
]


class Copy(OptionTask):
    """One that needs the RAW, and where to put it."""

    error: LarderError | None = None
    acted = 0

    def read(self, options: dict[str, Any]) -> tuple[str, ...]:
        if not options["to"]:
            raise StoreError("expected --to PATH")
        return ("raw",)

    def act(self) -> None:
        self.acted += 1
        if self.error:
            raise self.error


@pytest.fixture
def task() -> Copy:
    return Copy("copy", IMAGE, "copy it", PARAMS)


def test_it_depends_on_what_its_options_say(task: Copy) -> None:
    assert task.name == "copy:a"
    assert task.task_dep == []
    assert task.init_options(["--to", "x", "raw:b"]) == ["raw:b"]
    assert (task.kinds, task.task_dep) == (("raw",), ["raw:a"])
    assert task.options is not None
    assert (task.options["to"], task.options["force"]) == ("x", False)


def test_what_else_is_selected_is_not_forgotten(task: Copy) -> None:
    task.init_options(["--to", "x"])
    assert task.init_options(["raw:b"]) == ["raw:b"]
    assert task.init_options() == []
    assert task.task_dep == ["raw:a"], "its options were read once"


def test_without_a_command_line_nothing_is_needed(task: Copy) -> None:
    """As when it is listed, or a dependency of somebody's own task."""
    task.init_options()
    assert (task.kinds, task.task_dep) == ((), [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "copy:a: expected --to PATH"),
        (["--to"], "copy:a: "),
        (["--nonsense"], "copy:a: "),
        (["--force=x", "--to", "y"], "copy:a: "),
    ],
)
def test_options_that_nothing_can_come_of(task: Copy, words: list[str], said: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        task.init_options(words)
    assert str(caught.value).startswith(said)
    assert "Traceback" not in str(caught.value)


def test_it_does_what_it_is_for(task: Copy) -> None:
    assert task._act() == {}
    assert task.acted == 1


def test_its_errors_are_told(task: Copy) -> None:
    task.error = StoreError("no", hint="try")
    failed = task._act()
    assert isinstance(failed, TaskFailed)
    assert failed.message == "no\n  hint: try"
    task.error = Interrupted("told to stop")
    failed = task._act()
    assert isinstance(failed, TaskFailed)
    assert not failed.report


def test_a_task_without_a_meaning_is_none() -> None:
    bare = OptionTask("copy", IMAGE, "copy it", PARAMS)
    with pytest.raises(NotImplementedError):
        bare.read({})
    with pytest.raises(NotImplementedError):
        bare.act()
