"""What a command line names, and what a run works towards; runs themselves are in tests/graph/tasks/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from doit import loader
from doit.exceptions import InvalidCommand
from doit.task import Task

from recipes.graph.run import expand, require_usable, task_options, wanted
from recipes.graph.tasks.optional import OptionTask
from recipes.kinds import KINDS
from tests.kit.project import disk
from tests.kit.spaces import opened

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.project.workspace import Workspace
    from tests.kit.project import Project


class Push(OptionTask):
    def read(self, options: dict[str, Any]) -> tuple[str, ...]:
        return (options["kind"],)


@pytest.fixture
def space(project: Project, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    project.declare("a", disk("a"), derive=["fetch", "raw"])
    project.declare("b", disk("b"), derive=[])
    # Where somebody who runs doit is.
    monkeypatch.setattr(loader, "initial_workdir", str(project.folder))
    return opened(project, monkeypatch)


@pytest.fixture
def tasks(space: Workspace) -> dict[str, Task]:
    """Return the tasks of two images, a push of each, and one that somebody wrote."""
    found = {}
    for kind in ("fetch", "content", "raw"):
        names = [f"{kind}:{image}" for image in ("a", "b")]
        found[kind] = Task(kind, None, task_dep=names, has_subtask=True)
        for name in names:
            image = name.partition(":")[2]
            inputs = {"content": [f"fetch:{image}"], "raw": [f"content:{image}"]}.get(kind, [])
            target = str(space.session.store.entry(space.images[image]).artifact(kind))
            found[name] = Task(
                name, None, setup=inputs, subtask_of=kind, targets=[target], meta={"kind": kind, "image": image}
            )
    for image in ("a", "b"):
        params = [{"name": "kind", "long": "kind", "default": "raw"}]
        found[f"push:{image}"] = Push("push", space.images[image], "push it", params)
    found["mine"] = Task("mine", None, task_dep=["raw:b"], file_dep=found["fetch:a"].targets)
    return found


class TestExpanding:
    @pytest.mark.parametrize(
        ("words", "names"),
        [
            (["raw:a"], ["raw:a"]),
            (["raw"], ["raw:a", "raw:b"]),
            (["fetch", "mine"], ["fetch:a", "fetch:b", "mine"]),
            (["a"], ["fetch:a", "raw:a"]),
            (["*:b"], ["fetch:b", "content:b", "raw:b"]),
            (["raw:*"], ["raw:a", "raw:b"]),
            (["m*"], ["mine"]),
            (["push:a", "--kind", "fetch", "raw:b"], ["push:a", "raw:b"]),
            (["push", "--kind=fetch"], ["push:a", "push:b"]),
            (["push:*"], ["push:a", "push:b"]),
        ],
        ids=" ".join,
    )
    def test_words_become_tasks(self, tasks: dict[str, Task], words: list[str], names: list[str]) -> None:
        assert expand(words, tasks) == names

    def test_a_file_is_the_task_that_makes_it(self, tasks: dict[str, Task]) -> None:
        assert expand([tasks["raw:a"].targets[0]], tasks) == ["raw:a"]

    def test_options_become_dependencies(self, tasks: dict[str, Task]) -> None:
        expand(["push", "--kind=fetch"], tasks)
        assert [tasks[f"push:{image}"].task_dep for image in ("a", "b")] == [["fetch:a"], ["fetch:b"]]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["b"], r"images.toml asks for nothing of b \(derive = \[\]\): name one of fetch:b"),
            (["x*"], "no task matches 'x\\*'"),
            (["clone"], "a clone is of one image"),
            (["clone:*"], "a clone is of one image"),
            (["push:a", "push:a"], "push:a is named twice"),
            (["raw:a", "--nonsense"], "raw:a: "),
            (["rwa:a"], "there is no kind rwa"),
            (["nothing"], "nothing"),
        ],
        ids=str,
    )
    def test_what_names_nothing(self, tasks: dict[str, Task], words: list[str], said: str) -> None:
        with pytest.raises(InvalidCommand, match=said):
            expand(words, tasks)


class TestWanted:
    def of(self, tasks: dict[str, Task], *names: str) -> dict[str, set[str]]:
        return wanted({name: tasks[name] for name in names}, tasks)

    def test_what_is_named_and_not_what_it_is_made_from(self, tasks: dict[str, Task]) -> None:
        assert self.of(tasks, "raw:a") == {"a": {"raw"}}
        assert self.of(tasks, "raw:a", "fetch:a", "raw:b") == {"a": {"raw", "fetch"}, "b": {"raw"}}

    def test_what_others_depend_on(self, tasks: dict[str, Task]) -> None:
        assert self.of(tasks, "mine") == {"b": {"raw"}, "a": {"fetch"}}

    def test_what_options_ask_for(self, tasks: dict[str, Task]) -> None:
        expand(["push:a", "--kind", "content"], tasks)
        assert self.of(tasks, "push:a") == {"a": {"content"}}

    def test_nothing(self, tasks: dict[str, Task]) -> None:
        assert self.of(tasks) == {}


class TestOptions:
    def test_how_many_at_once(self, tmp_path: Path) -> None:
        require_usable({"num_process": 0, "outfile": None})
        require_usable({"num_process": 4, "outfile": str(tmp_path / "out")})
        with pytest.raises(InvalidCommand, match="-n: expected how many tasks"):
            require_usable({"num_process": -1, "outfile": None})

    def test_a_file_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidCommand, match="cannot be written to"):
            require_usable({"num_process": 0, "outfile": str(tmp_path / "gone/out")})

    def test_every_group_of_tasks_is_known_before_tasks_are(self) -> None:
        found = task_options()
        assert found.keys() >= {*KINDS, "clone", "push"}
        assert "to" in {option.name for option in found["clone"]}
