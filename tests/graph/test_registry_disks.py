"""Disks from a registry through the real program: by tag and by digest, to RAW, and when the tag moves."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from tests.kit.registries import Document, Fake
from tests.kit.registry_disks import artifact, listing
from tests.kit.servers import Server, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.project import Project

CI = {"CI": "true"}


def disk(seed: str) -> bytes:
    return random.Random(seed).randbytes(300_000) + bytes((1 << 20) - 300_000)


def packed(seed: str) -> Document:
    return artifact(zstandard.compress(disk(seed)), titles=(f"{seed}.raw.zst",))


def entry(document: Document, disktype: str, arch: str = "x86_64") -> dict[str, Any]:
    return {**document.descriptor({"os": "linux", "architecture": arch}), "annotations": {"disktype": disktype}}


class Upstream:
    """A registry with machine images as podman's are."""

    def __init__(self, project: Project, fake: Fake, server: Server) -> None:
        self.project = project
        self.fake = fake
        self.url = f"oci://127.0.0.1:{server.port}/acme/thing"

    def push(self, raw: Document, arm: Document) -> Document:
        for each in (raw, arm):
            self.fake.add(each)
        return self.fake.add(listing(entry(raw, "raw"), entry(arm, "raw", "aarch64")), "1")

    def declare(self, what: str = ":1", **source: Any) -> None:
        self.project.declared["thing"] = {
            "kind": "disk",
            "derive": ["raw"],
            "source": {"url": f"{self.url}{what}", **source},
        }
        self.project.write()


@pytest.fixture
def upstream(project: Project) -> Iterator[Upstream]:
    project.hook("import recipes.sources.retry as retry; retry.BACKOFF = 0.001")
    project.environ["DOCKER_CONFIG"] = str(project.folder)
    fake = Fake()
    with misbehaving(fake) as server:
        yield Upstream(project, fake, server)


def tasks(executed: set[str]) -> set[str]:
    return {task for task in executed if not task.startswith("_sums:")}


def test_a_tag_is_followed(upstream: Upstream) -> None:
    project = upstream.project
    one, arm = packed("one"), packed("arm")
    upstream.push(one, arm)
    upstream.declare()
    project.ok("raw:thing", **CI)
    assert (project.entry("thing") / "disk.raw").read_bytes() == disk("one")
    receipt = project.receipt("thing", "raw")
    assert receipt["identity"]["digest"] == one.digest
    assert receipt["wrapper"]["digest"] in one.blobs
    # A disk for other machines is replaced, and the index with it: nothing to do with ours.
    upstream.push(one, packed("another arm"))
    assert not {"fetch:thing", "raw:thing"} & tasks(project.executed("raw:thing", **CI))
    upstream.push(packed("two"), arm)
    project.ok("raw:thing", **CI)
    assert (project.entry("thing") / "disk.raw").read_bytes() == disk("two")


def test_a_pin_of_the_index_is_renewed(upstream: Upstream) -> None:
    project = upstream.project
    first = upstream.push(packed("one"), packed("arm"))
    upstream.declare(f":1@{first.digest}")
    project.ok("raw:thing", **CI)
    second = upstream.push(packed("two"), packed("arm"))
    project.ok("update", **CI)
    assert f"{upstream.url}:1@{second.digest}" in (project.folder / "images.toml").read_text()
    project.ok("raw:thing", **CI)
    assert (project.entry("thing") / "disk.raw").read_bytes() == disk("two")


def test_plan_knows_its_size(upstream: Upstream) -> None:
    one = packed("one")
    upstream.push(one, packed("arm"))
    upstream.declare()
    out = upstream.project.ok("plan", "--json", "raw:thing", **CI)
    size = max(len(data) for data in one.blobs.values())
    assert f'"wrapper_size": {size}' in out or f'"size": {size}' in out, out


def test_none_that_fits_is_told(upstream: Upstream) -> None:
    upstream.push(packed("one"), packed("arm"))
    upstream.declare(disktype="qcow2")
    result = upstream.project.doit("raw:thing", **CI)
    assert result.status == 1
    assert (
        "there is no disk for linux/amd64 with disktype 'qcow2', only raw/amd64, raw/arm64" in result.out + result.err
    )
