"""Many processes that want the same of an empty cache: one download and one conversion of each image."""

from __future__ import annotations

import gzip
import random
from typing import TYPE_CHECKING

import pytest

from tests.kit.ext4_images import make
from tests.kit.oracles import need
from tests.kit.project import Project, disk, sha256
from tests.kit.registries import Fake, Keeping, image, layer
from tests.kit.servers import misbehaving

from .rush import CHAIN, NAMES, Rush, Upstream, downloads, made, once

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.servers import Exchange


@pytest.fixture
def project(tmp_path: Path) -> Rush:
    return Rush(tmp_path)


def shuffled(number: int, tasks: list[str]) -> list[str]:
    return random.Random(number).sample(tasks, len(tasks))


@pytest.mark.parametrize(("jobs", "order"), [("0", "the same"), ("3", "their own"), ("0", "by default")])
def test_processes_over_several_images(project: Rush, jobs: str, order: str) -> None:
    upstream = Upstream(project.gate)
    tasks = [f"raw:{name}" for name in NAMES[:4]]
    orders: dict[str, list[list[str]]] = {
        "the same": [tasks] * 5,
        "their own": [shuffled(each, tasks) for each in range(5)],
        "by default": [[]] * 5,
    }
    with misbehaving(upstream) as server:
        upstream.declare(project, server, *NAMES[:4])
        project.at_once(*(["run", "-n", jobs, *each] for each in orders[order]))
        assert downloads(server) == dict.fromkeys(list(upstream.files)[:4], 1)
    once(project, *NAMES[:4])
    for name in NAMES[:4]:
        assert project.files(name) == {"disk.raw", "raw.json"}


def test_clones_of_one_image(project: Rush, tmp_path: Path) -> None:
    upstream = Upstream(project.gate)
    with misbehaving(upstream) as server:
        upstream.declare(project, server, "a")
        formats = ("raw", "raw", "qcow2", "raw", "qcow2")
        orders = [
            ["clone:a", "--to", str(tmp_path / f"vm-{number}"), "--format", form] for number, form in enumerate(formats)
        ]
        project.at_once(*orders)
        assert downloads(server) == {"/a.raw.gz": 1}
    once(project, "a")
    assert (tmp_path / "vm-0").read_bytes() == disk("a")
    assert (tmp_path / "vm-2.base.raw").read_bytes() == disk("a")


def test_all_kinds_of_commands(tmp_path: Path, project: Rush) -> None:
    need("mke2fs")
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "os-release").write_text("ID=rush\n")
    make(tmp_path / "ext4", 16 << 20, "-d", str(tree))
    data = gzip.compress((tmp_path / "ext4").read_bytes(), mtime=0)

    def behave(exchange: Exchange) -> None:
        project.gate.wait(exchange)
        exchange.file(data)

    with misbehaving(behave) as server:
        project.declared["a"] = {"source": {"url": f"{server.url}/a.raw.gz", "digest": sha256(data)}}
        project.write()
        orders = [
            ["raw:a"],
            ["rootfs:a", "oci:a"],
            ["run", "-n", "2", "oci:a", "raw:a"],
            ["clone:a", "--to", str(tmp_path / "vm")],
            ["clone:a", "--to", str(tmp_path / "tar"), "--format", "rootfs"],
        ]
        project.at_once(*orders)
        assert downloads(server) == {"/a.raw.gz": 1}
    kinds = ("fetch", "content", "raw", "rootfs", "oci")
    assert made(project.log) == {f"{kind}:a": 1 for kind in kinds}


def test_an_image_of_a_registry(project: Rush, tmp_path: Path) -> None:
    files = {"etc/os-release": b"ID=rush\n", "data": random.Random(1).randbytes(100_000)}
    fake = Fake()
    document = fake.add(image(layer(files)))

    def behave(exchange: Exchange) -> None:
        if "/blobs/" in exchange.path:
            project.gate.wait(exchange)
        fake(exchange)

    with misbehaving(behave) as server:
        url = f"oci://127.0.0.1:{server.port}/acme/thing"
        project.declared["a"] = {"source": {"url": url, "digest": document.digest}}
        project.write()
        clone = ["clone:a", "--to"]
        orders = [["rootfs:a"], ["rootfs:a"], [*clone, str(tmp_path / "one")], [*clone, str(tmp_path / "two")]]
        project.at_once(*orders)
        blobs = {path: count for path, count in downloads(server).items() if "/blobs/" in path}
        assert blobs == {f"/v2/acme/thing/blobs/{digest}": 1 for digest in document.blobs}
    assert made(project.log) == {"fetch:a": 1, "content:a": 1, "rootfs:a": 1}
    assert project.files("a") == {"rootfs.tar", "rootfs.json", "clones"}


@pytest.mark.parametrize("kind", ["raw", "content", "fetch"])
def test_a_registry_to_share_through(project: Rush, tmp_path: Path, kind: str) -> None:
    """Whatever it has, it is pulled once; the rest is made once, and nothing comes from upstream."""
    upstream, keeping = Upstream(project.gate), Keeping()

    def behave(exchange: Exchange) -> None:
        if exchange.command == "GET" and "/blobs/" in exchange.path:
            project.gate.wait(exchange)
        keeping(exchange)

    (tmp_path / "first").mkdir()
    first = Project(tmp_path / "first")
    with misbehaving(upstream) as server, misbehaving(behave) as registry:
        head = f'[cache]\nregistry = "127.0.0.1:{registry.port}/acme"\n'
        upstream.declare(first, server, "a", "b", head=head)
        # One process at a time so far.
        first.ok("push", "--kind", kind)
        server.seen.clear()
        registry.seen.clear()
        upstream.declare(project, server, "a", "b", head=head)
        orders = [["raw:a", "raw:b"], ["raw:b", "raw:a"], ["run", "-n", "2"], ["clone:a", "--to", str(tmp_path / "vm")]]
        project.at_once(*orders)
        assert downloads(server) == {}
        blobs = [count for path, count in downloads(registry).items() if "/blobs/" in path]
        assert blobs == [1, 1]
    once(project, "a", "b", kinds=CHAIN[CHAIN.index(kind) + 1 :])


def test_what_was_named_or_declared_is_made_all_the_same(project: Rush) -> None:
    """Another process has the RAW already; of the wrapper somebody named it: it is fetched."""
    upstream = Upstream(project.gate)
    with misbehaving(upstream) as server:
        upstream.declare(project, server, "a")
        project.at_once(["raw:a"], ["raw:a"], ["raw:a"])
        project.at_once(["fetch:a"], ["fetch:a"], ["raw:a"])
        assert downloads(server) == {"/a.raw.gz": 2}
        assert project.files("a") == {"disk.raw", "raw.json", "wrapper", "fetch.json"}


def test_rebuilding_at_once(project: Rush) -> None:
    """Each ran with -a before another was through, which is new enough for it."""
    upstream = Upstream(project.gate)
    with misbehaving(upstream) as server:
        upstream.declare(project, server, "a")
        project.ok("raw:a")
        server.seen.clear()
        project.at_once(*[["run", "-a", "raw:a"]] * 4)
        assert downloads(server) == {"/a.raw.gz": 1}
    assert project.files("a") == {"disk.raw", "raw.json"}
