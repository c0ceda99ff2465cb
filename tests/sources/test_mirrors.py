"""Redirectors that choose among mirrors, hosts that are down, and proxies."""

from __future__ import annotations

import hashlib
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, FetchError
from recipes.model import Digest
from recipes.sources import pages, retry
from recipes.sources.access import Access
from recipes.sources.download import Downloaded, Wanted, download
from recipes.sources.peek import Peek
from tests.kit.servers import Server, misbehaving
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kit.servers import Exchange

DATA = bytes(range(256)) * 1000
OLD = DATA[:-1] + b"x"
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())

pytestmark = pytest.mark.usefixtures("quick_and_alone")


def fetch(url: str, part: Path, *, size: int | None = None) -> Downloaded:
    return download([url], part, Access(), wanted=Wanted(DIGEST, size), label="fetch:a")


def bad(kind: str) -> Callable[[Exchange], None]:
    def behave(exchange: Exchange) -> None:
        if kind == "old":
            exchange.file(OLD)
        elif kind == "shorter":
            exchange.file(OLD[:-1])
        elif kind == "page":
            exchange.reply(body=b"<!DOCTYPE html><p>Please log in", Content_Type="text/html")
        elif kind == "page without a type":
            exchange.reply(body=b"<!DOCTYPE html><p>Please log in")
        elif kind == "empty":
            exchange.reply()
        elif kind == "compressed":
            exchange.reply(body=b"x", Content_Encoding="gzip")
        else:
            exchange.reply(int(kind))

    return behave


def redirector(stack: ExitStack, *mirrors: Server) -> Server:
    """Return a server that sends each request to the next of `mirrors`, the last one for all that follow."""

    def behave(exchange: Exchange) -> None:
        mirror = mirrors[min(exchange.asked, len(mirrors) - 1)]
        exchange.reply(302, Location=f"{mirror.url}/disk.img")

    return stack.enter_context(misbehaving(behave))


KINDS = ["404", "403", "410", "old", "shorter", "page", "page without a type", "empty", "compressed"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_mirror_does_not_end_it(kind: str, part: Path) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(bad(kind)))
        right = stack.enter_context(misbehaving(lambda exchange: exchange.file(DATA)))
        front = redirector(stack, wrong, right)
        assert fetch(f"{front.url}/disk.img", part, size=len(DATA)).size == len(DATA)
        assert len(wrong.seen) == 1
        assert len(front.seen) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_url_that_answered_is_named(kind: str, part: Path) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(bad(kind)))
        front = redirector(stack, wrong)
        with pytest.raises(DigestMismatch if kind == "old" else FetchError) as caught:
            fetch(f"{front.url}/disk.img", part, size=len(DATA))
        said = f"fetch:a: {front.url}/disk.img, redirected to {wrong.url}/disk.img: "
        assert caught.value.message.startswith(said)
        assert caught.value.message.endswith("(3 attempts)")
        assert len(wrong.seen) == 3


def test_a_mirror_that_breaks_off_is_named(part: Path) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(lambda exchange: exchange.file(DATA, stop=1000)))
        front = redirector(stack, wrong)
        with pytest.raises(FetchError, match=f"redirected to {wrong.url}/disk.img: the connection was cut after"):
            fetch(f"{front.url}/disk.img", part)


def test_what_no_mirror_would_serve_is_asked_for_once(part: Path) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(bad("451")))
        front = redirector(stack, wrong)
        with pytest.raises(FetchError, match=f"redirected to {wrong.url}/disk.img: 451"):
            fetch(f"{front.url}/disk.img", part)
        assert len(wrong.seen) == 1


def test_a_redirect_on_one_host_is_no_redirector(part: Path) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.reply(302, Location="/there") if exchange.path == "/disk.img" else exchange.reply(404)

    with misbehaving(behave) as server:
        with pytest.raises(FetchError) as caught:
            fetch(f"{server.url}/disk.img", part)
        assert caught.value.message == f"fetch:a: {server.url}/disk.img: 404 Not Found"
        assert len(server.seen) == 2


@pytest.mark.parametrize("kind", ["page", "empty"])
def test_lists_are_asked_for_again_too(kind: str) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(bad(kind)))
        right = stack.enter_context(misbehaving(lambda exchange: exchange.reply(body=b"a list")))
        front = redirector(stack, wrong, right)
        page = pages.get([f"{front.url}/list"], label="list", offline=False)
        assert isinstance(page, pages.Page)
        assert page.content == b"a list"


@pytest.mark.parametrize("kind", ["404", "page", "empty", "compressed"])
def test_a_look_names_it_and_asks_once(kind: str) -> None:
    """A person waits for it."""
    with ExitStack() as stack:
        wrong = stack.enter_context(misbehaving(bad(kind)))
        front = redirector(stack, wrong)
        with pytest.raises(FetchError, match=f"redirected to {wrong.url}/disk.img: "):
            Peek([f"{front.url}/disk.img"], offline=False, label="plan")
        assert len(wrong.seen) == 1


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

    def test_it_costs_them_once_for_all_threads(self, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What began at the same time stops at its next attempt."""
        attempts: list[str] = []
        ready = threading.Barrier(2)
        done = threading.Event()

        def attempt(url: str) -> str:
            attempts.append(url)
            if len([each for each in attempts if each == url]) == 1:
                ready.wait()
            elif url.endswith("second"):
                done.wait()
            raise retry.Unreachable("no route")

        def run(name: str) -> None:
            with suppress(FetchError):
                retry.first_of([f"{gone}/{name}"], attempt, label=name, progress=Watch(), tick=lambda: None)
            done.set()

        threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert attempts.count(f"{gone}/first") == retry.ATTEMPTS
        assert attempts.count(f"{gone}/second") == 2

    def test_it_is_known_whoever_asks_for_it(self, gone: str) -> None:
        with pytest.raises(FetchError, match="5 attempts"):
            pages.get([f"{gone.replace('//', '//me:sesame@')}/one"], label="one", offline=False)
        with pytest.raises(FetchError, match="one attempt, since the host was down before"):
            pages.get([f"{gone}/two"], label="two", offline=False)

    def test_behind_a_redirector_it_is_the_one_to_blame(self, gone: str, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.reply(302, Location=f"{gone}{exchange.path}")) as front:
            with pytest.raises(FetchError) as caught:
                fetch(f"{front.url}/disk.img", part)
            assert caught.value.message.startswith(f"fetch:a: {front.url}/disk.img, redirected to {gone}/disk.img: ")
            assert caught.value.message.endswith("(3 attempts)")
            assert retry._down == {gone.removeprefix("http://")}
            # Known to be down, it is asked for what it may have once more only: the redirector may choose another.
            with pytest.raises(FetchError, match=r"\(2 attempts\)"):
                pages.get([f"{front.url}/list"], label="list", offline=False)
            assert len(front.seen) == 5

    @pytest.mark.parametrize("known", [True, False])
    def test_a_redirector_may_choose_another(
        self, gone: str, known: bool, part: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if known:
            retry._down.add(gone.removeprefix("http://"))
        with ExitStack() as stack:
            right = stack.enter_context(misbehaving(lambda exchange: exchange.file(DATA)))
            front = redirector(stack, Server(gone, 0), right)
            assert fetch(f"{front.url}/disk.img", part).size == len(DATA)
            assert len(front.seen) == 2

    def test_it_may_come_back(self, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retry, "_down", {gone.removeprefix("http://")})
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            retry._down.add(server.url.removeprefix("http://"))
            pages.get([f"{server.url}/list"], label="list", offline=False)
            assert retry._down == {gone.removeprefix("http://")}

    def test_it_comes_back_by_any_answer(self) -> None:
        with (
            misbehaving(bad("404")) as mirror,
            misbehaving(lambda exchange: exchange.reply(302, Location=f"{mirror.url}/list")) as front,
        ):
            retry._down.update(each.url.removeprefix("http://") for each in (mirror, front))
            with pytest.raises(FetchError, match="404"):
                pages.get([f"{front.url}/list"], label="list", offline=False)
            assert not retry._down


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
