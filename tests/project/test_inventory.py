from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from recipes.project import inventory
from recipes.project.inventory import Row
from tests.kit.disks import damage
from tests.kit.project import disk
from tests.kit.spaces import ask, build, opened

if TYPE_CHECKING:
    from recipes.project.workspace import Workspace
    from tests.kit.project import Project


@pytest.fixture
def space(project: Project, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    project.declare("a", gzip.compress(disk("a"), mtime=0), derive=["raw"])
    project.declare("b", disk("b"), derive=[])
    return opened(project, monkeypatch)


def rows(space: Workspace, *names: str) -> dict[str, Row]:
    return {f"{row.kind}:{row.image}": row for row in inventory.rows(space, set(names) or None)}


def test_what_is_asked_for_and_not_there(space: Workspace) -> None:
    (row,) = rows(space).values()
    assert (row.kind, row.state, row.size, row.asked, row.declared) == ("raw", "missing", None, True, True)


def test_what_is_there(space: Workspace) -> None:
    build(space, "raw", "a")
    ask(space, "fetch", "b")
    found = rows(space)
    assert {name: row.state for name, row in found.items()} == {"raw:a": "current", "fetch:b": "current"}
    raw = found["raw:a"]
    assert raw.size == len(disk("a"))
    assert raw.allocated is not None
    assert raw.allocated < len(disk("a"))
    assert raw.receipt is not None
    assert set(raw.to_json()) >= {"image", "arch", "kind", "state", "path", "size", "allocated", "receipt", "clones"}


def test_of_some_images(space: Workspace) -> None:
    build(space, "raw", "a")
    ask(space, "raw", "b")
    assert list(rows(space, "b")) == ["raw:b"]
    assert rows(space, "nothing") == {}


def test_what_is_not_as_it_was(space: Workspace) -> None:
    build(space, "raw", "a")
    path = rows(space)["raw:a"].path
    damage(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert rows(space)["raw:a"].state == "changed"


def test_what_upstream_replaced(project: Project, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    build(space, "raw", "a")
    project.declare("a", gzip.compress(disk("new"), mtime=0), derive=["raw"])
    assert rows(opened(project, monkeypatch))["raw:a"].state == "stale"


def test_a_download_that_was_begun(space: Workspace) -> None:
    entry = space.session.store.entry(space.images["a"])
    entry.path.mkdir(parents=True)
    entry.part.write_bytes(b"x" * 100)
    found = rows(space)
    assert (found["fetch:a"].state, found["fetch:a"].size) == ("partial", 100)
    assert inventory.totals(list(found.values())).artifacts == 0


def test_sums_count_a_file_once(space: Workspace) -> None:
    """Content that was not compressed is the wrapper by another name."""
    for kind in ("fetch", "content"):
        ask(space, kind, "b")
    found = [row for row in inventory.rows(space) if row.image == "b"]
    assert [row.kind for row in found] == ["fetch", "content"]
    sums = inventory.totals(found)
    assert sums.artifacts == 2
    assert sums.allocated == found[0].allocated


def test_holes_are_those_of_disks(space: Workspace) -> None:
    build(space, "raw", "a")
    found = inventory.rows(space)
    (raw,) = found
    assert raw.size is not None
    assert raw.allocated is not None
    assert inventory.totals(found).holes == raw.size - raw.allocated


def test_nobody_can_tell_what_some_clones_save() -> None:
    from pathlib import Path

    row = Row("a", "x86_64", "raw", "current", declared=True, asked=True, path=Path("x"))
    assert row.saved == 0
    assert row.to_json()["receipt"] is None
