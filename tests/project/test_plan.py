from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from recipes.progress import SILENCE
from recipes.project import plan
from recipes.project.plan import Bytes, Row, Totals, totals
from tests.kit import layouts
from tests.kit.disks import qcow2
from tests.kit.project import disk
from tests.kit.spaces import ask, build, opened

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.project.workspace import Workspace
    from tests.kit.project import Project

DISK = disk("a")
PACKED = gzip.compress(DISK, mtime=0)


class TestBytes:
    def test_sums_and_bounds(self) -> None:
        assert Bytes(1, 2) + Bytes(10, 20) == Bytes(11, 22)
        assert Bytes(1, None) + Bytes(10, 20) == Bytes(11, None)
        assert Bytes(5, 6).or_more(Bytes(1, 20)) == Bytes(5, 20)
        assert Bytes(5, None).or_more(Bytes(9, 9)) == Bytes(9, None)

    @pytest.mark.parametrize(
        ("least", "most", "suffices"),
        [(0, 100, True), (0, 101, None), (100, None, None), (101, None, False), (101, 200, False)],
    )
    def test_whether_it_suffices(self, least: int, most: int | None, suffices: bool | None) -> None:
        assert Totals(0, 0, Bytes(least, most), Bytes(), 100).suffices is suffices


@pytest.fixture
def space(project: Project, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    project.declare("a", PACKED, "a.raw.gz", derive=["raw"])
    for name in ("p", "q"):
        project.declare(name, qcow2(name)[0], f"{name}.qcow2", derive=[])
    return opened(project, monkeypatch)


def row(space: Workspace, name: str, *kinds: str) -> Row:
    (found,) = plan.rows(space, {name: set(kinds)}, SILENCE)
    return found


def test_what_would_run_and_what_would_go(space: Workspace) -> None:
    found = row(space, "a", "raw")
    assert (found.runs, found.released) == (["fetch", "content", "raw"], ["fetch", "content"])
    assert (found.wrapper_size, found.download) == (len(PACKED), len(PACKED))
    # What gzip holds is known once it was read.
    assert (found.compressed, found.content_format, found.content_size) == (True, "raw", None)
    stays, goes = found.written()
    assert stays == Bytes(0, None)
    assert goes == Bytes(len(PACKED), len(PACKED))


def test_how_much_is_known_of_a_disk(space: Workspace) -> None:
    found = row(space, "q", "raw")
    # The content is the wrapper by another name.
    wrapper = len(qcow2("q")[0])
    assert (found.compressed, found.content_format, found.content_size) == (False, "qcow2", wrapper)
    assert found.written() == (Bytes(0, 1 << 20), Bytes(wrapper, wrapper))
    assert found.to_json()["kept_at_most"] == 1 << 20


def test_what_is_there_is_not_made_again(space: Workspace) -> None:
    build(space, "raw", "a")
    assert plan.rows(space, {"a": {"raw"}}, SILENCE) == []
    found = row(space, "a", "raw", "fetch")
    assert (found.runs, found.released) == (["fetch"], [])


def test_an_input_that_is_there_saves_the_download(space: Workspace) -> None:
    ask(space, "fetch", "q")
    found = row(space, "q", "raw")
    assert (found.runs, found.download, found.released) == (["content", "raw"], 0, ["content"])
    assert (found.content_format, found.virtual_size) == ("qcow2", 1 << 20)


def test_what_a_twin_has_is_taken(project: Project, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(space, "raw", "a")
    project.declare("twin", PACKED, "a.raw.gz", derive=["raw"])
    assert plan.rows(opened(project, monkeypatch), {"twin": {"raw"}}, SILENCE) == []


def test_an_upstream_that_is_gone(project: Project, space: Workspace) -> None:
    (project.upstream / "a.raw.gz").unlink()
    found = row(space, "a", "raw")
    assert found.virtual_size is None
    assert len(found.notes) == 1
    assert found.notes[0].startswith("a: ")
    assert found.written()[0] == Bytes(0, None)


def test_an_upstream_that_has_another(project: Project, space: Workspace) -> None:
    (project.upstream / "a.raw.gz").write_bytes(PACKED + b"x")
    found = row(space, "a", "raw")
    assert found.notes == [f"a: expected {len(PACKED)} bytes, the server announces {len(PACKED) + 1}"]


def test_a_list_that_cannot_be_had(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.follow("l", project.serve("l.img", DISK), (project.upstream / "SUMS").as_uri())
    found = row(opened(project, monkeypatch), "l", "raw")
    assert found.identity is None
    assert found.runs == ["fetch", "content", "raw"]
    assert found.to_json()["url"] is None
    assert found.notes


def test_a_disk_that_is_too_large(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("q", qcow2("q")[0], "q.qcow2", derive=["raw"])
    project.write('[cache]\nmax-virtual-size = "512 KiB"\n')
    found = row(opened(project, monkeypatch), "q", "raw")
    assert any("will be refused: its disk has 1.0 MiB" in note for note in found.notes)


def test_sums_are_of_images_made_one_after_the_other(space: Workspace) -> None:
    found = [row(space, "p", "raw"), row(space, "q", "raw")]
    sums = totals(found, 1 << 40)
    kept = sum(each.virtual_size or 0 for each in found)
    assert sums.kept.most == kept
    assert sums.download == sum(each.wrapper_size or 0 for each in found)
    largest = max(each.written()[1].most or 0 for each in found)
    assert sums.peak.most == kept + largest
    assert sums.suffices is True
    assert sums.to_json()["suffices"] is True


class TestTheRootOfADisk:
    """Nothing is known of it before the download, and everything after it."""

    @pytest.fixture
    def space(self, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
        image = layouts.disk(tmp_path, (layouts.root(tmp_path, ""), layouts.TYPED)).read_bytes()
        project.declare("r", image, "r.raw", derive=["rootfs"])
        project.declare("packed", gzip.compress(image), "r.raw.gz", derive=["rootfs"])
        project.declare("none", DISK, "none.raw", derive=["rootfs"])
        project.declare("other", image, "other.raw", derive=["rootfs"], root="partition 2")
        return opened(project, monkeypatch)

    @pytest.mark.parametrize("kind", ["fetch", "content", "raw"])
    def test_of_what_is_here(self, space: Workspace, kind: str) -> None:
        assert (row(space, "r", "rootfs").root, row(space, "r", "rootfs").notes) == (None, [])
        ask(space, kind, "r")
        found = row(space, "r", "rootfs")
        assert (found.root or "").startswith("partition 1 (ext4, 4194304 bytes, type 0fc63daf")
        assert found.to_json()["root"] == found.root
        assert found.notes == []

    def test_not_of_what_is_compressed(self, space: Workspace) -> None:
        ask(space, "fetch", "packed")
        assert (row(space, "packed", "rootfs").root, row(space, "packed", "rootfs").notes) == (None, [])

    def test_what_will_be_refused(self, space: Workspace) -> None:
        for name, said in (("none", "none: no root file system: "), ("other", "the root is to be partition 2, found")):
            ask(space, "raw", name)
            found = row(space, name, "rootfs")
            assert found.root is None
            assert said in found.notes[0]

    def test_not_where_no_root_is_asked_for(self, space: Workspace) -> None:
        ask(space, "fetch", "r")
        assert row(space, "r", "raw").root is None
