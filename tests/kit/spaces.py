"""A project's workspace in the process of the test, for what is about facts and not about the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.derive import engine
from recipes.project import workspace

if TYPE_CHECKING:
    import pytest

    from recipes.cache.receipt import Receipt
    from recipes.project.workspace import Workspace

    from .project import Project


def opened(project: Project, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Open the workspace of `project`, as a command does; the test's end closes it."""
    monkeypatch.setattr(workspace, "_current", None)
    for name in ("LARDER_OFFLINE", "LARDER_STRICT", "LARDER_IMAGES", "LARDER_JOBS", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in project.environ.items():
        if name.startswith("LARDER_"):
            monkeypatch.setenv(name, value)
    return workspace.open_workspace(project.folder)


def build(space: Workspace, kind: str, name: str) -> Receipt:
    """Make an artifact that nobody asked for."""
    image = space.images[name]
    return engine.derive(kind, image, space.identity(image), space.session)


def ask(space: Workspace, kind: str, name: str) -> Receipt:
    """Make an artifact that a command line named."""
    space.session.store.entry(space.images[name]).ask(kind)
    return build(space, kind, name)
