"""What each file of the cache is to the projects that share it."""

from __future__ import annotations

import gzip
import os
import time
from typing import TYPE_CHECKING

import pytest

from recipes.cache.prune import Standing
from recipes.errors import LarderError
from recipes.project import holdings
from tests.kit.project import disk
from tests.kit.spaces import ask, build, opened

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.project.workspace import Workspace
    from tests.kit.project import Project

DAYS = 86400


@pytest.fixture
def space(project: Project, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return the workspace of an image whose RAW was made and is declared, with its wrapper, which nobody asked for."""
    project.declare("a", gzip.compress(disk("a"), mtime=0), derive=["raw"])
    found = opened(project, monkeypatch)
    build(found, "raw", "a")
    return found


def again(project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, Standing]:
    return standings(opened(project, monkeypatch))


def standings(space: Workspace) -> dict[str, Standing]:
    return {str(item.path.relative_to(space.session.store.root)): item.standing for item in holdings.items(space)}


RAW, FETCH = "images/a/x86_64/disk.raw", "images/a/x86_64/wrapper"


def aged(path: Path, days: float) -> None:
    when = time.time() - days * DAYS
    os.utime(path, (when, when))


def test_what_is_declared_is_wanted(space: Workspace) -> None:
    assert standings(space) == {RAW: Standing.WANTED}


def test_what_nobody_asked_for(space: Workspace) -> None:
    build(space, "content", "a")
    found = standings(space)
    assert found.pop(RAW) == Standing.WANTED
    assert set(found.values()) == {Standing.UNASKED}


def test_what_was_named_is_wanted_until_upstream_has_another(
    project: Project, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(space, "fetch", "a")
    assert set(standings(space).values()) == {Standing.WANTED}
    project.declare("a", gzip.compress(disk("b"), mtime=0), derive=[])
    found = again(project, monkeypatch)
    assert found.pop(RAW) == Standing.SUPERSEDED
    assert set(found.values()) == {Standing.WANTED}, "it stays until another takes its place"


def test_what_nobody_declares(project: Project, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    del space
    project.declared.clear()
    project.declare("b", disk("b"))
    assert again(project, monkeypatch)[RAW] == Standing.UNDECLARED


def test_an_identity_that_nothing_tells(project: Project, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    del space
    project.declared.clear()
    project.follow("a", "https://h.example/a.img", "https://h.example/SUMS")
    assert again(project, monkeypatch)[RAW] == Standing.UNKNOWN


def test_an_artifact_without_a_receipt(project: Project, space: Workspace) -> None:
    (project.entry("a") / "raw.json").unlink()
    assert standings(space)[RAW] == Standing.LEFTOVER
    (project.entry("a") / "raw.json").write_text("{}")
    assert standings(space)[RAW] == Standing.UNKNOWN, "one that this version does not read is one"


@pytest.mark.parametrize(("days", "standing"), [(1, Standing.WANTED), (8, Standing.ABANDONED)])
def test_a_download_that_was_begun(project: Project, space: Workspace, days: int, standing: Standing) -> None:
    project.files("a")
    (project.entry("a") / "disk.raw").unlink()
    (project.entry("a") / "raw.json").unlink()
    part = space.session.store.entry(space.images["a"]).part
    part.write_bytes(b"x")
    aged(part, days)
    assert list(standings(space).values()) == [standing]


def test_a_download_that_nobody_lacks(space: Workspace) -> None:
    part = space.session.store.entry(space.images["a"]).part
    part.write_bytes(b"x")
    assert standings(space)[str(part.relative_to(space.session.store.root))] == Standing.ABANDONED


def test_what_killed_runs_left_but_not_what_runs_write(project: Project, space: Workspace) -> None:
    entry = space.session.store.entry(space.images["a"])
    with entry.hold() as held:
        left = held.temporary("raw")
        left.write_bytes(b"x")
        assert str(left.relative_to(project.cache)) not in standings(space)
        assert all(item.busy for item in holdings.items(space))
    assert standings(space)[str(left.relative_to(project.cache))] == Standing.LEFTOVER
    assert not any(item.busy for item in holdings.items(space))


@pytest.mark.parametrize(
    ("name", "days", "goes"),
    [
        ("lists/other.json", 0, True),
        ("lists/.draft", 0.5, False),
        ("lists/.draft", 1.5, True),
        ("validated/old", 29, False),
        ("validated/old", 31, True),
        ("roots/.draft", 0.5, False),
        ("roots/.draft", 1.5, True),
    ],
)
def test_what_no_declaration_needs(project: Project, space: Workspace, name: str, days: float, goes: bool) -> None:
    path = project.cache / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    aged(path, days)
    assert (standings(space).get(name) == Standing.LEFTOVER) is goes


def test_a_project_that_is_gone(project: Project, space: Workspace, tmp_path: Path) -> None:
    from recipes.cache import roots

    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "images.toml").write_text("")
    roots.register(project.cache, gone / "images.toml")
    (gone / "images.toml").unlink()
    assert Standing.LEFTOVER in standings(space).values()


def test_a_project_that_cannot_be_read_stops_it(project: Project, space: Workspace, tmp_path: Path) -> None:
    from recipes.cache import roots

    other = tmp_path / "other"
    other.mkdir()
    (other / "images.toml").write_text("nonsense")
    roots.register(project.cache, other / "images.toml")
    with pytest.raises(LarderError):
        holdings.items(space)
