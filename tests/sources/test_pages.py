"""Small documents: fetched whole, only when they changed, and never without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError, OfflineError
from recipes.sources import pages
from recipes.sources.pages import NotModified, Page, Validators
from tests.kit.servers import Exchange, misbehaving
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

LIST = b"0123abcd *disk.img\n"

pytestmark = pytest.mark.usefixtures("quick_and_alone")


def get(url: str, *more: str, validators: Validators | None = None, watch: Watch | None = None) -> Page | NotModified:
    return pages.get([url, *more], label="SHA256SUMS", offline=False, validators=validators, progress=watch or Watch())


def content(url: str) -> bytes:
    page = get(url)
    assert isinstance(page, Page)
    return page.content


def ok(exchange: Exchange) -> None:
    exchange.reply(body=LIST)


def test_validators_come_with_the_page() -> None:
    date = "Thu, 01 Jan 2026 00:00:00 GMT"
    with misbehaving(lambda exchange: exchange.reply(body=LIST, ETag='W/"1"', Last_Modified=date)) as server:
        page = get(f"{server.url.replace('//', '//me:secret@')}/SHA256SUMS")
    assert page == Page(LIST, Validators(f"{server.url}/SHA256SUMS", 'W/"1"', date))


def test_a_page_that_is_known_is_not_sent_again() -> None:
    def behave(exchange: Exchange) -> None:
        known = exchange.headers.get("If-None-Match") == '"1"' and exchange.headers.get("If-Modified-Since") == "x"
        exchange.start(304, {}) if known else exchange.reply(500)

    with misbehaving(behave) as server:
        assert get(server.url, validators=Validators(server.url, '"1"', "x")) == NotModified(server.url)


def test_the_validators_of_another_url_mean_nothing() -> None:
    with misbehaving(ok) as server:
        assert isinstance(get(f"{server.url}/b", validators=Validators(f"{server.url}/a", '"1"', "x")), Page)
    assert not {"If-None-Match", "If-Modified-Since"} & server.seen[0].headers.keys()


def test_304_without_a_question_is_refused() -> None:
    with (
        misbehaving(lambda exchange: exchange.start(304, {})) as server,
        pytest.raises(FetchError, match="304 Not Modified"),
    ):
        get(server.url)


def test_a_cut_is_tried_again() -> None:
    with misbehaving(lambda exchange: exchange.file(LIST, stop=None if exchange.asked else 5)) as server:
        assert content(server.url) == LIST


def test_a_passing_status_is_tried_again_and_a_mirror_makes_up_for_a_final_one() -> None:
    def behave(exchange: Exchange) -> None:
        exchange.reply(404) if exchange.path == "/a" else exchange.file(LIST) if exchange.asked > 2 else (
            exchange.reply(502)
        )

    watch = Watch()
    with misbehaving(behave) as server:
        page = get(f"{server.url}/a", f"{server.url}/b", watch=watch)
    assert isinstance(page, Page)
    assert page.validators.url == f"{server.url}/b"
    assert "404 Not Found" in watch.notes[0]
    assert watch.labels == ["SHA256SUMS"]


@pytest.mark.parametrize(
    ("body", "message"), [(b"<!doctype html><p>Log in", "HTML page"), (b"", "the answer is empty")]
)
def test_what_is_no_list_is_refused(body: bytes, message: str) -> None:
    with (
        misbehaving(lambda exchange: exchange.reply(body=body)) as server,
        pytest.raises(FetchError, match=message),
    ):
        get(server.url)


def test_a_list_may_be_called_html() -> None:
    with misbehaving(lambda exchange: exchange.reply(body=LIST, Content_Type="text/html")) as server:
        assert content(server.url) == LIST


def test_an_endless_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE", 1 << 20)

    def behave(exchange: Exchange) -> None:
        exchange.start(200, {"Transfer-Encoding": "chunked"})
        while not exchange.stopping.is_set():
            exchange.chunk(bytes(1 << 16))

    with misbehaving(behave) as server, pytest.raises(FetchError, match="longer than 1048576 bytes"):
        get(server.url)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    path.write_bytes(LIST)
    assert get(path.as_uri()) == Page(LIST, Validators(path.as_uri()))


def test_offline(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(LIST)
    with misbehaving(ok) as server:
        with pytest.raises(OfflineError, match="LARDER_OFFLINE"):
            pages.get([server.url], label="SHA256SUMS", offline=True)
        page = pages.get([server.url, (tmp_path / "list").as_uri()], label="SHA256SUMS", offline=True)
    assert isinstance(page, Page)
    assert server.seen == []


@pytest.mark.parametrize("past_caches", [False, True])
def test_those_in_between_may_be_told_to_ask(past_caches: bool) -> None:
    with misbehaving(ok) as server:
        pages.get([server.url], label="list", offline=False, past_caches=past_caches)
    assert ("Cache-Control" in server.seen[0].headers) is past_caches


def test_half_of_the_validators_will_do() -> None:
    with misbehaving(lambda exchange: exchange.start(304, {})) as server:
        get(server.url, validators=Validators(server.url, None, "x"))
        get(server.url, validators=Validators(server.url, '"1"', None))
        with pytest.raises(FetchError, match="304"):
            get(server.url, validators=Validators(server.url))
    assert [seen.headers.get("If-Modified-Since") for seen in server.seen] == ["x", None, None]
    assert [seen.headers.get("If-None-Match") for seen in server.seen] == [None, '"1"', None]
