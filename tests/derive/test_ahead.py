from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from recipes.derive.engine import RECIPES
from recipes.errors import DigestMismatch, LarderError, NoSpace, UnsupportedFeature
from recipes.formats.wrapper import unwrap
from recipes.model import Digest
from tests.kit.archives import tar
from tests.kit.machines import Machine
from tests.kit.project import disk, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.derive.recipe import Made, Work


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "a", "localhost:1", data=gzip.compress(disk("thing"), mtime=0))


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was decoded once it was there as a whole."""
    seen: list[str] = []
    whole = unwrap.unwrap

    def watched(source: Path, *arguments: Any, **options: Any) -> unwrap.Unwrapped:
        seen.append(source.name)
        return whole(source, *arguments, **options)

    monkeypatch.setattr(unwrap, "unwrap", watched)
    return seen


def test_content_is_made_while_the_wrapper_arrives(machine: Machine, whole: list[str]) -> None:
    receipt = machine.build()
    assert not whole
    assert list(receipt.durations) == ["fetch", "content", "raw"]
    assert machine.entry.artifact("raw").read_bytes() == disk("thing")
    assert {path.name for path in machine.entry.path.iterdir()} == {"disk.raw", "raw.json", ".lock"}


def test_nothing_is_made_that_nobody_lacks(machine: Machine) -> None:
    machine.image = machine.image._replace(derive=("fetch",))
    machine.build("fetch")
    assert machine.entry.kinds() == ["fetch"]


def test_another_digest_than_the_wrappers_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a" / "upstream.img").write_bytes(gzip.compress(disk("other")))
    with pytest.raises(LarderError):
        machine.build()
    assert machine.entry.kinds() == []
    assert not [path for path in machine.entry.path.iterdir() if path.name.startswith(".tmp-")]


def test_content_that_upstream_does_not_list_is_refused(machine: Machine) -> None:
    machine.identity = machine.identity._replace(content=Digest.parse(sha256(b"other")))
    with pytest.raises(DigestMismatch, match="not what upstream lists"):
        machine.build()
    assert machine.entry.kinds() == ["fetch"]


def test_a_draft_makes_room_for_the_wrapper(
    machine: Machine, whole: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = RECIPES["fetch"].make
    followed: list[bool] = []

    def make(work: Work) -> Made:
        followed.append(work.arrival is not None)
        if work.arrival:
            raise NoSpace("full")
        return fetch(work)

    monkeypatch.setitem(RECIPES, "fetch", replace(RECIPES["fetch"], make=make))
    machine.build()
    assert followed == [True, False]
    assert whole == ["wrapper"]


class TestArchives:
    def test_the_disk_is_made_of_what_was_decoded_on_the_way(self, tmp_path: Path, whole: list[str]) -> None:
        machine = Machine(tmp_path / "a", "localhost:1", data=gzip.compress(tar({"disk.raw": disk("thing")})))
        machine.build()
        assert not whole
        assert machine.entry.artifact("raw").read_bytes() == disk("thing")
        assert {path.name for path in machine.entry.path.iterdir()} == {"disk.raw", "raw.json", ".lock"}

    def test_one_that_says_nothing_is_refused_and_kept(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path / "a", "localhost:1", data=gzip.compress(tar({"a.img": b"1", "b.img": b"2"})))
        with pytest.raises(UnsupportedFeature, match="expected one disk"):
            machine.build()
        assert machine.entry.kinds() == ["fetch"]
        assert not [path for path in machine.entry.path.iterdir() if path.name.startswith(".tmp-")]
