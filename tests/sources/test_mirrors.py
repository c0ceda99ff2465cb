"""Redirectors that choose among mirrors, hosts that are down, and proxies."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, FetchError
from recipes.model import Digest
from recipes.sources import pages, retry
from recipes.sources.access import Access
from recipes.sources.download import Downloaded, download
from tests.kit.servers import Server, misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kit.servers import Exchange

DATA = bytes(range(256)) * 1000
OLD = DATA[:-1] + b"x"
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())

pytestmark = pytest.mark.usefixtures("quick_and_alone")


def fetch(url: str, part: Path) -> Downloaded:
    return download([url], part, Access(), digest=DIGEST, size=None, label="fetch:a")


def bad(kind: str) -> Callable[[Exchange], None]:
    def behave(exchange: Exchange) -> None:
        if kind == "old":
            exchange.file(OLD)
        else:
            exchange.reply(int(kind))

    return behave


def redirector(stack: ExitStack, *mirrors: Server) -> Server:
    """Return a server that sends each request to the next of `mirrors`, the last one for all that follow."""

    def behave(exchange: Exchange) -> None:
        mirror = mirrors[min(exchange.asked, len(mirrors) - 1)]
        exchange.reply(302, Location=f"{mirror.url}/disk.img")

    return stack.enter_context(misbehaving(behave))


@pytest.mark.parametrize("kind", ["404", "403", "410", "old"])
def test_one_bad_mirror_does_not_end_it(kind: str, part: Path) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(bad(kind)))
        right = stack.enter_context(misbehaving(lambda exchange: exchange.file(DATA)))
        front = redirector(stack, wrong, right)
        assert fetch(f"{front.url}/disk.img", part).size == len(DATA)
        assert len(wrong.seen) == 1
        assert len(front.seen) == 2


@pytest.mark.parametrize(("kind", "error"), [("404", FetchError), ("old", DigestMismatch)])
def test_the_url_that_answered_is_named(kind: str, error: type[FetchError], part: Path) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(bad(kind)))
        front = redirector(stack, wrong)
        with pytest.raises(error) as caught:
            fetch(f"{front.url}/disk.img", part)
        assert f"from {wrong.url}/disk.img" in caught.value.message
        assert f"{front.url}/disk.img" in caught.value.message
        assert "3 attempts" in caught.value.message
        assert len(wrong.seen) == 3


def test_what_is_missing_without_a_redirect_is_asked_for_once(part: Path) -> None:
    with misbehaving(bad("404")) as server:
        with pytest.raises(FetchError, match="404"):
            fetch(f"{server.url}/disk.img", part)
        assert len(server.seen) == 1


class TestAHostThatIsDown:
    @pytest.fixture
    def gone(self) -> str:
        """Return the url of a host that listens no more."""
        with misbehaving(bad("404")) as server:
            return server.url

    def test_it_costs_its_attempts_once(self, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr(retry, "_pause", lambda seconds, tick: waits.append(seconds))
        for name in ("one", "two", "three"):
            with pytest.raises(FetchError, match="refused"):
                pages.get([f"{gone}/{name}"], label=name, offline=False)
            assert len(waits) == retry.ATTEMPTS - 1

    def test_it_may_come_back(self, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retry, "_down", {gone.removeprefix("http://")})
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            retry._down.add(server.url.removeprefix("http://"))
            pages.get([f"{server.url}/list"], label="list", offline=False)
            assert retry._down == {gone.removeprefix("http://")}


class TestProxies:
    def message(self, proxy: str, monkeypatch: pytest.MonkeyPatch, scheme: str = "http") -> str:
        monkeypatch.setenv(f"{scheme}_proxy", proxy)
        with pytest.raises(FetchError) as caught:
            pages.get([f"{scheme}://upstream.invalid/list"], label="list", offline=False)
        return str(caught.value)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_one_that_is_dead(self, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with misbehaving(bad("404")) as server:
            proxy = server.url
        said = self.message(proxy.replace("//", "//me:sesame@"), monkeypatch, scheme)
        assert f"the proxy {proxy}" in said
        assert "no_proxy exempts hosts" in said
        assert "sesame" not in said

    def test_one_that_wants_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with misbehaving(lambda exchange: exchange.reply(407)) as server:
            said = self.message(server.url, monkeypatch)
        assert "407 Proxy Authentication Required" in said
        assert "http://USER:PASSWORD@HOST:PORT" in said

    def test_one_of_a_kind_that_takes_a_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.message("socks5://127.0.0.1:9", monkeypatch)
        assert "the proxy socks5://127.0.0.1:9 is a SOCKS proxy" in said
        assert "requests[socks]" in said
