"""What artifacts are in a registry, and how they come there, whatever else happens in it."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from recipes.errors import CorruptImage, FetchError, StoreError
from recipes.exchange import manifest as shape
from recipes.exchange import push
from recipes.exchange.manifest import Layer
from recipes.model import Digest
from tests.kit.machines import Machine
from tests.kit.project import disk
from tests.kit.registries import Keeping, refuse, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from tests.kit.servers import Exchange, Server

LAYER = Layer(Digest.parse(sha256(b"layer")), 5)
REPOSITORY = "acme/thing"


@pytest.fixture(autouse=True)
def _quickly(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "SETTLE", 1)


@pytest.fixture
def receipt(tmp_path: Path) -> Receipt:
    return Machine(tmp_path / "a", "127.0.0.1:1").build()


@contextmanager
def made(folder: Path, *kinds: str, keeping: Keeping | None = None) -> Iterator[tuple[Keeping, Server, Machine]]:
    """A machine that has made its artifacts, and a registry."""
    keeping = keeping or Keeping()
    with misbehaving(keeping) as server:
        machine = Machine(folder / "a", server)
        for kind in kinds or ("raw",):
            machine.entry.ask(kind)
            machine.build(kind)
        yield keeping, server, machine


def latest(keeping: Keeping, name: str = REPOSITORY) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(keeping.manifests[name]["latest"][0])["manifests"]
    return entries


def kinds_of(keeping: Keeping) -> list[str]:
    return [each["annotations"]["vnd.larder.kind"] for each in latest(keeping)]


def podman_takes(keeping: Keeping, disktype: str, arch: str) -> bytes | None:
    """Return what podman makes a machine of, by the rules of pkg/machine/ocipull/source.go."""
    data, media_type = keeping.manifests[REPOSITORY]["latest"]
    assert media_type == "application/vnd.oci.image.index.v1+json"
    for each in json.loads(data)["manifests"]:
        platform = each["platform"]
        if each["annotations"].get("disktype") == disktype and (platform["os"], platform["architecture"]) == (
            "linux",
            arch,
        ):
            manifest = json.loads(keeping.manifests[REPOSITORY][each["digest"]][0])
            (layer,) = manifest["layers"]
            assert layer["annotations"]["org.opencontainers.image.title"].endswith(f".{disktype}.zst")
            return keeping.blobs[REPOSITORY][layer["digest"]]
    return None


class TestManifest:
    def test_the_receipt_can_be_made_of_it(self, receipt: Receipt) -> None:
        shared = shape.read(shape.manifest(receipt, LAYER))
        assert shared == shape.Shared(receipt, LAYER, is_zstd=True)

    def test_it_is_the_same_for_the_same_receipt(self, receipt: Receipt) -> None:
        assert shape.manifest(receipt, LAYER) == shape.manifest(receipt, LAYER)

    def test_it_keeps_credentials_to_itself(self, receipt: Receipt) -> None:
        secret = dataclasses.replace(
            receipt,
            identity=receipt.identity._replace(urls=("https://me:secret@example.org/a.img",)),
            served=dataclasses.replace(receipt.served, url="https://me:secret@example.org/a.img"),
        )
        assert b"secret" not in shape.manifest(secret, LAYER)
        assert b"example.org/a.img" in shape.manifest(secret, LAYER)

    @pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"artifactType": "application/vnd.larder.artifact.v1"}'])
    def test_something_else(self, data: bytes) -> None:
        with pytest.raises(CorruptImage):
            shape.read(data)


class TestIndex:
    @staticmethod
    def entry(kind: str, arch: str = "x86_64", digest: str = "a") -> dict[str, Any]:
        return {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": sha256(f"{kind} {arch} {digest}".encode()),
            "size": 1,
            "platform": {"architecture": arch, "os": "linux"},
            "annotations": {"vnd.larder.kind": kind},
        }

    def test_each_has_a_place_of_its_own(self) -> None:
        one, two = self.entry("fetch"), self.entry("raw", "aarch64")
        index = shape.index(shape.index(None, [one]), [two])
        assert json.loads(index)["manifests"] == [two, one]
        new = self.entry("fetch", digest="b")
        assert json.loads(shape.index(index, [new]))["manifests"] == [two, new]
        assert shape.index(index, [one]) == index

    def test_what_is_not_ours_stays(self) -> None:
        other: dict[str, Any] = {"mediaType": "application/x", "digest": sha256(b"x"), "size": 1}
        index = json.dumps({"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [other], "x": 1})
        merged = json.loads(shape.index(index.encode(), [self.entry("raw")]))
        assert merged["manifests"] == [self.entry("raw"), other]
        assert merged["x"] == 1
        left = json.loads(shape.index(index.encode(), [self.entry("raw")], {other["digest"]}))
        assert left["manifests"] == [self.entry("raw")]

    @pytest.mark.parametrize("data", [b"x", b"{}", b'{"mediaType": "application/vnd.oci.image.manifest.v1+json"}'])
    def test_something_else(self, data: bytes) -> None:
        with pytest.raises(CorruptImage):
            shape.index(data, [])


class TestPush:
    def test_by_key_and_by_name(self, tmp_path: Path) -> None:
        with made(tmp_path, "fetch", "raw") as (keeping, _, machine):
            done = machine.push("fetch", "raw")
        assert [(each.kind, each.reference.tag) for each in done] == [
            ("fetch", machine.key("fetch")),
            ("raw", machine.key("raw")),
        ]
        assert kinds_of(keeping) == ["raw", "fetch"]
        found = shape.read(keeping.manifests[REPOSITORY][machine.key()][0])
        assert found.receipt == machine.entry.receipt("raw")
        assert done[1].sent == found.layer.size < 70_000
        assert sha256(disk("thing")) in keeping.blobs[REPOSITORY]

    def test_podman_finds_its_disk(self, tmp_path: Path) -> None:
        with made(tmp_path, "fetch", "raw") as (keeping, _, machine):
            machine.push("fetch", "raw")
        layer = podman_takes(keeping, "raw", "x86_64")
        assert layer is not None
        reader = zstandard.ZstdDecompressor().stream_reader(layer, read_across_frames=True)
        assert reader.read() == disk("thing")
        assert podman_takes(keeping, "raw", "aarch64") is None
        assert podman_takes(keeping, "qcow2", "x86_64") is None

    def test_what_is_there_is_not_sent(self, tmp_path: Path) -> None:
        with made(tmp_path) as (keeping, server, machine):
            machine.push()
            before = dict(keeping.manifests[REPOSITORY])
            server.seen.clear()
            (again,) = machine.push()
            assert again.sent == 0
            assert {seen.method for seen in server.seen} == {"GET", "HEAD"}
        assert keeping.manifests[REPOSITORY] == before

    def test_a_blob_that_was_collected_is_sent_again(self, tmp_path: Path) -> None:
        with made(tmp_path) as (keeping, _, machine):
            machine.push()
            keeping.blobs.clear()
            (again,) = machine.push()
        assert again.sent
        assert shape.read(keeping.manifests[REPOSITORY][machine.key()][0]).layer.digest is not None
        assert len(keeping.blobs[REPOSITORY]) == 2

    def test_one_that_another_repository_has(self, tmp_path: Path) -> None:
        with made(tmp_path) as (keeping, server, machine):
            machine.push()
            twin = Machine(tmp_path / "b", server, name="twin")
            twin.build()
            (pushed,) = twin.push(twins=("nothing", "thing"))
            assert pushed.sent == 0
        assert set(keeping.blobs["acme/twin"]) == set(keeping.blobs[REPOSITORY])

    def test_a_blob_that_is_collected_before_its_manifest(self, tmp_path: Path) -> None:
        collected: list[int] = []

        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PUT" and "/manifests/" in exchange.path and not collected:
                collected.append(1)
                keeping.blobs.clear()
            return False

        with made(tmp_path, keeping=Keeping(hook)) as (keeping, _, machine):
            machine.push()
            assert "sending it again" in machine.progress.notes[0]
        assert kinds_of(keeping) == ["raw"]

    def test_one_that_loses_everything_always(self, tmp_path: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PUT" and "/manifests/" in exchange.path:
                keeping.blobs.clear()
            return False

        with (
            made(tmp_path, keeping=Keeping(hook)) as (keeping, _, machine),
            pytest.raises(FetchError, match="given up after 3 attempts") as caught,
        ):
            machine.push()
        assert "collects garbage" in str(caught.value.hint)

    def test_an_upload_that_is_lost_begins_anew(self, tmp_path: Path) -> None:
        lost: list[int] = []

        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PATCH" and not lost:
                lost.append(1)
                keeping.uploads.clear()
            return False

        with made(tmp_path, keeping=Keeping(hook)) as (keeping, _, machine):
            (pushed,) = machine.push()
        assert kinds_of(keeping) == ["raw"]
        assert pushed.sent == shape.read(keeping.manifests[REPOSITORY][machine.key()][0]).layer.size

    @pytest.mark.parametrize("kind", ["fetch", "raw"])
    def test_an_upload_that_is_cut_goes_on(self, kind: str, tmp_path: Path) -> None:
        with made(tmp_path, kind) as (keeping, server, machine):
            server.limits.append(20_000)
            (pushed,) = machine.push(kind)
            sent = [len(seen.body) for seen in server.seen if seen.method == "PATCH"]
        layer = shape.read(keeping.manifests[REPOSITORY][machine.key(kind)][0]).layer
        assert sent[:2] == [20_000, layer.size - 20_000]
        assert len(keeping.blobs[REPOSITORY][str(layer.digest)]) == layer.size == pushed.sent

    def test_a_registry_that_dies(self, tmp_path: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            dead = any(keeping.uploads.values())
            if dead:
                exchange.cut()
            return dead

        with made(tmp_path, keeping=Keeping(hook)) as (keeping, _, machine), pytest.raises(FetchError, match="push:"):
            machine.push()
        assert not keeping.manifests[REPOSITORY]

    def test_one_that_refuses(self, tmp_path: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "POST":
                refuse(exchange, 403, "DENIED", "quota exceeded")
            return exchange.command == "POST"

        with made(tmp_path, keeping=Keeping(hook)) as (_, _, machine), pytest.raises(FetchError) as caught:
            machine.push()
        assert caught.value.message.startswith("push:thing: oci://")
        assert "403 Forbidden: DENIED: quota exceeded" in caught.value.message

    def test_a_tag_that_is_something_else(self, tmp_path: Path) -> None:
        with made(tmp_path) as (keeping, _, machine):
            keeping.manifests[REPOSITORY]["latest"] = (b"{}", "application/vnd.oci.image.manifest.v1+json")
            with pytest.raises(FetchError, match=r"thing:latest: index: expected") as caught:
                machine.push()
        assert "delete it there" in str(caught.value.hint)
        assert machine.key() in keeping.manifests[REPOSITORY]

    def test_an_entry_whose_manifest_was_deleted_goes(self, tmp_path: Path) -> None:
        with made(tmp_path, "fetch", "raw") as (keeping, _, machine):
            machine.push("fetch")
            for name in (latest(keeping)[0]["digest"], machine.key("fetch")):
                del keeping.manifests[REPOSITORY][name]
            machine.push("raw")
        assert kinds_of(keeping) == ["raw"]

    def test_a_damaged_wrapper(self, tmp_path: Path) -> None:
        with made(tmp_path, "fetch") as (keeping, _, machine):
            path = machine.entry.artifact("fetch")
            receipt = machine.entry.receipt("fetch")
            assert receipt is not None
            path.chmod(0o644)
            path.write_bytes(disk("other"))
            os.utime(path, ns=(0, receipt.artifact.mtime_ns))
            with pytest.raises(StoreError, match=f"expected {receipt.artifact.digest}, found sha256:"):
                machine.push("fetch")
        assert not keeping.manifests[REPOSITORY]


class TestTwoAtOnce:
    def test_the_same_key(self, tmp_path: Path) -> None:
        with made(tmp_path) as (keeping, server, machine):
            other = Machine(tmp_path / "b", server)
            other.build()
            threads = [threading.Thread(target=each.push) for each in (machine, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert kinds_of(keeping) == ["raw"]
        digest = shape.read(keeping.manifests[REPOSITORY][machine.key()][0]).layer.digest
        assert str(digest) in keeping.blobs[REPOSITORY]

    def test_an_entry_that_another_one_has_overwritten_is_put_back(self, tmp_path: Path) -> None:
        """Another machine had read the index before ours was in it, and writes it after."""
        theirs = TestIndex.entry("fetch", "aarch64")
        written: list[int] = []

        def hook(exchange: Exchange) -> bool:
            if exchange.command == "GET" and exchange.path.endswith("/latest") and written == [1]:
                written.append(2)
                index = shape.index(None, [theirs])
                keeping.manifests[REPOSITORY][theirs["digest"]] = (b"", "")
                keeping.manifests[REPOSITORY]["latest"] = (index, "application/vnd.oci.image.index.v1+json")
            if exchange.command == "PUT" and exchange.path.endswith("/latest") and not written:
                written.append(1)
            return False

        with made(tmp_path, keeping=Keeping(hook)) as (keeping, _, machine):
            machine.push()
        assert kinds_of(keeping) == ["raw", "fetch"]

    def test_one_that_insists_on_its_own_manifest_of_the_same_key(self, tmp_path: Path) -> None:
        """Its manifest is under the key, so that is the one which the index is to name, for both."""

        def hook(exchange: Exchange) -> bool:
            latest = exchange.path.endswith("/latest")
            if exchange.command == "GET" and latest and "latest" in (stored := keeping.manifests[REPOSITORY]):
                ours = json.loads(stored[machine.key()][0])
                ours["annotations"]["org.opencontainers.image.created"] = "2026-01-01T00:00:00Z"
                theirs = json.dumps(ours).encode()
                manifest = (theirs, "application/vnd.oci.image.manifest.v1+json")
                stored[machine.key()] = stored[sha256(theirs)] = manifest
                index = shape.index(None, [shape.entry(theirs)])
                stored["latest"] = (index, "application/vnd.oci.image.index.v1+json")
            return False

        with made(tmp_path, keeping=Keeping(hook)) as (keeping, server, machine):
            machine.push()
            assert sum(seen.method == "PUT" and seen.path.endswith("/latest") for seen in server.seen) == 2
        (entry,) = json.loads(keeping.manifests[REPOSITORY]["latest"][0])["manifests"]
        assert keeping.manifests[REPOSITORY][machine.key()] == keeping.manifests[REPOSITORY][entry["digest"]]

    def test_one_that_never_lets_go(self, tmp_path: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "GET" and exchange.path.endswith("/latest"):
                keeping.manifests[REPOSITORY].pop("latest", None)
            return False

        with (
            made(tmp_path, keeping=Keeping(hook)) as (keeping, _, machine),
            pytest.raises(FetchError, match="written to it 8 times was replaced each time"),
        ):
            machine.push()
