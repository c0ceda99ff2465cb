"""`doit prune` through the real `doit` program."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from recipes.cache.prune import Inode, Item, Standing, Verdict
from recipes.cache.store import Held, Store
from recipes.graph.commands import prune
from tests.kit.oracles import need
from tests.kit.project import DOIT, Project, disk, sha256
from tests.kit.servers import Exchange, misbehaving

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400


def pruned(project: Project, *options: str) -> dict[str, str]:
    """Prune; return why each thing went."""
    report = json.loads(project.ok("prune", "--json", *options))
    return {name(project, each): each["why"] for each in report["pruned"]}


def name(project: Project, verdict: dict[str, Any]) -> str:
    if verdict["kind"]:
        return f"{verdict['kind']}:{verdict['image']}"
    return os.path.relpath(verdict["path"], project.cache)


def undeclare(project: Project, *names: str) -> None:
    for each in names:
        del project.declared[each]
    project.write()


@pytest.fixture
def three(project: Project) -> Project:
    """Return a project with a, b and c, of which b and c are not declared any more."""
    for each in "abc":
        project.declare(each, gzip.compress(disk(each)), f"{each}.raw.gz")
    project.ok("raw")
    undeclare(project, "b", "c")
    return project


def test_what_is_not_declared_any_more_goes(three: Project) -> None:
    allocated = (three.entry("b") / "disk.raw").stat().st_blocks * 512
    out = three.ok("prune", "--dry-run")
    assert "raw:b (x86_64)" in out
    assert "would be freed" in out
    told = json.loads(three.ok("prune", "--json", "-n"))
    assert (three.entry("b") / "disk.raw").exists()
    report = json.loads(three.ok("prune", "--json"))
    assert report == {**told, "dry_run": False}
    assert report["freed"] == 2 * allocated
    assert {path.name for path in (three.cache / "images").iterdir()} == {"a"}
    assert three.executed("raw:a") == set()
    assert pruned(three) == {}
    assert "0 B freed" in three.ok("prune")


def test_what_was_named_on_a_command_line_goes_with_its_declaration(project: Project) -> None:
    for each in "ab":
        project.declare(each, gzip.compress(disk(each)), f"{each}.raw.gz")
    project.ok("raw:a", "fetch:b")
    assert pruned(project) == {}, "it is asked for"
    undeclare(project, "b")
    assert pruned(project) == {"fetch:b": "not declared any more"}
    project.declare("b", gzip.compress(disk("b")), "b.raw.gz")
    project.ok("raw:b")
    assert project.files("b") == {"disk.raw", "raw.json"}, "that it was asked for once is forgotten"


def test_what_is_superseded_or_was_not_asked_for_goes(project: Project) -> None:
    for each in "ab":
        project.declare(each, gzip.compress(disk(each), mtime=0), f"{each}.raw.gz", derive=["fetch", "raw"])
    project.ok("raw:a", "raw:b")
    for each in "ab":
        for mark in project.entry(each).glob("*.asked"):
            mark.unlink()
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["raw"])
    project.declare("b", gzip.compress(disk("new")), "b.raw.gz", derive=["fetch"])
    assert pruned(project) == {"fetch:a": "nobody asked for it", "raw:b": "superseded: upstream serves something else"}
    assert project.files("b") == {"wrapper", "fetch.json"}, "a stale one that is asked for stays until it is replaced"
    assert pruned(project) == {}


def test_what_an_asked_for_derivation_lacks_stays(project: Project) -> None:
    project.declare("a", gzip.compress(b"KDMV" + bytes(4096)), "a.vmdk.gz", derive=["raw"])
    assert project.doit("raw:a").status == 1
    assert project.files("a") == {"content", "content.json"}
    assert pruned(project) == {}
    project.declare("a", gzip.compress(b"KDMV" + bytes(8192)), "a.vmdk.gz", derive=["raw"])
    assert pruned(project) == {"content:a": "superseded: upstream serves something else"}, "it is no input any more"


def test_images_of_other_architectures_stay(project: Project) -> None:
    project.declare("a", disk("a"))
    text = (project.folder / "images.toml").read_text()
    (project.folder / "images.toml").write_text(text + text.split("\n", 1)[1].replace("x86_64", "aarch64"))
    project.ok("raw:a")
    project.ok("raw:a", LARDER_ARCH="aarch64")
    assert pruned(project) == {}


def test_a_list_that_was_never_seen_tells_nothing(project: Project) -> None:
    data = disk("a")
    list_url = project.serve("SHA256SUMS", f"{sha256(data).removeprefix('sha256:')}  a.img\n".encode())
    project.follow("a", project.serve("a.img", data), list_url)
    project.ok("raw:a")
    for path in (project.cache / "lists").iterdir():
        path.unlink()
    assert pruned(project) == {}
    assert (project.entry("a") / "disk.raw").exists()


class TestProjectsThatShareTheCache:
    @pytest.fixture
    def other(self, project: Project, tmp_path: Path) -> Project:
        (tmp_path / "other").mkdir()
        other = Project(tmp_path / "other")
        other.cache = project.cache
        other.environ["LARDER_CACHE"] = str(project.cache)
        project.declare("a", disk("a"))
        project.ok("raw:a")
        other.declare("b", disk("b"), derive=["raw", "fetch"])
        other.ok("raw:b")
        return other

    def test_what_another_declares_stays(self, project: Project, other: Project) -> None:
        assert pruned(project) == {}
        assert pruned(other) == {}

    def test_a_project_that_is_gone_has_no_say(self, project: Project, other: Project) -> None:
        (other.folder / "images.toml").unlink()
        assert set(pruned(project)) >= {"raw:b", "fetch:b"}
        assert len(list((project.cache / "roots").iterdir())) == 1

    def test_what_cannot_be_read_is_an_error(self, project: Project, other: Project) -> None:
        (other.folder / "images.toml").write_text("[images\n")
        result = project.doit("prune")
        assert result.status == 1
        assert str(other.folder / "images.toml") in result.err
        assert "delete" in result.err
        assert (other.entry("b") / "disk.raw").exists()

    @pytest.mark.parametrize("closed", ["the project", "its file", "the roots", "its root"])
    def test_what_may_not_be_read_is_not_gone(self, project: Project, other: Project, closed: str) -> None:
        """Another user's project, and other users who run prune."""
        need("setpriv")
        (root,) = [file for file in (project.cache / "roots").iterdir() if str(other.folder) in file.read_text()]
        path = {
            "the project": other.folder,
            "its file": other.folder / "images.toml",
            "the roots": root.parent,
            "its root": root,
        }[closed]
        # Root may read everything, unless it gives that up.
        project.prefix = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            result = project.doit("prune")
        finally:
            path.chmod(mode)
        assert result.status == 1
        assert "Permission denied" in result.err
        assert "hint: " in result.err
        assert "Traceback" not in result.err
        assert pruned(project) == {}
        assert (other.entry("b") / "disk.raw").exists()

    def test_the_same_name_for_other_bytes(self, project: Project, other: Project) -> None:
        other.declare("a", disk("another a"))
        assert pruned(project) == pruned(other) == {}

    def test_a_cache_of_others_is_not_emptied(self, project: Project, other: Project) -> None:
        for file in (project.cache / "roots").iterdir():
            file.unlink()
        images = project.folder / "images.toml"
        images.write_text(images.read_text().replace('images."a"', 'images."z"'))
        for options in ([], ["--dry-run"], ["--max-size", "0"], ["--older-than", "0s"]):
            result = project.doit("prune", *options)
            assert result.status == 1
            assert "LARDER_IMAGES" in result.err
        assert (project.entry("a") / "disk.raw").exists()


class TestInUse:
    def test_a_hard_link_of_an_overlay(self, three: Project, tmp_path: Path) -> None:
        base = tmp_path / "vm.raw"
        os.link(three.entry("b") / "disk.raw", base)
        assert pruned(three) == {"raw:c": "not declared any more"}
        kept = json.loads(three.ok("prune", "--json"))["kept"]
        assert [(each["image"], "hard link" in each["kept"], each["freed"]) for each in kept] == [("b", True, 0)]
        assert "kept raw:b" in three.ok("prune")
        base.unlink()
        assert pruned(three) == {"raw:b": "not declared any more"}

    def test_images_that_share_a_file(self, project: Project) -> None:
        data = gzip.compress(disk("same"), mtime=0)
        for each in "ab":
            project.declare(each, data, f"{each}.raw.gz")
        project.ok("raw:a")
        project.ok("raw:b")
        assert (project.entry("a") / "disk.raw").samefile(project.entry("b") / "disk.raw")
        undeclare(project, "b")
        report = json.loads(project.ok("prune", "--json"))
        assert [name(project, each) for each in report["pruned"]] == ["raw:b"]
        assert report["freed"] == 0
        assert (project.entry("a") / "disk.raw").read_bytes() == disk("same")

    def test_an_entry_that_is_locked(self, three: Project) -> None:
        import filelock

        with filelock.FileLock(three.entry("b") / ".lock"):
            before = {path.name for path in three.entry("b").iterdir()}
            assert pruned(three) == {"raw:c": "not declared any more"}
            assert "kept raw:b (x86_64): in use by another process" in three.ok("prune")
            assert {path.name for path in three.entry("b").iterdir()} == before

    def test_a_download_while_it_runs(self, project: Project) -> None:
        project.declare("kept", disk("kept"))
        project.ok("raw:kept")
        data = gzip.compress(disk("a"))
        go_on = threading.Event()

        def behave(exchange: Exchange) -> None:
            exchange.start(200, {"Content-Length": len(data)})
            exchange.wfile.write(data[:1000])
            go_on.wait(60)
            exchange.wfile.write(data[1000:])

        with misbehaving(behave) as server:
            source = {"url": f"{server.url}/a.raw.gz", "digest": sha256(data), "size": len(data)}
            project.declared["a"] = {"source": source}
            project.write()
            with subprocess.Popen(
                [DOIT, "raw:a"], cwd=project.folder, env=project.environ, stdout=subprocess.DEVNULL
            ) as process:
                part = project.entry("a") / "wrapper.part"
                while not (part.exists() and part.stat().st_size):
                    time.sleep(0.05)
                assert pruned(project) == {}
                undeclare(project, "a")
                assert pruned(project) == {}, "nor is it deleted where nobody declares it"
                assert part.exists()
                project.declared["a"] = {"source": source}
                project.write()
                go_on.set()
                assert process.wait(60) == 0
        assert (project.entry("a") / "disk.raw").read_bytes() == disk("a")


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_what_could_not_be_deleted_is_a_failure(three: Project, words: tuple[str, ...]) -> None:
    three.hook(
        "import pathlib\n"
        "unlink = pathlib.Path.unlink\n"
        "def refuse(self, *args, **more):\n"
        "    if self.name == 'disk.raw' and '/c/' in str(self):\n"
        "        raise PermissionError(1, 'Operation not permitted', str(self))\n"
        "    return unlink(self, *args, **more)\n"
        "pathlib.Path.unlink = refuse\n"
    )
    result = three.doit("prune", *words)
    assert result.status == 1, result
    assert "Operation not permitted" in result.out
    assert (three.entry("c") / "disk.raw").exists()
    assert not (three.entry("b") / "disk.raw").exists()
    assert three.doit("prune", "--dry-run", *words).status == 0


class TestLeftovers:
    def test_of_killed_runs(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        entry = project.entry("a")
        (entry / ".tmp-raw-01234567").write_bytes(bytes(8192))
        (entry / "content").write_bytes(b"without a receipt")
        (project.cache / "images" / "gone" / "x86_64").mkdir(parents=True)
        (project.cache / "images" / "gone" / "x86_64" / "raw.asked").touch()
        assert set(pruned(project)) == {
            "images/a/x86_64/.tmp-raw-01234567",
            "content:a",
            "images/gone/x86_64",
        }
        assert project.files("a") == {"disk.raw", "raw.json"}
        assert {path.name for path in (project.cache / "images").iterdir()} == {"a"}

    def test_of_downloads(self, project: Project) -> None:
        for each in "abcd":
            project.declare(each, gzip.compress(disk(each)), f"{each}.raw.gz")
        project.ok("raw:a", "raw:b")
        undeclare(project, "d")
        for each in "bcd":
            project.entry(each).mkdir(parents=True, exist_ok=True)
            (project.entry(each) / "wrapper.part").write_bytes(b"half")
            (project.entry(each) / "wrapper.part.json").write_text("{}")
        assert pruned(project) == {
            "images/b/x86_64/wrapper.part": "a download that was given up",
            "images/d/x86_64/wrapper.part": "not declared any more",
        }
        assert project.files("c") == {"wrapper.part", "wrapper.part.json"}, "it may be gone on with"
        assert project.files("b") == {"disk.raw", "raw.json"}
        os.utime(project.entry("c") / "wrapper.part", (time.time() - 8 * DAY,) * 2)
        assert pruned(project) == {"images/c/x86_64/wrapper.part": "a download that was given up"}

    def test_of_lists_and_stamps(self, project: Project) -> None:
        data = disk("a")
        sums = f"{sha256(data).removeprefix('sha256:')}  a.img\n".encode()
        project.follow("a", project.serve("a.img", data), project.serve("SHA256SUMS", sums))
        project.ok("raw:a")
        lists = project.cache / "lists"
        (lists / "old-0123456789ab.json").write_text("{}")
        for draft, age in ((".new.01234567", 0), (".old.01234567", 2 * DAY)):
            (lists / draft).touch()
            os.utime(lists / draft, (time.time() - age,) * 2)
        (project.cache / "validated" / "old").touch()
        os.utime(project.cache / "validated" / "old", (1, 1))
        assert set(pruned(project)) == {"lists/old-0123456789ab.json", "lists/.old.01234567", "validated/old"}
        assert project.executed("raw:a", LARDER_OFFLINE="1") == set()


class TestPolicies:
    def age(self, project: Project, image: str, days: int) -> None:
        then = time.time() - days * DAY
        for name in ("raw.json", "raw.used"):
            os.utime(project.entry(image) / name, (then, then))

    def test_age_of_last_use(self, three: Project) -> None:
        self.age(three, "b", 40)
        self.age(three, "c", 40)
        self.age(three, "a", 400)
        (three.entry("c") / "raw.used").touch()
        assert pruned(three, "--older-than", "30d") == {"raw:b": "not declared any more"}
        assert pruned(three, "--older-than", "50d") == {}
        assert (three.entry("a") / "disk.raw").exists(), "it is declared and asked for"

    def test_total_size(self, three: Project) -> None:
        self.age(three, "c", 2)
        self.age(three, "b", 1)
        size = 2 * (three.entry("a") / "disk.raw").stat().st_blocks * 512
        assert pruned(three, "--max-size", "1TB") == {}
        assert pruned(three, "--max-size", str(size)) == {"raw:c": "not declared any more"}
        assert pruned(three, "--max-size", str(size)) == {}
        out = three.ok("prune", "--max-size", "0")
        assert "raw:b" in out
        assert "asked for and declared" in out
        assert (three.entry("a") / "disk.raw").exists()

    @pytest.mark.parametrize(
        "words",
        [["--older-than", "30"], ["--older-than", "-1d"], ["--max-size", "lots"], ["a"], ["--older-than", "1y"]],
    )
    def test_what_is_no_policy(self, three: Project, words: list[str]) -> None:
        result = three.doit("prune", *words)
        assert result.status == 3
        assert "Traceback" not in result.err

    @pytest.mark.parametrize("words", [["path", "raw:a"], ["raw:a"], ["clone:a", "--to", "disk"]])
    def test_what_is_a_use(self, three: Project, words: list[str]) -> None:
        self.age(three, "a", 1)
        three.ok(*words)
        assert (three.entry("a") / "raw.used").stat().st_mtime > time.time() - DAY / 2


def test_an_empty_cache(project: Project) -> None:
    project.declare("a", disk("a"))
    assert pruned(project) == {}


def test_receipts_of_a_newer_larder_are_not_leftovers(project: Project) -> None:
    project.declare("a", disk("a"))
    project.ok("raw:a")
    (project.entry("a") / "raw.json").write_text('{"larder": 99}')
    assert pruned(project) == {}


def test_what_is_asked_for_between_the_look_and_the_deletion(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["fetch", "raw"])
    project.ok("raw:a")
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["raw"])
    project.hook(
        "from recipes.cache import prune\n"
        "decide = prune.decide\n"
        "def asking(items, policy):\n"
        "    verdicts = decide(items, policy)\n"
        "    for item in items:\n"
        "        item.path.with_name('fetch.asked').touch()\n"
        "    return verdicts\n"
        "prune.decide = asking"
    )
    report = json.loads(project.ok("prune", "--json"))
    assert report["pruned"] == []
    assert [each["kept"] for each in report["kept"]] == ["in use since a moment ago"]
    assert "wrapper" in project.files("a")


def test_an_entry_that_was_removed_is_somebody_else_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock went with it: what is at its names from then on is another process's work."""
    entry = Store(tmp_path).entry_of("a", "x86_64")
    remove = Held.remove

    def removed(held: Held) -> None:
        remove(held)
        held.entry.path.mkdir(parents=True)
        held.entry.part.write_bytes(b"begun")

    monkeypatch.setattr(Held, "remove", removed)
    with entry.hold() as held:
        entry.artifact("raw").touch()
        items = [
            Item(path, Standing.UNDECLARED, Inode(1, 1), 1, 0, image="a", arch="x86_64", kind=kind)
            for path, kind in ((entry.artifact("raw"), "raw"), (entry.part, ""))
        ]
        prune._delete_from(held, [Verdict(item) for item in items])
    assert entry.part.read_bytes() == b"begun"
