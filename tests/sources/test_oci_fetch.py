"""Pulling an image into one file: from registries that break off, lie and die, and by processes that are killed."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, FetchError, Interrupted, NoSpace, OfflineError, UnsupportedFeature
from recipes.formats.io.digests import of_file
from recipes.formats.oci import layout as oci_layout
from recipes.model import Digest
from recipes.sources import manifests
from recipes.sources.access import Access
from recipes.sources.oci_fetch import outline, pull
from recipes.sources.oci_outline import Outline
from tests.kit.registries import AMD64, ARM64, DOCKER, OCI, Document, Fake, image, index, layer, sha256
from tests.kit.servers import DEADLINE, Exchange, Seen, Server, misbehaving
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.model import Arch

pytestmark = pytest.mark.usefixtures("nobody")

REPOSITORY = Path(__file__).parents[2]

#: Blobs that end with zeros, so that the archive has holes at every end.
LAYERS = [layer({f"file{n}": random.Random(n).randbytes(300_000) + bytes(50_000)}) for n in range(3)]
IMAGE = image(*LAYERS)
ARM = image(*LAYERS[:1], arch="arm64")
#: Config and layers in the order in which they are downloaded.
BLOBS = [each["digest"] for each in (json.loads(IMAGE.data)["config"], *json.loads(IMAGE.data)["layers"])]


def thing(server: Server) -> str:
    return f"oci://127.0.0.1:{server.port}/acme/thing:ignored"


def get(
    servers: Server | list[Server],
    part: Path,
    *,
    digest: str = IMAGE.digest,
    arch: Arch = "x86_64",
    offline: bool = False,
    watch: Watch | None = None,
) -> str:
    servers = [servers] if isinstance(servers, Server) else servers
    pulled = pull(
        [thing(server) for server in servers],
        part,
        Access(offline=offline, progress=watch or Watch()),
        digest=Digest.parse(digest),
        arch=arch,
        label="fetch:thing",
    )
    # However it came about: in one go, resumed, or begun anew in the middle.
    assert (pulled.digest, pulled.size) == (of_file(part, "sha256"), part.stat().st_size)
    return pulled.served


def holding(*documents: Document, hook: Callable[[Exchange], bool] | None = None) -> Fake:
    fake = Fake(hook)
    for each in documents or (IMAGE,):
        fake.add(each)
    return fake


def blobs_asked(server: Server) -> list[str]:
    return [seen.path.rpartition("/")[2] for seen in server.seen if "/blobs/" in seen.path]


def whole() -> bytes:
    """Return the archive of `IMAGE`, made by another writer."""
    manifest = {"mediaType": IMAGE.media_type, "digest": IMAGE.digest, "size": len(IMAGE.data)}
    top = {"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [manifest]}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(top, sort_keys=True, separators=(",", ":")).encode(),
        f"blobs/{IMAGE.digest.replace(':', '/')}": IMAGE.data,
        **{f"blobs/{digest.replace(':', '/')}": IMAGE.blobs[digest] for digest in BLOBS},
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        end = tar.offset
    # tarfile pads archives to the size of its records.
    return out.getvalue()[:end] + bytes(1024)


def assert_arrived(part: Path) -> None:
    assert part.read_bytes() == whole()
    assert [path.name for path in part.parent.iterdir() if path.name.startswith(part.name)] == [part.name]


class TestTheArchive:
    def test_it_depends_on_the_manifest_alone(self, part: Path) -> None:
        with misbehaving(holding()) as server:
            served = get(server, part)
            port = server.port
        assert served == f"oci://127.0.0.1:{port}/acme/thing@{IMAGE.digest}"
        assert_arrived(part)

    def test_an_image_of_it_can_be_read(self, part: Path) -> None:
        with misbehaving(holding()) as server:
            get(server, part)
        with oci_layout.open_image(part, arch="x86_64") as found:
            assert [str(each.digest) for each in found.layers] == BLOBS[1:]

    @pytest.mark.parametrize("types", [OCI, DOCKER])
    def test_an_index(self, part: Path, types: dict[str, str]) -> None:
        amd, arm = (image(*LAYERS[:1], arch=arch, types=types) for arch in ("amd64", "arm64"))
        both = index((amd, AMD64), (arm, ARM64), types=types)
        with misbehaving(holding(both, amd, arm)) as server:
            get(server, part, digest=both.digest, arch="aarch64")
        with tarfile.open(part) as tar:
            member = tar.extractfile("index.json")
            assert member
            described = json.loads(member.read())["manifests"]
        assert described == [arm.descriptor()]

    def test_an_index_in_an_index(self, part: Path) -> None:
        inner, other = index((IMAGE, AMD64)), index((ARM, ARM64))
        top = index((other, None), (inner, None))
        with misbehaving(holding(top, inner, other, IMAGE, ARM)) as server:
            get(server, part, digest=top.digest)
        assert_arrived(part)

    def test_a_layer_that_is_there_twice(self, part: Path) -> None:
        twice = image(LAYERS[0], LAYERS[1], LAYERS[0])
        with misbehaving(holding(twice)) as server:
            get(server, part, digest=twice.digest)
            assert len(blobs_asked(server)) == 3
        with oci_layout.open_image(part, arch="x86_64") as found:
            assert [str(each.digest) for each in found.layers] == [sha256(LAYERS[each]) for each in (0, 1, 0)]

    def test_what_needs_more_than_ustar_has(self, part: Path) -> None:
        config = json.loads(IMAGE.data)["config"]
        layers = [
            {"mediaType": OCI["layer"], "digest": f"sha512:{'a' * 128}", "size": 1000},
            {"mediaType": OCI["layer"], "digest": f"sha256:{'b' * 64}", "size": 9 << 30},
            {"mediaType": OCI["layer"], "digest": f"sha256:{'c' * 64}", "size": 1},
        ]
        data = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
        manifest = manifests.parse(data)
        assert isinstance(manifest, manifests.Manifest)
        archive = Outline.of(manifest, data)
        with part.open("xb") as file:
            file.write(archive.prefix)
            for member in archive.members:
                file.seek(member.start - len(member.header))
                file.write(member.header)
            file.truncate(archive.size)
        with tarfile.open(part) as tar:
            found = [(each.name, each.size, each.offset_data) for each in tar][3:]
        assert found == [
            (f"blobs/{each['digest'].replace(':', '/')}", each["size"], member.start)
            for each, member in zip([config, *layers], archive.members, strict=True)
        ]

    def test_the_outline_is_what_it_will_be(self, part: Path) -> None:
        with misbehaving(holding()) as server:
            found = outline(
                [thing(server)], digest=Digest.parse(IMAGE.digest), arch="x86_64", label="thing", offline=False
            )
            assert not blobs_asked(server)
        assert found.size == len(whole())
        assert found.present(part) == 0
        part.write_bytes(whole()[:100_000])
        assert found.present(part) == 100_000
        part.write_bytes(bytes(100_000))
        assert found.present(part) == 0

    def test_the_outline_is_asked_for_once(self) -> None:
        with misbehaving(lambda exchange: exchange.reply(503)) as server:
            with pytest.raises(FetchError, match="503 Service Unavailable"):
                outline([thing(server)], digest=Digest.parse(IMAGE.digest), arch="x86_64", label="x", offline=False)
            assert len([seen for seen in server.seen if seen.path != "/v2/"]) == 1


class TestWhatIsRefused:
    def test_nothing_for_the_machine(self, part: Path) -> None:
        both = index((ARM, ARM64))
        with misbehaving(holding(both, ARM)) as server, pytest.raises(UnsupportedFeature) as caught:
            get(server, part, digest=both.digest)
        expected = f"fetch:thing: {thing(server)}: there is no image for linux/amd64, only for linux/arm64/v8"
        assert str(caught.value) == expected
        assert not part.exists()

    def test_an_image_for_another_machine(self, part: Path) -> None:
        with misbehaving(holding(ARM)) as server:
            with pytest.raises(UnsupportedFeature, match="no image for linux/amd64, only for linux/arm64"):
                get(server, part, digest=ARM.digest)
            # Its config says so, before any layer is downloaded.
            assert len(blobs_asked(server)) == 1
        assert not part.exists()

    def test_indexes_without_end(self, part: Path) -> None:
        documents = [IMAGE]
        for _ in range(20):
            documents.append(index((documents[-1], AMD64 if len(documents) == 1 else None)))
        with (
            misbehaving(holding(*documents)) as server,
            pytest.raises(FetchError, match="more than 16 indexes within one another"),
        ):
            get(server, part, digest=documents[-1].digest)

    def test_a_manifest_of_schema_1(self, part: Path) -> None:
        old = Document(b'{"schemaVersion": 1, "fsLayers": []}', "application/json")
        with (
            misbehaving(holding(old)) as server,
            pytest.raises(UnsupportedFeature, match=r"fetch:thing: oci://.*docker's schema 1"),
        ):
            get(server, part, digest=old.digest)

    @pytest.mark.parametrize("number", range(len(BLOBS)))
    def test_a_blob_with_other_bytes(self, part: Path, number: int) -> None:
        fake = holding()
        fake.blobs[BLOBS[number]] = bytes(len(fake.blobs[BLOBS[number]]))
        with misbehaving(fake) as server:
            with pytest.raises(DigestMismatch, match=f"wrong digest: expected {BLOBS[number]}"):
                get(server, part)
            assert blobs_asked(server) == BLOBS[: number + 1]
            # What came before is right and stays.
            fake.add(IMAGE)
            get(server, part)
            assert blobs_asked(server) == [*BLOBS[: number + 1], *BLOBS[number:]]
        assert_arrived(part)

    @pytest.mark.parametrize(("change", "reason"), [(-1, "the server announces"), (1, "the server announces")])
    def test_a_blob_of_another_length(self, part: Path, change: int, reason: str) -> None:
        fake = holding()
        fake.blobs[BLOBS[1]] = (fake.blobs[BLOBS[1]] + b"x")[: len(fake.blobs[BLOBS[1]]) + change]
        with misbehaving(fake) as server, pytest.raises(FetchError, match=reason):
            get(server, part)

    def test_a_blob_without_end(self, part: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.path.endswith(BLOBS[2]):
                exchange.start(200, {"Transfer-Encoding": "chunked"})
                while True:
                    exchange.chunk(bytes(65536))
            return False

        with (
            misbehaving(holding(hook=hook)) as server,
            pytest.raises(FetchError, match=f"goes on after {len(LAYERS[1])} bytes"),
        ):
            get(server, part)
        assert part.stat().st_size < len(whole())

    def test_too_little_room(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        room = type("Usage", (), {"free": len(whole()) - 1})
        monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
        with misbehaving(holding()) as server:
            with pytest.raises(NoSpace, match=f"fetch:thing: .*{len(whole())} bytes.* left to download, and .* free"):
                get(server, part)
            assert not blobs_asked(server)

    def test_offline(self, part: Path) -> None:
        with misbehaving(holding()) as server:
            with pytest.raises(OfflineError):
                get(server, part, offline=True)
            assert not server.seen

    def test_a_mirror_that_is_none(self, part: Path) -> None:
        with pytest.raises(FetchError, match="expected oci://"):
            pull(
                ["oci://mirror/UPPER@x"],
                part,
                Access(progress=Watch()),
                digest=Digest.parse(IMAGE.digest),
                arch="x86_64",
                label="x",
            )


class TestWhatBreaksOff:
    @pytest.mark.parametrize("number", range(len(BLOBS)))
    def test_a_cut_in_each_blob(self, part: Path, number: int) -> None:
        size = len(IMAGE.blobs[BLOBS[number]])

        def hook(exchange: Exchange) -> bool:
            first = exchange.path.endswith(BLOBS[number]) and not exchange.headers.get("Range")
            if first:
                exchange.file(IMAGE.blobs[BLOBS[number]], etag=None, stop=size // 2)
            return first

        watch = Watch()
        with misbehaving(holding(hook=hook)) as server:
            get(server, part, watch=watch)
            ranges = [seen.range for seen in server.seen if seen.path.endswith(BLOBS[number])]
        assert ranges == [(None, None), (f"bytes={size // 2}-", None)]
        assert_arrived(part)
        assert watch.done == watch.total == sum(map(len, IMAGE.blobs.values()))
        assert watch.lowest_step == 0

    def test_a_server_without_ranges(self, part: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            if not exchange.path.endswith(BLOBS[2]):
                return False
            exchange.start(200, {"Content-Length": len(LAYERS[1])})
            exchange.wfile.write(LAYERS[1][: None if exchange.headers.get("Range") else 1000])
            exchange.cut()
            return True

        with misbehaving(holding(hook=hook)) as server:
            get(server, part)
        assert_arrived(part)

    def test_a_range_of_other_bytes(self, part: Path) -> None:
        def hook(exchange: Exchange) -> bool:
            if not exchange.path.endswith(BLOBS[2]):
                return False
            once = not any(seen.range[0] for seen in seen_before)
            if not seen_before:
                exchange.file(LAYERS[1], etag=None, stop=1000)
            else:
                exchange.file(bytes(len(LAYERS[1])) if once else LAYERS[1], etag=None)
            seen_before.append(exchange.seen)
            return True

        seen_before: list[Seen] = []
        watch = Watch()
        with misbehaving(holding(hook=hook)) as server:
            get(server, part, watch=watch)
        assert_arrived(part)
        assert watch.notes == ["fetch:thing: the resumed download has the wrong digest; starting over"]

    def test_the_next_run_goes_on(self, part: Path) -> None:
        with misbehaving(holding()) as server:
            with pytest.raises(Interrupted):
                get(server, part, watch=Watch(interrupt_at=500_000))
            size = part.stat().st_size
            assert size > 300_000
            before = len(server.seen)
            watch = Watch()
            get(server, part, watch=watch)
            again = [(seen.path.rpartition("/")[2], seen.range[0]) for seen in server.seen[before:]]
        assert_arrived(part)
        assert again[-2][0] == BLOBS[2]
        assert again[-2][1] is not None
        assert again[-1] == (BLOBS[3], None)
        assert watch.done == watch.total

    def test_another_registry_goes_on(self, part: Path) -> None:
        def dying(exchange: Exchange) -> bool:
            if exchange.path.endswith(BLOBS[2]):
                if exchange.headers.get("Range"):
                    exchange.reply(500)
                else:
                    exchange.file(LAYERS[1], etag=None, stop=200_000)
            return exchange.path.endswith(BLOBS[2])

        with misbehaving(holding(hook=dying)) as first, misbehaving(holding()) as second:
            served = get([first, second], part)
            # The one that failed is not asked first for what is left.
            assert blobs_asked(second) == [BLOBS[2], BLOBS[3]]
            assert BLOBS[3] not in blobs_asked(first)
            assert [seen.range[0] for seen in second.seen if seen.path.endswith(BLOBS[2])] == ["bytes=200000-"]
            assert served == f"oci://127.0.0.1:{second.port}/acme/thing@{IMAGE.digest}"
        assert_arrived(part)

    def test_a_registry_that_is_down_is_given_up_once(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.reply(503)) as down, misbehaving(holding()) as good:
            get([down, good], part)
            assert len([seen for seen in down.seen if seen.path != "/v2/"]) == 5
        assert_arrived(part)

    @pytest.mark.parametrize("where", [0.02, 0.3, 0.9])
    def test_what_was_damaged_is_downloaded_again(self, part: Path, where: float) -> None:
        data = bytearray(whole())
        data[int(len(data) * where)] ^= 1
        part.write_bytes(data)
        with misbehaving(holding()) as server:
            get(server, part)
            assert blobs_asked(server)
        assert_arrived(part)

    def test_what_is_there_whole_is_not(self, part: Path) -> None:
        # Zeros at the end are holes that need not be there yet.
        part.write_bytes(whole().rstrip(b"\0"))
        with misbehaving(holding()) as server:
            get(server, part)
            assert len(blobs_asked(server)) <= 1
            assert get(server, part)
        assert_arrived(part)

    @pytest.mark.parametrize("left", [b"", b"something else", whole()[:700], whole()[:100] + b"x" + whole()[101:]])
    def test_what_is_there_and_something_else(self, part: Path, left: bytes) -> None:
        part.write_bytes(left)
        with misbehaving(holding()) as server:
            get(server, part)
        assert_arrived(part)

    @pytest.mark.parametrize("length", [*range(0, 4096, 400), *range(4096, len(whole()), 150_011)])
    def test_any_beginning_will_do(self, part: Path, length: int) -> None:
        part.write_bytes(whole()[:length])
        with misbehaving(holding()) as server:
            get(server, part)
        assert_arrived(part)


PULL = """
import sys
from pathlib import Path
from recipes.model import Digest
from recipes.sources.access import Access
from recipes.sources.oci_fetch import pull
url, part, digest = sys.argv[1:]
pull([url], Path(part), Access(), digest=Digest.parse(digest), arch="x86_64", label="x")
"""


@pytest.mark.parametrize("number", range(len(BLOBS)))
def test_a_process_that_is_killed(part: Path, number: int) -> None:
    """In each blob: the next process goes on in the middle of it."""
    size = len(IMAGE.blobs[BLOBS[number]])
    stalled: list[Exchange] = []

    def hook(exchange: Exchange) -> bool:
        if not exchange.path.endswith(BLOBS[number]) or stalled:
            return False
        exchange.start(200, {"Content-Length": size})
        exchange.wfile.write(IMAGE.blobs[BLOBS[number]][: size // 2])
        exchange.wfile.flush()
        stalled.append(exchange)
        exchange.stopping.wait(DEADLINE)
        return True

    with misbehaving(holding(hook=hook)) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", PULL, thing(server), str(part), IMAGE.digest],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        expected = whole().index(IMAGE.blobs[BLOBS[number]]) + size // 2
        deadline = time.monotonic() + DEADLINE
        try:
            while not part.exists() or part.stat().st_size < expected:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        before = len(server.seen)
        get(server, part)
        again = [
            (seen.path.rpartition("/")[2], seen.range[0]) for seen in server.seen[before:] if "/blobs/" in seen.path
        ]
    assert [path for path, _ in again] == BLOBS[number:]
    assert again[0][1] == f"bytes={size // 2}-"
    assert_arrived(part)
