"""What is taken from a registry, and what is not: whatever happens there, the artifact can be made here."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from recipes.derive import engine
from recipes.errors import Interrupted
from recipes.exchange import pull, push
from recipes.model import Digest
from recipes.sources.part import Origin, Part
from tests.kit.machines import Machine
from tests.kit.project import disk
from tests.kit.registries import Keeping, refuse, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.servers import Exchange, Server

REPOSITORY = "acme/thing"
#: Data in the first and in the last unit of the zstd, in between holes.
DISK = disk("thing", 12 << 20)[: 11 << 20] + os.urandom(1 << 20)


@pytest.fixture(autouse=True)
def _quickly(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "SETTLE", 0)


@contextmanager
def shared(
    folder: Path, *kinds: str, data: bytes = DISK, algorithm: str = "sha256"
) -> Iterator[tuple[Keeping, Server, Machine]]:
    """A registry that has what one machine has made, and another machine; upstream has a digest by `algorithm`."""
    digest = Digest(algorithm, hashlib.new(algorithm, data).hexdigest())
    keeping = Keeping()
    with misbehaving(keeping) as server:
        a = Machine(folder / "a", server, data=data)
        a.identity = a.identity._replace(digest=digest)
        for kind in kinds or ("raw",):
            a.build(kind)
        a.push(*kinds)
        b = Machine(folder / "b", server, data=data)
        b.identity = a.identity._replace(urls=b.identity.urls)
        (folder / "b" / "upstream.img").unlink()
        server.seen.clear()
        yield keeping, server, b


def blob_of(keeping: Keeping, machine: Machine, kind: str = "raw") -> str:
    layer: dict[str, str] = manifest_of(keeping, machine, kind)["layers"][0]
    return layer["digest"]


def manifest_of(keeping: Keeping, machine: Machine, kind: str = "raw") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(keeping.manifests[REPOSITORY][machine.key(kind)][0])
    return document


def change(keeping: Keeping, machine: Machine, how: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Let the registry lie: `how` changes manifest and receipt."""
    document = manifest_of(keeping, machine)
    receipt = json.loads(document["annotations"]["vnd.larder.receipt"])
    how(document, receipt)
    document["annotations"]["vnd.larder.receipt"] = json.dumps(receipt)
    data = json.dumps(document).encode()
    keeping.manifests[REPOSITORY][machine.key()] = (data, document["mediaType"])


def left(machine: Machine) -> set[str]:
    return {path.name for path in machine.entry.path.glob("*") if path.name != ".lock"}


class TestPulled:
    @pytest.mark.parametrize("kind", ["raw", "fetch", "content"])
    def test_the_same_bytes_and_a_receipt_that_says_so(self, tmp_path: Path, kind: str) -> None:
        with shared(tmp_path, kind) as (keeping, _, b):
            assert b.pull(kind) == [kind]
        receipt = b.entry.current(kind, b.key(kind))
        assert receipt is not None
        assert receipt.pulled is not None
        assert receipt.pulled.reference.endswith(f"{REPOSITORY}:{b.key(kind)}")
        assert receipt.pulled.digest == sha256(keeping.manifests[REPOSITORY][b.key(kind)][0])
        assert b.entry.artifact(kind).read_bytes() == DISK
        assert b.entry.artifact(kind).stat().st_mode & 0o777 == 0o444
        assert left(b) == {b.entry.artifact(kind).name, f"{kind}.json"}

    def test_its_holes_are_holes(self, tmp_path: Path) -> None:
        with shared(tmp_path) as (_, _, b):
            b.pull()
        assert b.entry.artifact("raw").stat().st_blocks * 512 < 3 << 20

    @pytest.mark.parametrize(("kind", "name"), [("qcow2", "disk.qcow2"), ("vmdk", "disk.vmdk")])
    def test_compressed_disks_travel_as_they_are(self, tmp_path: Path, kind: str, name: str) -> None:
        with shared(tmp_path, kind) as (keeping, _, b):
            assert b.pull(kind) == [kind]
            (pushed,) = (tmp_path / "a").rglob(name)
            assert b.entry.artifact(kind).read_bytes() == pushed.read_bytes()
            (layer,) = json.loads(keeping.manifests[REPOSITORY][b.key(kind)][0])["layers"]
        assert (layer["mediaType"], layer["size"]) == ("application/octet-stream", pushed.stat().st_size)
        assert layer["annotations"]["org.opencontainers.image.title"] == f"thing.x86_64.{name}"

    def test_what_is_missing_costs_a_request_for_each_key(self, tmp_path: Path) -> None:
        with misbehaving(Keeping()) as server:
            b = Machine(tmp_path / "b", server)
            assert b.pull() == []
            asked = [seen.path.rpartition("/")[2] for seen in server.seen if "/manifests/" in seen.path]
        assert asked == [b.key("raw"), b.key("content"), b.key("fetch")]
        assert b.progress.notes == []

    def test_the_nearest_input_will_do(self, tmp_path: Path) -> None:
        with shared(tmp_path, "fetch") as (_, _, b):
            assert b.pull("raw") == ["fetch"]
        assert b.build().artifact.size == len(DISK)

    def test_nothing_is_pulled_that_can_be_made_without_a_network(self, tmp_path: Path) -> None:
        with shared(tmp_path) as (_, server, _):
            b = Machine(tmp_path / "c", server, data=DISK)
            b.build("fetch")
            assert b.pull() == []
            assert server.seen == []

    def test_after_a_cut(self, tmp_path: Path) -> None:
        with shared(tmp_path) as (keeping, server, b):
            blob = blob_of(keeping, b)

            def hook(exchange: Exchange) -> bool:
                first = exchange.path.endswith(blob) and "Range" not in exchange.headers
                if first:
                    exchange.file(keeping.blobs[REPOSITORY][blob], etag=None, stop=500_000)
                return first

            keeping.hook = hook
            assert b.pull() == ["raw"]
            assert [seen.range[0] for seen in server.seen if seen.path.endswith(blob)] == [None, "bytes=500000-"]
        assert b.entry.artifact("raw").read_bytes() == DISK

    def test_from_a_server_that_knows_no_ranges(self, tmp_path: Path) -> None:
        with shared(tmp_path) as (keeping, _, b):
            blob = blob_of(keeping, b)
            cuts: list[int] = []

            def hook(exchange: Exchange) -> bool:
                if not exchange.path.endswith(blob):
                    return False
                if cuts:
                    exchange.reply(200, keeping.blobs[REPOSITORY][blob])
                else:
                    cuts.append(1)
                    exchange.file(keeping.blobs[REPOSITORY][blob], etag=None, stop=500_000)
                return True

            keeping.hook = hook
            assert b.pull() == ["raw"]
        assert b.entry.artifact("raw").read_bytes() == DISK

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_what_upstream_began(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
        """The registry goes on with it, in room for no more than the rest."""
        here = 12_000_000
        with shared(tmp_path, "fetch", algorithm=algorithm) as (_, server, b):
            b.entry.path.mkdir(parents=True)
            with Part(b.entry.part, b.identity.digest) as part:
                part.begin(Origin.of("http://example.org/disk.img", len(DISK), {"ETag": '"v1"'}))
                part.write(DISK[:here])
            free = SimpleNamespace(free=len(DISK) - here)
            monkeypatch.setattr("shutil.disk_usage", lambda path: free)
            assert b.pull("fetch") == ["fetch"]
            assert [seen.range[0] for seen in server.seen if "/blobs/" in seen.path] == [f"bytes={here}-"]
        assert b.entry.artifact("fetch").read_bytes() == DISK
        assert left(b) == {"wrapper", "fetch.json"}

    def test_what_upstream_began_of_other_bytes(self, tmp_path: Path) -> None:
        """The digest tells, and the registry has it all."""
        with shared(tmp_path, "fetch") as (_, server, b):
            b.entry.path.mkdir(parents=True)
            with Part(b.entry.part, b.identity.digest) as part:
                part.begin(Origin.of("http://example.org/disk.img", len(DISK), {"ETag": '"v1"'}))
                part.write(b"x" * 1_000_000)
            assert b.pull("fetch") == ["fetch"]
            ranges = [seen.range[0] for seen in server.seen if "/blobs/" in seen.path]
            assert ranges == ["bytes=1000000-", None]
        assert b.entry.artifact("fetch").read_bytes() == DISK

    def test_without_room_for_what_it_is_decoded_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with shared(tmp_path) as (_, server, b):
            monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
            assert b.pull() == []
            assert not [seen for seen in server.seen if "/blobs/" in seen.path]
        assert left(b) == set()

    def test_an_interruption_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise Interrupted("told to stop")

        with shared(tmp_path) as (_, _, b):
            monkeypatch.setattr(pull, "_verify", interrupt)
            with pytest.raises(Interrupted):
                b.pull()
        assert left(b) == set()


def _set(section: str, name: str, value: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def how(_: dict[str, Any], receipt: dict[str, Any]) -> None:
        receipt[section][name] = value

    return how


def _key(_: dict[str, Any], receipt: dict[str, Any]) -> None:
    receipt["key"] = "0" * 64


def _recipe(_: dict[str, Any], receipt: dict[str, Any]) -> None:
    receipt["recipe"] = "raw/99"


def _kind(_: dict[str, Any], receipt: dict[str, Any]) -> None:
    receipt["kind"] = "vhdx"


def _blkhash(_: dict[str, Any], receipt: dict[str, Any]) -> None:
    receipt["artifact"]["blkhash"]["hex"] = "0" * 64


def _nonsense(_: dict[str, Any], receipt: dict[str, Any]) -> None:
    receipt["made"] = 7


def _no_digest(_: dict[str, Any], receipt: dict[str, Any]) -> None:
    receipt["artifact"]["blkhash"] = None


def _two_layers(document: dict[str, Any], _: dict[str, Any]) -> None:
    document["layers"] *= 2


def _an_image(document: dict[str, Any], _: dict[str, Any]) -> None:
    del document["artifactType"]


def _layer_size(document: dict[str, Any], _: dict[str, Any]) -> None:
    document["layers"][0]["size"] += 1


def _layer_bomb(document: dict[str, Any], _: dict[str, Any]) -> None:
    document["layers"][0]["size"] = 1 << 45


class TestRefused:
    @pytest.mark.parametrize(
        ("how", "said"),
        [
            (_key, rf"expected raw [0-9a-f]{{64}} by raw/1.*found raw {'0' * 64} by raw/1"),
            (_kind, "expected raw .*found vhdx"),
            (_recipe, "by raw/1 as zstd, found .* by raw/99"),
            (_blkhash, f"expected blkhash blake3:{'0' * 64} .*, found blake3:"),
            (_no_digest, "records no digest"),
            (_nonsense, "vnd.larder.receipt: .*made.*expected a string"),
            (_two_layers, "expected one layer, found 2"),
            (_an_image, "expected artifactType"),
            (_layer_size, "announces"),
            (_layer_bomb, "expected a layer of .* bytes at the most"),
            (_set("artifact", "size", 1 << 50), f"expected {1 << 40} bytes at the most, its receipt says {1 << 50}"),
            (_set("artifact", "size", 11 << 20), "holds more than the limit"),
            (_set("artifact", "size", 13 << 20), f"expected {13 << 20} bytes, found {12 << 20}"),
            (_set("artifact", "allocated", 1 << 60), "left to download, and"),
            (_set("wrapper", "digest", sha256(b"other")), f"found what is of {sha256(b'other')}"),
        ],
    )
    def test_a_registry_that_lies(
        self, tmp_path: Path, how: Callable[[dict[str, Any], dict[str, Any]], None], said: str
    ) -> None:
        with shared(tmp_path) as (keeping, _, b):
            change(keeping, b, how)
            assert b.pull() == []
        (note,) = b.progress.notes
        assert note.startswith("raw:thing: not pulled from ")
        assert re.search(said, note), note
        assert left(b) == set()

    def test_other_bytes_of_the_same_length(self, tmp_path: Path) -> None:
        with shared(tmp_path) as (keeping, _, b):
            blob = blob_of(keeping, b)
            altered = bytearray(keeping.blobs[REPOSITORY][blob])
            altered[40_000] ^= 1
            keeping.blobs[REPOSITORY][blob] = bytes(altered)
            assert b.pull() == []
        # Whichever comes first: the digest of the layer, or the checksum of the frame.
        assert re.search("acme: (zstd: near byte|oci://.* wrong digest)", b.progress.notes[0])
        assert left(b) == set()

    def test_a_good_zstd_of_something_else(self, tmp_path: Path) -> None:
        """Every checksum in it is right, and only the layer's digest tells."""
        with shared(tmp_path) as (keeping, server, b):
            a = Machine(tmp_path / "o", server, data=DISK[::-1], name="other")
            a.build()
            a.push()
            other = json.loads(keeping.manifests["acme/other"][a.key()][0])["layers"][0]
            wrong = keeping.blobs["acme/other"][other["digest"]]
            blob = blob_of(keeping, b)
            keeping.blobs[REPOSITORY][blob] = wrong

            def how(document: dict[str, Any], _: dict[str, Any]) -> None:
                document["layers"][0]["size"] = len(wrong)

            change(keeping, b, how)
            assert b.pull() == []
        assert f"expected {blob}, got {sha256(wrong)}" in b.progress.notes[-1]
        assert left(b) == set()

    def test_a_wrapper_that_is_not_upstream_s(self, tmp_path: Path) -> None:
        with shared(tmp_path, "fetch") as (_, _, b):
            b.identity = b.identity._replace(content=Digest.parse(sha256(b"")), size=5)
            assert b.pull("fetch") == []
        assert f"expected 5 bytes, its receipt says {len(DISK)}" in b.progress.notes[0]

    def test_a_blob_that_was_collected(self, tmp_path: Path) -> None:
        with shared(tmp_path) as (keeping, _, b):
            keeping.blobs.clear()
            assert b.pull() == []
        assert "404 Not Found: BLOB_UNKNOWN" in b.progress.notes[0]
        assert left(b) == set()

    def test_one_that_dies_in_the_middle(self, tmp_path: Path) -> None:
        with shared(tmp_path) as (keeping, _, b):
            blob = blob_of(keeping, b)

            def hook(exchange: Exchange) -> bool:
                if exchange.path.endswith(blob):
                    if "Range" in exchange.headers:
                        exchange.cut()
                    else:
                        exchange.file(keeping.blobs[REPOSITORY][blob], etag=None, stop=500_000)
                return exchange.path.endswith(blob)

            keeping.hook = hook
            assert b.pull() == []
        assert "the connection was cut" in b.progress.notes[-1] or "5 attempts" in b.progress.notes[-1]
        assert left(b) == set()


class TestNotToBeHad:
    def test_nobody_listens(self, tmp_path: Path) -> None:
        with misbehaving(Keeping()) as server:
            pass
        b = Machine(tmp_path / "b", server)
        assert b.pull() == []
        assert b.pull("vhdx") == []
        (note,) = b.progress.notes
        assert note.endswith("connection refused; going on without this registry")
        assert b.remote.is_gone

    def test_one_that_does_not_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.path != "/v2/":
                exchange.stopping.wait(5)
            return exchange.path != "/v2/"

        monkeypatch.setattr(pull, "TIMEOUTS", (1.0, 0.2))
        with misbehaving(Keeping(hook)) as server:
            b = Machine(tmp_path / "b", server)
            assert b.pull() == []
            assert b.pull("vhdx") == []
            assert len([seen for seen in server.seen if seen.path != "/v2/"]) == 1
        (note,) = b.progress.notes
        assert "nothing arrived for 0.2 s" in note

    def test_one_that_is_broken(self, tmp_path: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.path != "/v2/":
                refuse(exchange, 503, "UNAVAILABLE", "maintenance")
            return exchange.path != "/v2/"

        with misbehaving(Keeping(hook)) as server:
            b = Machine(tmp_path / "b", server)
            assert b.pull() == []
            assert len([seen for seen in server.seen if seen.path != "/v2/"]) == 1
        assert "503 Service Unavailable: UNAVAILABLE: maintenance" in b.progress.notes[0]

    def test_one_that_does_not_know_us(self, tmp_path: Path) -> None:
        """Some answer so for what they do not have, and may have other images for everybody."""
        with shared(tmp_path) as (keeping, server, b):

            def hook(exchange: Exchange) -> bool:
                closed = "/acme/closed/" in exchange.path
                if closed:
                    refuse(exchange, 401, "UNAUTHORIZED", "authentication required")
                return closed

            keeping.hook = hook
            closed = Machine(tmp_path / "c", server, name="closed")
            closed.remote = b.remote
            assert closed.pull() == []
            assert len([seen for seen in server.seen if "/acme/closed/" in seen.path]) == 1
            (note,) = closed.progress.notes
            assert "docker login 127.0.0.1" in note
            assert b.pull() == ["raw"]


def test_the_keys_of_what_is_lacking(tmp_path: Path) -> None:
    b = Machine(tmp_path / "b", "127.0.0.1:1")
    assert pull.lacking("vhdx", b.image, b.identity, b.session) == ["vhdx", "rootfs", "raw", "content", "fetch"]
    b.build()
    assert pull.lacking("vhdx", b.image, b.identity, b.session) == []
    assert engine.ensure_current("raw", b.image, b.identity, b.session)
