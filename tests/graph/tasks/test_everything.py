from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

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
