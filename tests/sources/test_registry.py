"""The registry client against a registry that does what it is told; tests/system has a real one."""

from __future__ import annotations

import base64
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from recipes.errors import DigestMismatch, FetchError, OfflineError
from recipes.model import Digest
from recipes.progress import SILENCE
from recipes.reference import Reference
from recipes.sources import registry as module
from recipes.sources.http import Client
from recipes.sources.registry import Registry, is_loopback, latest
from recipes.sources.retry import Retryable
from tests.kit.registries import AMD64, DOCKER, Fake, image, index, layer, refuse
from tests.kit.servers import Exchange, Server, misbehaving, self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nobody")

IMAGE = image(layer({"etc/os-release": b"ID=test\n"}))
BLOB, DATA = next(iter(IMAGE.blobs.items()))
SCOPE = "repository:acme/thing:pull"


def host(server: Server) -> str:
    return server.url.partition("://")[2]


def thing(server: Server, what: str = ":1") -> str:
    return f"oci://{host(server)}/acme/thing{what}"


@contextmanager
def running(fake: Fake | None = None) -> Iterator[tuple[Server, Registry]]:
    fake = fake or Fake()
    fake.add(IMAGE, "1")
    with misbehaving(fake) as server, Registry(offline=False) as registry:
        yield server, registry


def manifest(server: Server, registry: Registry, what: str = ":1") -> bytes:
    return registry.manifest(Reference.parse(thing(server, what)))


def blob(server: Server, registry: Registry) -> bytes:
    with registry.open(thing(server, f"@{BLOB}")) as answer:
        return b"".join(answer.body())


def asked(server: Server) -> list[tuple[str, str]]:
    """Return method and path of each request, but for the question whether the registry speaks http."""
    return [(seen.method, seen.path) for seen in server.seen if seen.path != "/v2/"]


def login(folder: Path, where: str, **entry: str) -> None:
    entry = entry or {"auth": base64.b64encode(b"me:secret").decode()}
    (folder / "config.json").write_text(json.dumps({"auths": {where: entry}}))


class TestManifests:
    def test_by_tag_and_by_digest(self) -> None:
        with running() as (server, registry):
            assert manifest(server, registry) == IMAGE.data
            assert manifest(server, registry, f"@{IMAGE.digest}") == IMAGE.data
            assert manifest(server, registry, f":old@{IMAGE.digest}") == IMAGE.data
            assert asked(server) == [
                ("GET", f"/v2/acme/thing/manifests/{name}") for name in ("1", IMAGE.digest, IMAGE.digest)
            ]
            accepted = server.seen[-1].headers["Accept"]
        for types in (IMAGE.media_type, DOCKER["manifest"], DOCKER["index"]):
            assert types in accepted.split(", ")

    def test_another_one_than_was_asked_for(self) -> None:
        fake = Fake()
        other = image(layer({}))
        fake.documents[IMAGE.digest] = other
        with (
            misbehaving(fake) as server,
            Registry(offline=False) as registry,
            pytest.raises(DigestMismatch, match=f"expected {IMAGE.digest}, got {other.digest}"),
        ):
            manifest(server, registry, f"@{IMAGE.digest}")

    def test_another_one_than_was_announced(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.path.endswith("/1"):
                exchange.reply(200, IMAGE.data, Docker_Content_Digest=BLOB)
            return exchange.path.endswith("/1")

        with running(Fake(hook)) as (server, registry), pytest.raises(DigestMismatch, match=f"expected {BLOB}"):
            manifest(server, registry)

    def test_one_without_end(self) -> None:
        def hook(exchange: Exchange) -> bool:
            if "manifests" in exchange.path:
                exchange.start(200, {"Transfer-Encoding": "chunked"})
                while True:
                    exchange.chunk(b" " * 65536)
            return False

        with running(Fake(hook)) as (server, registry), pytest.raises(FetchError, match="longer than 4194304 bytes"):
            manifest(server, registry)

    def test_a_login_page(self) -> None:
        def hook(exchange: Exchange) -> bool:
            exchange.reply(200, b"<!doctype html><title>Welcome</title>", Content_Type="text/html")
            return True

        with running(Fake(hook)) as (server, registry), pytest.raises(FetchError, match="an HTML page"):
            manifest(server, registry)

    def test_one_that_does_not_exist(self) -> None:
        with running() as (server, registry), pytest.raises(FetchError) as caught:
            manifest(server, registry, ":2")
        assert caught.value.message == "404 Not Found: MANIFEST_UNKNOWN: manifest unknown"
        assert caught.value.hint == "the image, or this tag or digest of it, does not exist, or not any more"

    def test_too_many_requests(self) -> None:
        def hook(exchange: Exchange) -> bool:
            refuse(exchange, 429, "TOOMANYREQUESTS", "pull rate limit\n\x1b[31m", Retry_After=7)
            return True

        with running(Fake(hook)) as (server, registry), pytest.raises(Retryable) as caught:
            manifest(server, registry)
        assert caught.value.message == "429 Too Many Requests: TOOMANYREQUESTS: pull rate limit  [31m"
        assert caught.value.retry_after == 7
        assert caught.value.hint == f"registries allow more to those they know: `docker login {host(server)}`"

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'{"errors": []}', b'{"errors": [{"code": 7}]}', b'{"errors": 7}']
    )
    def test_a_registry_that_does_not_say_why(self, body: bytes) -> None:
        def hook(exchange: Exchange) -> bool:
            exchange.reply(403, body)
            return True

        with running(Fake(hook)) as (server, registry), pytest.raises(FetchError) as caught:
            manifest(server, registry)
        assert caught.value.message == "403 Forbidden"

    def test_offline(self) -> None:
        with Registry(offline=True) as registry, pytest.raises(OfflineError):
            registry.manifest(Reference.parse("oci://127.0.0.1:1/a:1"))


class TestLatest:
    def ask(self, server: Server, known: bytes | None) -> bytes | None:
        return latest([thing(server)], known=known, label="tag", offline=False, progress=SILENCE)

    def test_the_first_time(self) -> None:
        with running() as (server, _):
            assert self.ask(server, None) == IMAGE.data
            assert asked(server) == [("GET", "/v2/acme/thing/manifests/1")]

    def test_a_tag_that_stays_costs_no_pull(self) -> None:
        with running() as (server, _):
            assert self.ask(server, IMAGE.data) is None
            assert asked(server) == [("HEAD", "/v2/acme/thing/manifests/1")]

    def test_a_tag_that_moved(self) -> None:
        moved = index((IMAGE, AMD64))
        fake = Fake()
        with running(fake) as (server, _):
            fake.add(moved, "1")
            assert self.ask(server, IMAGE.data) == moved.data
            assert [method for method, _ in asked(server)] == ["HEAD", "GET"]

    @pytest.mark.parametrize("status", [200, 404, 405])
    def test_a_registry_that_does_not_tell(self, status: int) -> None:
        def hook(exchange: Exchange) -> bool:
            if exchange.command == "HEAD":
                exchange.reply(status)
            return exchange.command == "HEAD"

        with running(Fake(hook)) as (server, _):
            assert self.ask(server, IMAGE.data) == IMAGE.data

    def test_the_next_mirror(self) -> None:
        def down(exchange: Exchange) -> bool:
            exchange.reply(500)
            return True

        with running(Fake(down)) as (bad, _), running() as (good, _):
            found = latest([thing(bad), thing(good)], known=None, label="tag", offline=False, progress=SILENCE)
        assert found == IMAGE.data

    def test_what_is_no_reference(self) -> None:
        with pytest.raises(FetchError, match="expected oci://HOST/NAME:TAG"):
            latest(["oci://mirror/UPPER:1"], known=None, label="tag", offline=False, progress=SILENCE)


class Tokens:
    """A registry that wants a token of its server, which is at /token of the same one."""

    def __init__(self, challenge: str = 'Bearer realm="{url}/token?a=b",service="tests",scope="{scope}"') -> None:
        self.challenge = challenge
        self.valid = "t1"
        self.answer: dict[str, Any] = {"token": "t1"}
        self.status = 200

    def __call__(self, exchange: Exchange) -> bool:
        if exchange.path.startswith("/token"):
            exchange.reply(self.status, json.dumps(self.answer).encode())
            return True
        if exchange.path == "/v2/" or exchange.headers.get("Authorization") == f"Bearer {self.valid}":
            return False
        url = f"http://{exchange.headers['Host']}"
        challenge = self.challenge.format(url=url, scope=SCOPE)
        refuse(exchange, 401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return True


class TestTokens:
    def test_nobody_gets_one_too(self) -> None:
        with running(Fake(Tokens())) as (server, registry):
            assert manifest(server, registry) == IMAGE.data
            assert blob(server, registry) == DATA
            paths = [path.partition("?")[0] for _, path in asked(server)]
            token = next(seen for seen in server.seen if seen.path.startswith("/token"))
        # One token is good for all that is asked for of a repository.
        assert paths == [
            *["/v2/acme/thing/manifests/1", "/token"],
            *["/v2/acme/thing/manifests/1"],
            f"/v2/acme/thing/blobs/{BLOB}",
        ]
        assert parse_qs(urlsplit(token.path).query) == {"a": ["b"], "service": ["tests"], "scope": [SCOPE]}
        assert "Authorization" not in token.headers

    def test_somebody(self, nobody: Path) -> None:
        with running(Fake(Tokens())) as (server, registry):
            login(nobody, host(server))
            assert manifest(server, registry) == IMAGE.data
            sent = {seen.path.partition("?")[0]: seen.headers.get("Authorization") for seen in server.seen}
        # The password goes to the token server alone.
        assert sent["/token"] == "Basic bWU6c2VjcmV0"
        assert sent["/v2/acme/thing/manifests/1"] == "Bearer t1"

    def test_an_identity_token(self, nobody: Path) -> None:
        tokens = Tokens()
        tokens.answer = {"access_token": "t1", "expires_in": 60}
        with running(Fake(tokens)) as (server, registry):
            login(nobody, host(server), identitytoken="refresh")
            assert manifest(server, registry) == IMAGE.data
            token = next(seen for seen in server.seen if seen.path.startswith("/token"))
        assert token.method == "POST"
        assert "Authorization" not in token.headers
        assert parse_qs(token.body.decode()) == {
            "grant_type": ["refresh_token"],
            "service": ["tests"],
            "client_id": ["larder"],
            "scope": [SCOPE],
            "refresh_token": ["refresh"],
        }

    def test_an_identity_token_is_not_redirected(self, nobody: Path) -> None:
        with misbehaving(lambda exchange: exchange.reply(200, b"{}")) as thief:

            def hook(exchange: Exchange) -> bool:
                if exchange.path.startswith("/token"):
                    exchange.reply(307, Location=f"{thief.url}/token")
                return exchange.path.startswith("/token") or tokens(exchange)

            tokens = Tokens()
            with running(Fake(hook)) as (server, registry):
                login(nobody, host(server), identitytoken="refresh")
                with pytest.raises(FetchError, match="307 Temporary Redirect"):
                    manifest(server, registry)
            assert not thief.seen

    def test_one_that_expired(self) -> None:
        tokens = Tokens()
        with running(Fake(tokens)) as (server, registry):
            manifest(server, registry)
            tokens.valid, tokens.answer = "t2", {"token": "t2"}
            assert manifest(server, registry) == IMAGE.data

    def test_one_that_does_not_help(self) -> None:
        tokens = Tokens()
        tokens.valid = "another"
        with running(Fake(tokens)) as (server, registry):
            with pytest.raises(FetchError) as caught:
                manifest(server, registry)
            assert len([path for _, path in asked(server) if path.startswith("/token")]) == 1
        assert caught.value.message == "401 Unauthorized: UNAUTHORIZED: authentication required"
        assert caught.value.hint is not None
        assert caught.value.hint.startswith(f"`docker login {host(server)}`, or there is no such image")

    def test_a_wrong_password(self, nobody: Path) -> None:
        tokens = Tokens()
        tokens.status, tokens.answer = 401, {"details": "incorrect username or password"}
        with running(Fake(tokens)) as (server, registry):
            login(nobody, host(server))
            with pytest.raises(FetchError) as caught:
                manifest(server, registry)
        expected = f"401 Unauthorized: the token server {host(server)}: incorrect username or password"
        assert caught.value.message == expected
        hint = str(caught.value.hint)
        assert "docker login" in hint
        assert re.search(r"the login that is stored in .*config\.json was refused", hint)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("answer", [{}, {"token": 7}, [], None])
    def test_an_answer_without_one(self, answer: Any) -> None:
        tokens = Tokens()
        tokens.answer = answer
        with running(Fake(tokens)) as (server, registry), pytest.raises(FetchError, match="answered without a token"):
            manifest(server, registry)

    @pytest.mark.parametrize("realm", ["http://tokens.example/token", "ftp://127.0.0.1/", "", "/token", "https://[t/"])
    def test_a_server_that_must_not_see_a_password(self, realm: str, nobody: Path) -> None:
        with running(Fake(Tokens(f'Bearer realm="{realm}"'))) as (server, registry):
            login(nobody, host(server))
            with pytest.raises(FetchError, match=r"expected the https url of a token server|is not a url"):
                manifest(server, registry)

    def test_a_challenge_that_says_little(self) -> None:
        with running(Fake(Tokens("Basic realm=x, bearer REALM={url}/token"))) as (server, registry):
            assert manifest(server, registry) == IMAGE.data
            token = next(seen for seen in server.seen if seen.path.startswith("/token"))
        assert parse_qs(urlsplit(token.path).query)["scope"] == [SCOPE]


class TestBasic:
    def hook(self, exchange: Exchange) -> bool:
        if exchange.path == "/v2/" or exchange.headers.get("Authorization") == "Basic bWU6c2VjcmV0":
            return False
        refuse(exchange, 401, "UNAUTHORIZED", "who are you?", WWW_Authenticate='Basic realm="a, b"')
        return True

    def test_somebody(self, nobody: Path) -> None:
        with running(Fake(self.hook)) as (server, registry):
            login(nobody, host(server))
            assert manifest(server, registry) == IMAGE.data

    def test_nobody(self) -> None:
        with running(Fake(self.hook)) as (server, registry), pytest.raises(FetchError, match="who are you") as caught:
            manifest(server, registry)
        assert f"docker login {host(server)}" in str(caught.value.hint)

    def test_a_helper_that_is_not_there(self, nobody: Path) -> None:
        (nobody / "config.json").write_text('{"credsStore": "desktop"}')
        with running(Fake(self.hook)) as (server, registry), pytest.raises(FetchError) as caught:
            manifest(server, registry)
        assert "there may be credentials for it, but cannot run docker-credential-desktop" in str(caught.value.hint)
        # It does not stand in the way of what is for everybody.
        with running(Fake(Tokens())) as (server, registry):
            assert manifest(server, registry) == IMAGE.data

    def test_netrc_does_not_take_its_place(self, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        netrc = nobody / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        with running(Fake(self.hook)) as (server, registry):
            login(nobody, host(server))
            assert manifest(server, registry) == IMAGE.data


class TestRedirects:
    """Registries send blobs from elsewhere; what is elsewhere is told nothing."""

    @contextmanager
    def elsewhere(self, nobody: Path, other: Server) -> Iterator[tuple[Server, Registry]]:
        tokens = Tokens()

        def hook(exchange: Exchange) -> bool:
            if tokens(exchange):
                return True
            if "blobs" in exchange.path:
                # Another name is another host, also where it is the same machine.
                exchange.reply(307, Location=f"http://localhost:{other.port}/data?signature=1")
            return "blobs" in exchange.path

        with running(Fake(hook)) as (server, registry):
            login(nobody, host(server))
            yield server, registry

    def test_the_token_stays_here(self, nobody: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.file(DATA, etag=None)) as other,
            self.elsewhere(nobody, other) as (server, registry),
        ):
            assert blob(server, registry) == DATA
            assert [seen.path for seen in other.seen] == ["/data?signature=1"]
            assert "Authorization" not in other.seen[0].headers
            assert any(seen.headers.get("Authorization") == "Bearer t1" for seen in server.seen)

    def test_what_is_elsewhere_does_not_get_to_ask_for_it(self, nobody: Path) -> None:
        def behave(exchange: Exchange) -> None:
            challenge = f'Bearer realm="http://localhost:{other.port}/token"'
            refuse(exchange, 401, "UNAUTHORIZED", "tell me", WWW_Authenticate=challenge)

        with (
            misbehaving(behave) as other,
            self.elsewhere(nobody, other) as (server, registry),
            pytest.raises(FetchError, match="401 Unauthorized: UNAUTHORIZED: tell me"),
        ):
            blob(server, registry)
        assert [seen.path for seen in other.seen] == ["/data?signature=1"]


class TestTLS:
    def test_a_private_authority(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        context, certificate = self_signed(tmp_path)
        fake = Fake()
        fake.add(IMAGE, "1")
        with misbehaving(fake, tls=context) as server:
            with Registry(offline=False) as registry, pytest.raises(FetchError, match="certificate was refused"):
                manifest(server, registry)
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
            with Registry(offline=False) as registry:
                assert manifest(server, registry) == IMAGE.data
                assert blob(server, registry) == DATA

    def test_docker_hub_has_another_name(self, tmp_path: Path, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def hook(exchange: Exchange) -> bool:
            seen.append((exchange.path, exchange.headers.get("Authorization", "")))
            if not exchange.headers.get("Authorization"):
                refuse(exchange, 401, "UNAUTHORIZED", "", WWW_Authenticate="Basic")
                return True
            exchange.reply(200, IMAGE.data)
            return True

        seen: list[tuple[str, str]] = []
        context, certificate = self_signed(tmp_path)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        login(nobody, "https://index.docker.io/v1/")
        with misbehaving(Fake(hook), tls=context) as server, Registry(offline=False) as registry:
            monkeypatch.setattr(module, "_HUB", host(server))
            assert registry.manifest(Reference.parse("oci://docker.io/alpine:3")) == IMAGE.data
        path = "/v2/library/alpine/manifests/3"
        assert seen == [(path, ""), (path, "Basic bWU6c2VjcmV0")]


@pytest.mark.parametrize(
    ("netloc", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.8.9.1:5000", True),
        ("[::1]:5000", True),
        ("128.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("ghcr.io", False),
        ("", False),
    ],
)
def test_what_is_this_machine(netloc: str, expected: bool) -> None:
    assert is_loopback(netloc) == expected


def test_elsewhere_only_https_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fail(self: object, url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise FetchError("no network here")

    monkeypatch.setattr(Client, "open", fail)
    with Registry(offline=False) as registry, pytest.raises(FetchError):
        registry.manifest(Reference("registry.example", "a", None, Digest.parse(BLOB)))
    assert asked == [f"https://registry.example/v2/a/manifests/{BLOB}"]
