from __future__ import annotations

import base64
import json
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError, StoreError
from recipes.model import Digest
from recipes.progress import SILENCE
from recipes.reference import Reference
from recipes.sources import uploads
from recipes.sources.registry import Registry
from recipes.sources.uploads import Upload, UploadLost
from tests.kit.registries import Keeping, refuse, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.kit.servers import Exchange, Server

NAME = "acme/thing"
DATA = bytes(range(256)) * 100


#: More than the buffers of two sockets take.
LONG = random.Random(1).randbytes(16 << 20)


@pytest.fixture(autouse=True)
def _nobody(nobody: Path) -> None: ...


@contextmanager
def running(keeping: Keeping) -> Iterator[tuple[Server, Registry, Reference]]:
    with misbehaving(keeping) as server, Registry(offline=False, push=True) as registry:
        yield server, registry, Reference.parse(f"oci://127.0.0.1:{server.port}/{NAME}")


def send(registry: Registry, repository: Reference, data: bytes = DATA, length: int = 999) -> Digest:
    def pieces() -> Generator[bytes]:
        for at in range(0, len(data), length):
            yield data[at : at + length]

    upload = Upload(registry, repository, label="push:thing", progress=SILENCE, tick=lambda: None)
    digest = upload.send(pieces)
    assert upload.size == len(data)
    return digest


def patches(server: Server) -> list[int]:
    return [len(seen.body) for seen in server.seen if seen.method == "PATCH"]


class TestUploads:
    def test_in_one_request(self) -> None:
        keeping = Keeping()
        with running(keeping) as (server, registry, repository):
            digest = send(registry, repository)
            assert uploads.exists(registry, repository.pinned(digest))
            assert not uploads.exists(registry, repository.pinned(Digest.parse(sha256(b""))))
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}
        assert patches(server) == [len(DATA)]

    def test_nothing(self) -> None:
        keeping = Keeping()
        with running(keeping) as (server, registry, repository):
            send(registry, repository, b"")
        assert keeping.blobs[NAME] == {sha256(b""): b""}
        assert patches(server) == []

    def test_in_long_pieces(self) -> None:
        keeping = Keeping()
        with running(keeping) as (_, registry, repository):
            send(registry, repository, LONG, len(LONG))
        assert list(keeping.blobs[NAME]) == [sha256(LONG)]

    @pytest.mark.parametrize("kept", [0, 3, 999, 1000, len(DATA) - 1])
    def test_goes_on_after_a_cut(self, kept: int) -> None:
        keeping = Keeping()
        with running(keeping) as (server, registry, repository):
            server.limits.append(kept)
            send(registry, repository)
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}
        assert patches(server) == [kept, len(DATA) - kept]

    def test_goes_on_after_a_cut_while_it_is_sent(self) -> None:
        keeping = Keeping()
        with running(keeping) as (server, registry, repository):
            server.limits += [1 << 20, 1 << 20]
            send(registry, repository, LONG, 1 << 20)
        assert list(keeping.blobs[NAME]) == [sha256(LONG)]
        assert patches(server) == [1 << 20, 1 << 20, len(LONG) - (2 << 20)]

    def test_only_the_answer_is_cut(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PATCH":
                keeping.uploads["u0"] += exchange.seen.body
                exchange.cut()
            return exchange.command == "PATCH"

        keeping = Keeping(hook)
        with running(keeping) as (server, registry, repository):
            send(registry, repository)
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}
        assert patches(server) == [len(DATA)]

    def test_one_that_forgets_the_upload(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PATCH":
                keeping.uploads.clear()
            return False

        keeping = Keeping(hook)
        with running(keeping) as (_, registry, repository), pytest.raises(UploadLost, match=r"404.*upload unknown"):
            send(registry, repository)

    def test_one_that_forgets_it_after_a_cut(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PATCH":
                keeping.uploads.clear()
                exchange.cut()
            return exchange.command == "PATCH"

        keeping = Keeping(hook)
        with running(keeping) as (_, registry, repository), pytest.raises(UploadLost, match=r"404.*upload unknown"):
            send(registry, repository)

    @pytest.mark.parametrize("span", ["0-99999", "", "1-2", "x"])
    def test_one_that_says_nonsense_after_a_cut(self, span: str) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "GET" and "uploads" in exchange.path:
                exchange.start(204, {"Location": exchange.path, "Range": span})
                return True
            return False

        with running(Keeping(hook)) as (server, registry, repository):
            server.limits.append(5000)
            with pytest.raises(UploadLost, match=r"found 100000|does not say how much"):
                send(registry, repository)

    def test_one_whose_range_stays_behind(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "GET" and "uploads" in exchange.path:
                exchange.start(204, {"Location": exchange.path, "Range": "0-9"})
                return True
            return False

        with running(Keeping(hook)) as (server, registry, repository):
            server.limits.append(5000)
            with pytest.raises(UploadLost, match="400: DIGEST_INVALID"):
                send(registry, repository)

    def test_what_is_wrong_with_the_blob_is_not_the_registrys(self) -> None:
        def pieces() -> Generator[bytes]:
            yield DATA
            raise StoreError("the disk is broken")

        with running(Keeping()) as (server, registry, repository):
            upload = Upload(registry, repository, label="push:thing", progress=SILENCE, tick=lambda: None)
            with pytest.raises(StoreError, match="the disk is broken"):
                upload.send(pieces)
            assert [seen.method for seen in server.seen if "uploads" in seen.path][:1] == ["POST"]

    def test_one_that_sends_it_nowhere(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command != "POST":
                return False
            exchange.reply(202, Location="https://[nowhere/")
            return True

        with running(Keeping(hook)) as (_, registry, repository), pytest.raises(FetchError, match="is not a url"):
            send(registry, repository)

    @pytest.mark.parametrize("status", [307, 308])
    def test_one_that_sends_it_elsewhere(self, status: int) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PATCH" and not moved:
                moved.append(1)
                exchange.reply(status, Location=f"{exchange.path}?there=1")
                return True
            return False

        moved: list[int] = []
        keeping = Keeping(hook)
        with running(keeping) as (server, registry, repository):
            send(registry, repository)
            paths = [(seen.method, "there" in seen.path) for seen in server.seen if "/u0" in seen.path]
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}
        assert paths == [("PATCH", False), ("GET", True), ("PATCH", False), ("PUT", False)]

    def test_a_token_that_ends_between_two_requests(self) -> None:
        keeping = Keeping()
        tokens: list[str] = []
        with running(keeping) as (server, registry, repository):

            def hook(exchange: Exchange) -> bool:
                if exchange.path.startswith("/token"):
                    tokens.append(f"t{len(tokens)}")
                    exchange.reply(200, json.dumps({"token": tokens[-1]}).encode())
                    return True
                if exchange.path == "/v2/":
                    return False
                wanted = "t0" if exchange.command == "POST" else "t1"
                if exchange.headers["Authorization"] != f"Bearer {wanted}":
                    exchange.reply(401, WWW_Authenticate=f'Bearer realm="{server.url}/token"')
                    return True
                return False

            keeping.hook = hook
            send(registry, repository)
        assert tokens == ["t0", "t1"]
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}

    def test_the_answer_to_the_last_request_is_lost(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PUT" and keeping.uploads:
                keeping.uploads.clear()
                keeping.blobs[NAME][sha256(DATA)] = DATA
                exchange.cut()
                return True
            return False

        keeping = Keeping(hook)
        with running(keeping) as (_, registry, repository):
            assert str(send(registry, repository)) == sha256(DATA)

    def test_a_registry_that_stays_away(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PATCH":
                exchange.cut()
            return exchange.command == "PATCH"

        with (
            running(Keeping(hook)) as (_, registry, repository),
            pytest.raises(FetchError, match=r"push:thing: oci://.*acme/thing.*\(5 attempts\)"),
        ):
            send(registry, repository)

    def test_a_location_on_another_host_gets_no_credentials(self, nobody: Path) -> None:
        keeping = Keeping()
        with misbehaving(keeping) as store, running(keeping) as (server, registry, repository):
            keeping.elsewhere = store.url
            entry = {"auth": base64.b64encode(b"me:secret").decode()}
            (nobody / "config.json").write_text(json.dumps({"auths": {f"127.0.0.1:{server.port}": entry}}))

            def hook(exchange: Exchange) -> bool:
                ours = exchange.headers["Host"] == f"127.0.0.1:{server.port}"
                if ours and "Authorization" not in exchange.headers and exchange.path != "/v2/":
                    exchange.reply(401, WWW_Authenticate='Basic realm="x"')
                    return True
                return False

            keeping.hook = hook
            send(registry, repository)
            assert [seen.method for seen in store.seen] == ["PATCH", "PUT"]
            assert not [seen for seen in store.seen if "Authorization" in seen.headers]
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}

    def test_a_token_to_push_with(self) -> None:
        keeping = Keeping()
        with running(keeping) as (server, registry, repository):

            def hook(exchange: Exchange) -> bool:
                if exchange.path.startswith("/token"):
                    assert "scope=repository%3Aacme%2Fthing%3Apull%2Cpush" in exchange.path
                    exchange.reply(200, b'{"token": "t"}')
                elif exchange.path != "/v2/" and exchange.headers["Authorization"] != "Bearer t":
                    exchange.reply(
                        401, WWW_Authenticate=f'Bearer realm="{server.url}/token",scope="repository:acme/thing:pull"'
                    )
                else:
                    return False
                return True

            keeping.hook = hook
            send(registry, repository)
            assert len([seen for seen in server.seen if seen.path.startswith("/token")]) == 1
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}

    def test_mounted_or_not(self) -> None:
        keeping = Keeping()
        keeping.blobs["acme/other"][sha256(DATA)] = DATA
        with running(keeping) as (_, registry, repository):
            blob = repository.pinned(Digest.parse(sha256(DATA)))
            assert uploads.mount(registry, blob, Reference(repository.host, "acme/other"))
            assert not uploads.mount(registry, repository.pinned(Digest.parse(sha256(b"x"))), blob)
        assert keeping.blobs[NAME] == {sha256(DATA): DATA}


@pytest.mark.parametrize(
    ("status", "code", "said", "hint"),
    [
        (401, "UNAUTHORIZED", "authentication required", "docker login 127.0.0.1"),
        (403, "DENIED", "quota exceeded: 5 GiB", "somebody who may push there"),
        (404, "NAME_UNKNOWN", "project acme not found", "project or repository to be made"),
        (405, "UNSUPPORTED", "pull-through cache", "read-only"),
    ],
)
def test_a_registry_that_takes_nothing(status: int, code: str, said: str, hint: str) -> None:
    def hook(exchange: Exchange) -> bool:
        if exchange.command == "POST":
            refuse(exchange, status, code, said)
        return exchange.command == "POST"

    with running(Keeping(hook)) as (_, registry, repository), pytest.raises(FetchError) as caught:
        send(registry, repository)
    assert f"{code}: {said}" in caught.value.message
    assert hint in str(caught.value.hint)


class TestManifests:
    def test_put_and_found(self) -> None:
        with running(Keeping()) as (_, registry, repository):
            assert registry.find(repository) is None
            assert uploads.put_manifest(registry, repository, b'{"manifests": []}', "application/x")
            assert registry.find(repository) == b'{"manifests": []}'

    def test_whose_blob_is_gone(self) -> None:
        with running(Keeping()) as (_, registry, repository):
            data = json.dumps({"layers": [{"digest": sha256(b"x")}]}).encode()
            assert not uploads.put_manifest(registry, repository, data, "application/x")

    def test_that_the_registry_does_not_like(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "PUT":
                refuse(exchange, 400, "MANIFEST_INVALID", "unknown artifactType")
            return exchange.command == "PUT"

        with (
            running(Keeping(hook)) as (_, registry, repository),
            pytest.raises(FetchError, match="400: MANIFEST_INVALID: unknown artifactType"),
        ):
            uploads.put_manifest(registry, repository, b"{}", "application/x")


def test_a_host_that_is_declared_to_speak_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this machine it would be found out."""
    monkeypatch.setattr("recipes.sources.registry.is_loopback", lambda netloc: False)
    with misbehaving(Keeping()) as server:
        where = Reference.parse(f"oci://127.0.0.1:{server.port}/{NAME}")
        with Registry(offline=False, plain={where.host}) as registry:
            assert registry.find(where) is None
        with Registry(offline=False) as registry, pytest.raises(FetchError):
            registry.find(where)
