from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from recipes import declare
from recipes.errors import DeclarationError, FetchError, LarderError
from recipes.model import Digest
from recipes.project import pins
from recipes.project.pins import PROBES, diff, each_at_once, edited, replace
from tests.kit.project import disk, sha256
from tests.kit.spaces import opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

NEW = Digest("sha256", "b" * 64)
TOML = """\
# a comment
[images.a.x86_64]
url = "https://h.example/20260101/a.img"  # where
digest = "sha256:{old}"
size = 5

[images.b.x86_64]
url = ["./b-1.img", "https://h.example/b-1.img"]
digest = "sha256:{old}"
""".format(old="a" * 64)


class TestAtOnce:
    @pytest.mark.parametrize("count", [0, 1, PROBES, 5 * PROBES])
    def test_each_once(self, count: int) -> None:
        done: list[int] = []
        each_at_once(done.append, range(count))
        assert sorted(done) == list(range(count))

    def test_so_many_and_no_more(self) -> None:
        barrier = threading.Barrier(PROBES)
        names: set[str] = set()

        def work(_: int) -> None:
            names.add(threading.current_thread().name)
            barrier.wait(20)

        each_at_once(work, range(2 * PROBES))
        assert len(names) == PROBES

    def test_a_bug_comes_out_when_the_others_are_done(self) -> None:
        done: list[int] = []

        def work(number: int) -> None:
            if number == 3:
                raise ValueError("a bug")
            done.append(number)

        with pytest.raises(ValueError, match="a bug"):
            each_at_once(work, range(20))
        assert len(done) == 19


class TestEdits:
    def edit(self, folder: Path, **latest: dict[str, Any]) -> str:
        path = folder / "images.toml"
        declaration = declare.loads(TOML.encode(), path)
        sources = {}
        for name, changes in latest.items():
            image = declaration.images[name]["x86_64"]
            sources[image] = image.source._replace(**changes)
        return edited(TOML.encode(), declaration, sources, path).decode()

    def test_what_changed_and_nothing_else(self, tmp_path: Path) -> None:
        text = self.edit(tmp_path, a={"digest": NEW, "urls": ("https://h.example/20260202/a.img",), "size": 7})
        expected = (
            TOML.replace("20260101", "20260202").replace(f'"sha256:{"a" * 64}"', f'"{NEW}"', 1).replace("= 5", "= 7")
        )
        assert text == expected

    def test_a_size_that_nobody_tells_goes(self, tmp_path: Path) -> None:
        assert "size" not in self.edit(tmp_path, a={"digest": NEW, "size": None})

    def test_a_url_stays_relative(self, tmp_path: Path) -> None:
        text = self.edit(
            tmp_path, b={"digest": NEW, "urls": ((tmp_path / "b-2.img").as_uri(), "https://h.example/b-2.img")}
        )
        assert 'url = ["./b-2.img", "https://h.example/b-2.img"]' in text

    def test_nothing(self, tmp_path: Path) -> None:
        assert self.edit(tmp_path) == TOML

    def test_what_cannot_be_declared(self, tmp_path: Path) -> None:
        with pytest.raises(DeclarationError, match="what upstream lists cannot be declared"):
            self.edit(tmp_path, a={"urls": ("https://h.example/ x/a.img",)})

    def test_a_mark_at_the_beginning_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "images.toml"
        marked = b"\xef\xbb\xbf" + TOML.encode()
        declaration = declare.loads(marked, path)
        image = declaration.images["a"]["x86_64"]
        found = edited(marked, declaration, {image: image.source._replace(digest=NEW)}, path)
        assert found.startswith(b"\xef\xbb\xbf# a comment")


class TestDiffs:
    def test_that_patch_applies(self) -> None:
        assert diff("a\nb\n", "a\nc\n", "x").splitlines() == ["--- x", "+++ x", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]

    def test_without_an_end_of_line(self) -> None:
        assert diff("a", "b\n", "x").splitlines()[3:] == ["-a", "\\ No newline at end of file", "+b"]

    def test_nothing(self) -> None:
        assert diff("a\n", "a\n", "x") == ""

    def test_no_secret(self) -> None:
        assert "sesame" not in diff('url = "https://me:sesame@h.example/a"\n', "x\n", "x")


class TestReplacing:
    def test_as_a_whole_with_its_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "images.toml"
        path.write_bytes(b"old")
        path.chmod(0o640)
        replace(path, b"old", b"new")
        assert path.read_bytes() == b"new"
        assert path.stat().st_mode & 0o777 == 0o640
        assert list(tmp_path.iterdir()) == [path]

    def test_what_somebody_else_wrote_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "images.toml"
        path.write_bytes(b"theirs")
        with pytest.raises(LarderError, match="was changed meanwhile"):
            replace(path, b"old", b"new")
        assert path.read_bytes() == b"theirs"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_link_stays_one(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_bytes(b"old")
        (tmp_path / "images.toml").symlink_to("real")
        replace(tmp_path / "images.toml", b"old", b"new")
        assert (tmp_path / "images.toml").is_symlink()
        assert (tmp_path / "real").read_bytes() == b"new"

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(LarderError, match="cannot write"):
            replace(tmp_path / "gone/images.toml", b"", b"new")


class TestFollowing:
    def test_which_images_follow_something(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.declare("pinned", disk("a"))
        project.follow("listed", "https://h.example/a.img", "https://h.example/SUMS")
        project.declared["tag"] = {"source": {"url": "oci://h.example/a:1"}}
        project.write()
        space = opened(project, monkeypatch)
        assert {name: pins.is_followed(image) for name, image in space.images.items()} == {
            "pinned": False,
            "listed": True,
            "tag": True,
        }

    def test_each_list_is_asked_once_and_who_has_none_is_told(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = project.serve("SUMS", f"{sha256(disk('a')).removeprefix('sha256:')}  a.img\n".encode())
        url = project.serve("a.img", disk("a"))
        bad = (project.upstream / "gone").as_uri()
        for name in ("a", "b"):
            project.follow(name, url, good)
        project.follow("c", url, bad)
        project.declare("d", disk("a"))
        space = opened(project, monkeypatch)
        refused = pins.refresh(space, space.images.values(), space.session.progress)
        assert {image.name for image in refused} == {"c"}
        assert isinstance(next(iter(refused.values())), FetchError)
        assert space.identity(space.images["b"]).digest == Digest.parse(sha256(disk("a")))

    def test_a_pin_that_is_behind_its_list(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        listed = project.serve("SUMS", f"{'b' * 64}  a.img\n".encode())
        url = project.serve("a.img", disk("a"))
        project.follow("a", url, listed, digest=sha256(disk("a")))
        space = opened(project, monkeypatch)
        image = space.images["a"]
        assert not pins.is_outdated(space, image), "nobody has asked for the list yet"
        assert not pins.refresh(space, [image], space.session.progress, pinned=True)
        assert pins.is_outdated(space, image)
        assert pins.repinned(space, image).digest == NEW
