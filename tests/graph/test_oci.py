"""Images from a registry through the real `doit` program; the registry is ours, so that it tells what it was asked."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.oci_images import Layout, file, tar, write_folder
from tests.kit.registries import AMD64, ARM64, Document, Fake, image, index, layer
from tests.kit.servers import Exchange, Server, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.project import Project

CI = {"CI": "true"}


def made(seed: str, arch: str = "amd64") -> Document:
    return image(layer({"data": random.Random(seed).randbytes(300_000)}), arch=arch)


class Upstream:
    """A registry, and the project that declares images in it."""

    def __init__(self, project: Project, fake: Fake, server: Server) -> None:
        self.project = project
        self.fake = fake
        self.server = server
        self.host = f"127.0.0.1:{server.port}"

    def push(self, document: Document, *below: Document, tag: str = "1") -> Document:
        for each in below:
            self.fake.add(each)
        return self.fake.add(document, tag)

    def url(self, what: str = ":1") -> str:
        return f"oci://{self.host}/acme/thing{what}"

    def declare(self, what: str = ":1", name: str = "thing", **source: Any) -> None:
        self.project.declared[name] = {"derive": ["fetch"], "source": {"url": self.url(what), **source}}
        self.project.write()

    def asked(self) -> list[str]:
        """Return what was asked for since the last time, but whether the registry speaks http."""
        found = [f"{seen.method} {seen.path.removeprefix('/v2/acme/thing/')}" for seen in self.server.seen]
        self.server.seen.clear()
        return [each for each in found if each != "GET /v2/"]

    def index(self) -> dict[str, Any]:
        """Return index.json of what was fetched."""
        with tarfile.open(self.project.entry("thing") / "wrapper") as tar:
            member = tar.extractfile("index.json")
            assert member
            document: dict[str, Any] = json.loads(member.read())
            return document


def test_a_layout_in_a_folder(project: Project) -> None:
    layout = Layout()

    def write(*entries: dict[str, Any]) -> None:
        layout.write(project.upstream / "a.tar", *entries)
        write_folder(project.upstream / "layout", layout.files)

    url = f"{(project.upstream / 'layout').as_uri()}/"
    project.declared["a"] = {"derive": ["rootfs"], "source": {"url": url}}
    project.declared["b"] = {
        "kind": "oci",
        "derive": ["rootfs"],
        "source": {"url": url.rstrip("/"), "digest": f"sha256:{'0' * 64}"},
    }
    project.write()
    write(layout.image(tar(file("etc/one"))))
    project.ok("rootfs:a", LARDER_OFFLINE="1")
    assert project.files("a") == {"rootfs.tar", "rootfs.json"}
    assert "sha256" in project.receipt("a", "rootfs")["identity"]["digest"]
    assert all(name.startswith("_sums:") for name in project.executed("rootfs:a"))
    # What is in it is seen at once.
    write(layout.image(tar(file("etc/two"))))
    assert "rootfs:a" in project.executed("rootfs:a")
    result = project.doit("rootfs:b")
    assert result.status == 1
    assert "found a folder" in result.out
    assert "its url ends with a slash" in result.out


@pytest.fixture
def upstream(project: Project) -> Iterator[Upstream]:
    project.hook("import recipes.sources.retry as retry; retry.BACKOFF = 0.001")
    project.environ["DOCKER_CONFIG"] = str(project.folder)
    fake = Fake()
    with misbehaving(fake) as server:
        yield Upstream(project, fake, server)


def tasks(executed: set[str]) -> set[str]:
    return {task for task in executed if not task.startswith("_sums:")}


class TestATag:
    def test_it_is_fetched_and_then_asked_about(self, upstream: Upstream) -> None:
        one = upstream.push(made("one"))
        upstream.declare()
        assert tasks(upstream.project.executed("fetch:thing", **CI)) == {"resolve:thing", "fetch:thing"}
        blobs = [f"GET blobs/{digest}" for digest in one.blobs]
        assert upstream.asked() == ["GET manifests/1", f"GET manifests/{one.digest}", *blobs]

        wrapper = (upstream.project.entry("thing") / "wrapper").read_bytes()
        receipt = upstream.project.receipt("thing", "fetch")
        assert receipt["identity"]["digest"] == one.digest
        assert receipt["identity"]["url"] == upstream.url(f"@{one.digest}")
        assert receipt["identity"]["size"] == receipt["wrapper"]["size"] == len(wrapper)
        assert receipt["wrapper"]["digest"] == f"sha256:{hashlib.sha256(wrapper).hexdigest()}"
        assert upstream.index()["manifests"] == [one.descriptor()]

        # It stays where it is: one question, which is no pull.
        assert tasks(upstream.project.executed("fetch:thing", **CI)) == set()
        assert upstream.asked() == ["HEAD manifests/1"]

    def test_it_moves(self, upstream: Upstream) -> None:
        upstream.push(made("one"))
        upstream.declare()
        upstream.project.ok("fetch:thing", **CI)
        two = upstream.push(made("two"))
        assert tasks(upstream.project.executed("fetch:thing", **CI)) == {"resolve:thing", "fetch:thing"}
        assert upstream.index()["manifests"] == [two.descriptor()]

    def test_it_moves_for_another_machine(self, upstream: Upstream) -> None:
        one, arm = made("one"), made("arm", "arm64")
        upstream.push(index((one, AMD64), (arm, ARM64)), one, arm)
        upstream.declare()
        upstream.project.ok("fetch:thing", **CI)
        other = made("other", "arm64")
        upstream.push(index((one, AMD64), (other, ARM64)), one, other)
        assert tasks(upstream.project.executed("fetch:thing", **CI)) == set()
        assert upstream.index()["manifests"] == [one.descriptor()]

    def test_an_index_in_an_index(self, upstream: Upstream) -> None:
        one = made("one")
        inner = index((one, AMD64))
        upstream.push(index((inner, None)), inner, one)
        upstream.declare()
        upstream.project.ok("fetch:thing")
        assert upstream.index()["manifests"] == [one.descriptor()]
        assert tasks(upstream.project.executed("fetch:thing", **CI)) == set()

    def test_nobody_is_asked_again_within_the_hour(self, upstream: Upstream) -> None:
        upstream.push(made("one"))
        upstream.declare()
        upstream.project.ok("fetch:thing")
        upstream.asked()
        assert upstream.project.executed("fetch:thing") == set()
        assert upstream.asked() == []
        upstream.project.ok("run", "--fresh", "fetch:thing")
        assert upstream.asked() == ["HEAD manifests/1"]

    def test_two_images_with_one_tag(self, upstream: Upstream) -> None:
        upstream.push(made("one"))
        upstream.declare()
        upstream.declare(name="twin")
        executed = upstream.project.executed("fetch:thing", "fetch:twin")
        assert len([task for task in executed if task.startswith("_sums:")]) == 1
        assert len([each for each in upstream.asked() if "blobs" in each]) == 2

    def test_the_database_is_lost(self, upstream: Upstream) -> None:
        upstream.push(made("one"))
        upstream.declare()
        upstream.project.ok("fetch:thing")
        upstream.asked()
        (upstream.project.cache / "doit.db").unlink()
        upstream.project.ok("fetch:thing", **CI)
        assert upstream.asked() == ["HEAD manifests/1"]

    def test_nothing_for_the_machine(self, upstream: Upstream) -> None:
        arm = made("arm", "arm64")
        upstream.push(index((arm, ARM64)), arm)
        upstream.declare()
        result = upstream.project.doit("fetch:thing")
        assert result.status != 0
        said = f"{upstream.url()}: there is no image for linux/amd64, only for linux/arm64/v8"
        assert said in result.out + result.err
        assert "Traceback" not in result.out + result.err

    def test_what_does_not_exist(self, upstream: Upstream) -> None:
        upstream.declare(":2")
        result = upstream.project.doit("fetch:thing")
        assert f"tag thing:2: {upstream.url(':2')}: 404 Not Found: MANIFEST_UNKNOWN" in result.err + result.out


class TestWithoutARegistry:
    @pytest.fixture
    def down(self, upstream: Upstream) -> Upstream:
        upstream.push(made("one"))
        upstream.declare()
        upstream.project.ok("fetch:thing")

        def refuse(exchange: Exchange) -> bool:
            exchange.reply(503)
            return True

        upstream.fake.hook = refuse
        return upstream

    def test_what_it_was_last_is_used(self, down: Upstream) -> None:
        result = down.project.doit("fetch:thing", **CI)
        assert result.status == 0
        assert f"warning: using the tag {down.url()} as of " in result.out + result.err
        (down.project.entry("thing") / "wrapper").unlink()
        assert down.project.doit("fetch:thing", **CI).status != 0

    def test_strictly_it_is_not(self, down: Upstream) -> None:
        result = down.project.doit("fetch:thing", LARDER_STRICT="1", **CI)
        assert result.status != 0
        assert "503 Service Unavailable" in result.out + result.err

    def test_offline(self, down: Upstream) -> None:
        down.asked()
        down.project.ok("fetch:thing", LARDER_OFFLINE="1", **CI)
        down.declare(":2")
        result = down.project.doit("fetch:thing", LARDER_OFFLINE="1", **CI)
        assert f"the tag {down.url(':2')} was never fetched, and LARDER_OFFLINE is set" in result.out + result.err
        assert down.asked() == []


class TestAPin:
    @pytest.mark.parametrize("in_url", [True, False])
    def test_no_tag_is_asked_about(self, upstream: Upstream, in_url: bool) -> None:
        one = upstream.push(made("one"))
        upstream.push(made("two"))
        upstream.declare(*((f":1@{one.digest}",) if in_url else (":1",)), **({} if in_url else {"digest": one.digest}))
        executed = upstream.project.executed("fetch:thing", **CI)
        assert executed == {"resolve:thing", "fetch:thing"}
        assert upstream.asked()[0] == f"GET manifests/{one.digest}"
        assert upstream.index()["manifests"] == [one.descriptor()]
        assert upstream.project.executed("fetch:thing", **CI) == set()
        assert upstream.asked() == []

    def test_of_an_index(self, upstream: Upstream) -> None:
        one, arm = made("one"), made("arm", "arm64")
        both = upstream.push(index((one, AMD64), (arm, ARM64)), one, arm)
        upstream.declare(f"@{both.digest}")
        text = (upstream.project.folder / "images.toml").read_text()
        for arch, expected in (("x86_64", one), ("aarch64", arm)):
            (upstream.project.folder / "images.toml").write_text(text.replace("x86_64", arch))
            upstream.project.ok("fetch:thing", LARDER_ARCH=arch)
            with tarfile.open(upstream.project.cache / "images" / "thing" / arch / "wrapper") as tar:
                assert f"blobs/{expected.digest.replace(':', '/')}" in tar.getnames()


def test_a_mirror(upstream: Upstream) -> None:
    one = upstream.push(made("one"))
    upstream.project.declared["thing"] = {
        "derive": ["fetch"],
        "source": {"url": "oci://registry.invalid/library/thing:1"},
    }
    upstream.project.write(f'[mirrors]\n"oci://registry.invalid/library/" = ["oci://{upstream.host}/acme/"]\n')
    upstream.project.ok("fetch:thing")
    receipt = upstream.project.receipt("thing", "fetch")
    assert receipt["identity"]["url"] == f"oci://registry.invalid/library/thing@{one.digest}"
    assert receipt["served"]["url"] == upstream.url(f"@{one.digest}")


class TestPlan:
    def plan(self, upstream: Upstream, **environ: str) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(upstream.project.ok("plan", "--json", "fetch:thing", **environ))["images"][0]
        return row

    @pytest.mark.parametrize("several", [False, True])
    def test_sizes_are_known_before_anything_is_downloaded(self, upstream: Upstream, several: bool) -> None:
        one = made("one")
        upstream.push(index((one, AMD64)) if several else one, one)
        upstream.declare()
        row = self.plan(upstream)
        assert not [each for each in upstream.asked() if "blobs" in each]
        upstream.project.ok("fetch:thing")
        size = (upstream.project.entry("thing") / "wrapper").stat().st_size
        assert row["runs"] == ["fetch"]
        assert row["wrapper_size"] == row["download"] == row["written_at_most"] == size
        assert row["url"] == upstream.url(f"@{one.digest}")
        assert not row["notes"]

    def test_what_was_begun_counts(self, upstream: Upstream) -> None:
        upstream.push(made("one"))
        upstream.declare()

        def cut(exchange: Exchange) -> bool:
            broken = "blobs" in exchange.path and len(data := upstream.fake.blobs[exchange.path[-71:]]) > 100_000
            if broken:
                exchange.start(200, {"Content-Length": len(data)})
                exchange.wfile.write(data[:100_000])
                exchange.cut()
            return broken

        upstream.fake.hook = cut
        assert upstream.project.doit("fetch:thing").status != 0
        row = self.plan(upstream)
        assert 100_000 < row["wrapper_size"] - row["download"] < 110_000

    def test_what_is_not_there(self, upstream: Upstream) -> None:
        upstream.declare(f"@sha256:{'ab' * 32}")
        row = self.plan(upstream)
        assert row["wrapper_size"] is None
        assert "404 Not Found" in row["notes"][0]


class TestUpdate:
    def pin(self, upstream: Upstream, what: str, **source: Any) -> str:
        upstream.declare(what, **source)
        return (upstream.project.folder / "images.toml").read_text()

    @pytest.mark.parametrize("in_url", [True, False])
    def test_a_tag_that_moved(self, upstream: Upstream, in_url: bool) -> None:
        old, new = made("old"), made("new")
        both = upstream.push(index((new, AMD64)), new)
        before = self.pin(upstream, f":1@{old.digest}") if in_url else self.pin(upstream, ":1", digest=old.digest)
        diff = upstream.project.ok("update")
        assert f"+{'url' if in_url else 'digest'} = " in diff
        after = (upstream.project.folder / "images.toml").read_text()
        # All architectures: what docker shows for the tag.
        assert after == before.replace(old.digest, both.digest)
        assert upstream.project.ok("update", "--check") == ""

    def test_a_pin_to_one_machine_of_the_index_is_right(self, upstream: Upstream) -> None:
        one = made("one")
        upstream.push(index((one, AMD64)), one)
        before = self.pin(upstream, f":1@{one.digest}")
        assert upstream.project.ok("update") == ""
        assert (upstream.project.folder / "images.toml").read_text() == before

    def test_a_tag_that_lost_the_machine(self, upstream: Upstream) -> None:
        one, arm = made("one"), made("arm", "arm64")
        upstream.push(index((arm, ARM64)), arm)
        before = self.pin(upstream, f":1@{one.digest}")
        result = upstream.project.doit("update")
        assert result.status != 0
        assert "there is no image for linux/amd64" in result.err
        assert (upstream.project.folder / "images.toml").read_text() == before

    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            (f"@sha256:{'ab' * 32}", "no tag is declared to follow"),
            (":1", "it is not pinned and follows its tag already"),
        ],
    )
    def test_what_is_passed_over(self, upstream: Upstream, what: str, reason: str) -> None:
        self.pin(upstream, what)
        result = upstream.project.doit("update")
        assert (result.status, result.out) == (0, "")
        assert f"thing (x86_64): skipped, {reason}" in result.err
        assert upstream.asked() == []
