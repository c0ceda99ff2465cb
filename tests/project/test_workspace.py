from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, FetchError, LarderError
from recipes.project import workspace
from recipes.sources.lists import ListRef
from tests.kit.project import disk, sha256
from tests.kit.servers import misbehaving
from tests.kit.spaces import opened

if TYPE_CHECKING:
    from tests.kit.project import Project
    from tests.kit.servers import Exchange

pytestmark = pytest.mark.usefixtures("quick_and_alone")


class Upstream:
    """A server with an image and its list, which may be replaced in between."""

    def __init__(self) -> None:
        self.served = disk("one")
        self.listed = self.served
        #: What the list says once it was asked for past caches.
        self.then: bytes | None = None

    def __call__(self, exchange: Exchange) -> None:
        if exchange.path == "/SUMS":
            if exchange.headers.get("Cache-Control") == "no-cache" and self.then is not None:
                self.listed = self.then
            exchange.reply(body=f"{hashlib.sha256(self.listed).hexdigest()}  a.img\n".encode())
        else:
            exchange.reply(body=self.served)


class TestIdentities:
    def test_of_what_is_pinned(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.declare("a", disk("a"))
        space = opened(project, monkeypatch)
        found = space.identity(space.images["a"])
        assert str(found.digest) == sha256(disk("a"))
        assert space.identity(space.images["a"]) is found

    def test_of_what_was_never_listed(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.follow("a", "https://h.example/a.img", "https://h.example/SUMS")
        space = opened(project, monkeypatch)
        with pytest.raises(LarderError):
            space.identity(space.images["a"])


class TestSupplies:
    def test_a_list_that_moved_meanwhile(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        upstream = Upstream()
        with misbehaving(upstream) as server:
            project.follow("a", f"{server.url}/a.img", f"{server.url}/SUMS")
            space = opened(project, monkeypatch)
            image = space.images["a"]
            self.refresh(space)
            upstream.served = upstream.then = disk("two")
            receipt = space.supply("raw", image)
        assert receipt is not None
        assert str(receipt.wrapper.digest) == sha256(disk("two"))

    def test_a_list_that_did_not(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        upstream = Upstream()
        with misbehaving(upstream) as server:
            project.follow("a", f"{server.url}/a.img", f"{server.url}/SUMS")
            space = opened(project, monkeypatch)
            self.refresh(space)
            upstream.served = disk("two")
            with pytest.raises(DigestMismatch) as caught:
                space.supply("raw", space.images["a"])
        assert "asked for past all caches and says the same" in (caught.value.hint or "")

    def test_a_pinned_image_has_no_list_to_ask(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.declare("a", disk("a"))
        (project.upstream / "a.img").write_bytes(disk("b"))
        space = opened(project, monkeypatch)
        with pytest.raises(DigestMismatch) as caught:
            space.supply("raw", space.images["a"])
        assert "past all caches" not in (caught.value.hint or "")

    def test_strictly(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        upstream = Upstream()
        with misbehaving(upstream) as server:
            project.follow("a", f"{server.url}/a.img", f"{server.url}/SUMS")
            space = opened(project, monkeypatch)
            self.refresh(space)
        self.refresh(space)
        with pytest.raises(FetchError):
            self.refresh(space, strict=True)

    @staticmethod
    def refresh(space: workspace.Workspace, *, strict: bool = False) -> None:
        ref = ListRef.of(space.images["a"].source)
        assert ref is not None
        space.refresh(ref, space.session.progress, strict=strict)


class TestOpening:
    def test_images_of_this_architecture(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.declare("a", disk("a"))
        project.environ["LARDER_ARCH"] = "aarch64"
        assert opened(project, monkeypatch).images == {}
        project.environ["LARDER_ARCH"] = "x86_64"
        assert list(opened(project, monkeypatch).images) == ["a"]

    def test_the_project_is_known_to_the_cache(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.declare("a", disk("a"))
        opened(project, monkeypatch)
        assert len(list((project.cache / "roots").iterdir())) == 1

    @pytest.mark.parametrize("text", ["[images.a]\nx = 1\n", "nonsense"])
    def test_what_is_wrong_is_told_as_it_is(
        self, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
    ) -> None:
        (project.folder / "images.toml").write_text(text)
        with pytest.raises(SystemExit) as caught:
            opened(project, monkeypatch)
        assert caught.value.code == workspace.USAGE_ERROR
        assert "images.toml:" in capsys.readouterr().err

    def test_nobody_works_without_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workspace, "_current", None)
        assert not workspace.is_open()
        workspace.stop()
        with pytest.raises(AssertionError, match="did not open"):
            workspace.current()

    def test_all_work_is_told_to_stop(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.declare("a", disk("a"))
        space = opened(project, monkeypatch)
        assert workspace.current() is space
        workspace.stop()
        assert space.stop.is_set()
