"""`doit push:NAME`, and what a registry spares other machines; registries that are no help are no harm."""

from __future__ import annotations

import filecmp
import gzip
from typing import TYPE_CHECKING

import pytest

from recipes.kinds import KINDS
from tests.kit.project import Project, disk
from tests.kit.registries import Keeping, layer, refuse
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.servers import Exchange, Server


ARCHIVE = gzip.compress(layer({"etc/os-release": b"ID=test\n", "data": bytes(range(256)) * 1000}))


def share(project: Project, where: str, **images: list[str]) -> Project:
    """Declare `images` with what is derived of each, shared through the registry at `where`."""
    for name, derive in (images or {"one": ["raw"]}).items():
        project.declare(name, disk(name), derive=derive)
    project.write(f'[cache]\nregistry = "{where}"\n')
    return project


def another(folder: Path, server: Server, **images: list[str]) -> Project:
    """Return the project of another machine, without upstream."""
    (folder / "b").mkdir()
    project = share(Project(folder / "b"), f"127.0.0.1:{server.port}/acme", **images)
    for path in project.upstream.iterdir():
        path.unlink()
    return project


@pytest.fixture
def logged_out(project: Project, tmp_path: Path) -> Project:
    project.environ["DOCKER_CONFIG"] = str(tmp_path)
    return project


def test_what_was_pushed_is_neither_fetched_nor_made(project: Project, tmp_path: Path) -> None:
    with misbehaving(Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme")
        assert "raw: oci://" in project.ok("push:one")
        b = another(tmp_path, server)
        out = b.ok("raw:one")
        assert "raw:one: pulled from" in out
        assert b.files("one") == {"disk.raw", "raw.json"}
        assert b.executed("raw:one") == set()
        server.seen.clear()
        assert b.ok("raw:one") == "-- raw:one\n"
        assert server.seen == []
    assert (b.entry("one") / "disk.raw").read_bytes() == disk("one")
    assert "ok" in b.ok("verify")
    b.ok("clone:one", "--to", str(tmp_path / "clone"))
    assert (tmp_path / "clone").read_bytes() == disk("one")


def test_only_what_is_named(project: Project, tmp_path: Path) -> None:
    images = {"one": ["fetch", "raw"], "two": ["raw"]}
    with misbehaving(Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme", **images)
        project.ok("push")
        b = another(tmp_path, server, **images)
        b.ok("raw:one")
        assert b.files("one") == {"disk.raw", "raw.json"}
        b.ok("pull:one")
        assert b.files("one") == {"disk.raw", "raw.json", "wrapper", "fetch.json"}
        b.ok("pull:two")
        assert b.files("two") == {"disk.raw", "raw.json"}


@pytest.mark.parametrize("kind", ["content", "rootfs", "vhdx", "oci"])
def test_every_kind(project: Project, tmp_path: Path, kind: str) -> None:
    with misbehaving(Keeping()) as server:
        (tmp_path / "b").mkdir()
        b = Project(tmp_path / "b")
        # An archive for containers says where it comes from, so its key has the url in it.
        b.upstream = project.upstream
        for each in (project, b):
            each.declare("one", ARCHIVE, "one.tar.gz", derive=[kind])
            each.write(f'[cache]\nregistry = "127.0.0.1:{server.port}/acme"\n')
        project.ok("push:one")
        (project.upstream / "one.tar.gz").unlink()
        assert f"{kind}:one: pulled from" in b.ok(f"{kind}:one")
    first, second = (each.entry("one") / KINDS[kind].file for each in (project, b))
    assert filecmp.cmp(first, second, shallow=False)
    assert second.stat().st_blocks <= first.stat().st_blocks + 64


def test_an_input_of_what_is_named_will_do(project: Project, tmp_path: Path) -> None:
    with misbehaving(Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme")
        project.ok("push:one", "--kind", "fetch")
        b = another(tmp_path, server)
        assert "fetch:one: pulled from" in b.ok("raw:one")
        # Passed through, as if it had been downloaded.
        assert b.files("one") == {"disk.raw", "raw.json"}
        assert "pulled" not in b.receipt("one", "raw")


def test_pushed_kinds(project: Project) -> None:
    images = {"one": ["raw"], "two": ["fetch"]}
    with misbehaving(Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme", **images)
        out = project.ok("push", "--kind", "fetch")
        assert "push:one: fetch: " in out
        assert "push:two: fetch: " in out
        assert "push:one: raw: " not in out
        assert "push:one: raw: " in project.ok("push:*")
        for words, said in (
            (("push:one", "--kind", "iso"), "a disk image has no iso, but fetch, content"),
            (("push:one", "push:one"), "named twice"),
            (("push:three",), "push:three"),
        ):
            result = project.doit(*words)
            assert result.status == 3
            assert said in result.err


def test_patterns_do_not_push(project: Project) -> None:
    with misbehaving(Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme")
        assert {name.partition(":")[0] for name in project.executed("p*:one")} <= {"pull", "resolve"}


def test_without_a_registry(project: Project) -> None:
    project.declare("one", disk("one"))
    assert "push" not in project.ok("list", "--all")
    for word in ("push", "push:one", "pull:one"):
        result = project.doit(word)
        assert result.status == 3
        assert "images.toml declares none" in result.err


def test_nothing_to_pull_is_an_answer(project: Project) -> None:
    with misbehaving(Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme")
        assert "has nothing of it (raw)" in project.ok("pull:one")
        assert "has nothing" not in project.ok("raw:one")
    assert (project.entry("one") / "disk.raw").read_bytes() == disk("one")


def test_an_unreachable_registry_is_told_once_and_the_run_goes_on(project: Project) -> None:
    with misbehaving(Keeping()) as server:
        pass
    share(project, f"127.0.0.1:{server.port}/acme", one=["raw"], two=["raw"], three=["raw"])
    out = project.ok("run", "-n", "3", "-P", "thread", "raw")
    assert out.count("going on without this registry") == 1
    assert (project.entry("three") / "disk.raw").read_bytes() == disk("three")


def test_offline_nobody_is_asked(project: Project) -> None:
    with misbehaving(Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme")
        result = project.doit("raw:one", LARDER_OFFLINE="1")
        assert result.status == 0, result
        assert server.seen == []
        result = project.doit("push:one", LARDER_OFFLINE="1")
        assert result.status != 0
        assert "LARDER_OFFLINE" in result.out + result.err
        assert server.seen == []


def test_a_registry_that_lies_is_no_help(project: Project, tmp_path: Path) -> None:
    with misbehaving(keeping := Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme")
        project.ok("push:one")
        (tmp_path / "b").mkdir()
        b = share(Project(tmp_path / "b"), f"127.0.0.1:{server.port}/acme")
        blobs = keeping.blobs["acme/one"]
        for digest, data in blobs.items():
            blobs[digest] = data[:-1] + b"?"
        out = b.ok("raw:one")
        assert "raw:one: not pulled from" in out
        assert "making it here" in out
    assert (b.entry("one") / "disk.raw").read_bytes() == disk("one")
    assert "pulled" not in b.receipt("one", "raw")


def test_a_push_that_is_refused(logged_out: Project) -> None:
    def hook(exchange: Exchange) -> bool:
        if exchange.command == "POST":
            refuse(exchange, 401, "UNAUTHORIZED", "authentication required")
        return exchange.command == "POST"

    with misbehaving(Keeping(hook)) as server:
        share(logged_out, f"127.0.0.1:{server.port}/acme")
        result = logged_out.doit("push:one")
    assert result.status == 1
    said = result.out + result.err
    assert "401 Unauthorized: UNAUTHORIZED: authentication required" in said
    assert "as somebody who may push there" in said
    assert "Traceback" not in said


def test_a_name_that_references_cannot_have(project: Project) -> None:
    project.declared.clear()
    with misbehaving(keeping := Keeping()) as server:
        share(project, f"127.0.0.1:{server.port}/acme", **{"debian-12+x_": ["raw"]})
        project.ok("push:debian-12+x_")
    assert list(keeping.manifests) == ["acme/debian-12-x"]


def test_plan_says_who_will_be_asked_first(project: Project) -> None:
    with misbehaving(Keeping()) as server:
        where = f"127.0.0.1:{server.port}/acme"
        share(project, where)
        said = f"{where} was not asked: a run pulls what it has"
        assert said in project.ok("plan")
        assert said not in project.ok("plan", LARDER_OFFLINE="1")
        assert server.seen == []
        project.ok("fetch:one")
        assert said not in project.ok("plan", "raw:one")
