from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from doit import loader

from recipes.graph.tasks import everything
from recipes.kinds import KINDS
from recipes.project import workspace
from tests.kit.project import Project, disk

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the process as it was: a run of doit has it for itself."""
    before = gc.get_threshold()
    monkeypatch.setattr(workspace, "_current", None)
    yield
    gc.set_threshold(*before)


def test_all_that_doit_looks_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("a", disk("a"), derive=["fetch", "raw"], prewarm=True)
    project.declare("b", disk("b"))
    for name, value in project.environ.items():
        if name.startswith("LARDER_"):
            monkeypatch.setenv(name, value)
    found = everything.load(project.folder)
    config = found.pop("DOIT_CONFIG")
    assert config["default_tasks"] == ["fetch:a", "raw:a"]
    assert config["dep_file"] == str(project.cache / "doit.db")
    assert {f"task_{kind}" for kind in KINDS} | {"task_clone", "task_lima", "task_resolve", "task__sums"} <= set(found)
    assert all(callable(each) for each in found.values())


class TestNarrowed:
    @pytest.fixture
    def namespace(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        project.declare("a", disk("a"), prewarm=True)
        project.declare("b", disk("b"))
        for name, value in project.environ.items():
            if name.startswith("LARDER_"):
                monkeypatch.setenv(name, value)
        return everything.load(project.folder)

    @staticmethod
    def tasks(namespace: dict[str, Any]) -> set[str]:
        made = loader.load_tasks(namespace)
        return {task.name for task in made if ":" in task.name}

    @pytest.mark.parametrize("words", [["raw:a"], ["a"], []])
    def test_one_image_needs_no_other(self, namespace: dict[str, Any], words: list[str]) -> None:
        found = self.tasks(everything.narrowed(namespace, words))
        assert found == {"resolve:a", "fetch:a", "content:a", "raw:a"}

    def test_what_does_not_tell_needs_all(self, namespace: dict[str, Any]) -> None:
        assert self.tasks(everything.narrowed(namespace, ["raw:*"])) == self.tasks(namespace)

    def test_tasks_of_others_may_need_all(self, namespace: dict[str, Any]) -> None:
        def task_mine() -> dict[str, Any]:
            return {"actions": None, "task_dep": ["raw:b"]}

        namespace["task_mine"] = task_mine
        assert "raw:b" in self.tasks(everything.narrowed(namespace, ["raw:a"]))
