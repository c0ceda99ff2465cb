"""What add and remove have in common: which file they edit."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from doit import loader
from doit.exceptions import InvalidCommand

from recipes.graph.commands import editing
from recipes.project.workspace import Workspace
from recipes.settings import catalogue
from tests.kit.project import REPOSITORY, Project, disk

if TYPE_CHECKING:
    from pathlib import Path


SCHEMA = json.loads((REPOSITORY / "schema" / "edit.schema.json").read_text())


def test_each_key_of_the_schema_is_in_use(bare: Project, tmp_path: Path) -> None:
    (bare.folder / "disk-arm64.img").write_bytes(disk("b"))
    folder = tmp_path / "new"
    folder.mkdir()
    documents = [
        json.loads(bare.larder_ok(*words, "--json", folder=where))
        for words, where in (
            (("init", "debian-12"), folder),
            (("add", "demo"), bare.folder),
            (("add", "b", "disk-arm64.img"), bare.folder),
            (("remove", "b", "-n"), bare.folder),
            (("remove", "b"), bare.folder),
        )
    ]
    assert documents[2]["found"][0]["arches"] == ["aarch64"]
    assert set().union(*documents) == set(SCHEMA["properties"])


def space(images: Path) -> Any:
    found: Any = SimpleNamespace(settings=SimpleNamespace(images=images))
    found.is_catalogue_from = lambda here: Workspace.is_catalogue_from(found, here)
    return found


def test_a_projects_own_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "initial_workdir", str(tmp_path))
    assert editing.editable(space(tmp_path / "images.toml")) == tmp_path / "images.toml"


def test_the_catalogue_is_not_but_where_it_is_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "initial_workdir", str(tmp_path))
    with pytest.raises(InvalidCommand, match="larder init"):
        editing.editable(space(catalogue()))
    monkeypatch.setattr(loader, "initial_workdir", str(catalogue().parent / "docs"))
    assert editing.editable(space(catalogue())) == catalogue()


def test_names_of_the_catalogue() -> None:
    editing.require_known(["demo", "debian-12"])
    with pytest.raises(InvalidCommand, match="did you mean debian-12"):
        editing.require_known(["demo", "debain-12"])
