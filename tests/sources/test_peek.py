"""Looking into a wrapper that is somewhere else."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError, OfflineError
from recipes.sources.peek import MAX_REQUESTS, WINDOW, Peek
from tests.kit.servers import misbehaving, nginx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kit.servers import Exchange

DATA = hashlib.shake_256(b"wrapper").digest(40 * WINDOW + 17)


def ranged(data: bytes) -> Callable[[Exchange], None]:
    """Serve `data` as a server does that knows ranges."""

    def behave(exchange: Exchange) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", exchange.headers["Range"])
        assert span, "every request asks for a range"
        start, stop = int(span[1]), min(int(span[2]) + 1, len(data))
        exchange.reply(206, data[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(data)}")

    return behave


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_size_and_bytes(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "prefix").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.img").write_bytes(DATA)
    with nginx(tmp_path / "root", tmp_path / "prefix") as server:
        url = f"{server.url}/a.img" if scheme == "http" else (tmp_path / "root" / "a.img").as_uri()
        remote = Peek([url], label="a", offline=False)
        assert remote.size == len(DATA)
        assert remote.pread(0, 100) == DATA[:100]
        assert remote.pread(len(DATA) - 12, 12) == DATA[-12:]
        assert remote.pread(len(DATA) - WINDOW, 12) == DATA[-WINDOW : 12 - WINDOW]
        assert remote.pread(len(DATA) - 5, 100) == DATA[-5:]
        assert remote.pread(len(DATA), 1) == b""
        assert remote.pread(WINDOW - 1, 3 * WINDOW) == DATA[WINDOW - 1 : 4 * WINDOW - 1]
        if scheme == "http":
            assert [line.split()[:2] for line in server.log()] == [
                ["206", str(WINDOW)],
                ["206", str(WINDOW)],
                ["206", str(3 * WINDOW)],
            ]


def test_a_wrapper_smaller_than_what_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"few")
    remote = Peek([(tmp_path / "a").as_uri()], label="a", offline=True)
    assert (remote.size, remote.pread(0, 512), remote.pread(1, 512)) == (3, b"few", b"ew")


def test_a_server_that_ignores_ranges_is_heard_no_longer_than_needed() -> None:
    def behave(exchange: Exchange) -> None:
        # Would hang if anybody waited for the rest.
        exchange.start(200, {"Content-Length": 1 << 40})
        exchange.wfile.write(DATA[:WINDOW])
        exchange.stopping.wait()

    with misbehaving(behave) as server:
        remote = Peek([server.url], label="a", offline=False)
        assert remote.size == 1 << 40
        assert remote.pread(0, 1000) == DATA[:1000]


def test_nor_can_it_be_read_elsewhere() -> None:
    with misbehaving(lambda exchange: exchange.reply(200, DATA)) as server:
        remote = Peek([server.url], label="a", offline=False)
        with pytest.raises(FetchError, match=r"a: http.*: the server sends nothing but whole files"):
            remote.pread(len(DATA) - 12, 12)
        assert len(server.seen) == 2


def test_each_url_is_asked_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with misbehaving(lambda exchange: exchange.reply(503)) as server:
        urls = [f"{server.url}/one", f"{server.url}/two"]
        assert Peek([*urls, (tmp_path / "a").as_uri()], label="a", offline=False).size == len(DATA)
        with pytest.raises(FetchError, match=r"(?s)a: none of 2 urls.*/one: 503.*/two: 503"):
            Peek(urls, label="a", offline=False)
        assert [seen.path for seen in server.seen] == ["/one", "/two"] * 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda exchange: exchange.reply(404), "404 Not Found"),
        (lambda exchange: exchange.reply(200, b"<!DOCTYPE html><title>Log in</title>"), "HTML page"),
        (lambda exchange: exchange.reply(206, b"x", Content_Range="bytes 1-1/9"), "another range"),
        (lambda exchange: exchange.reply(206, b"x"), "another range"),
        (lambda exchange: exchange.reply(206, b"x", Content_Range="bytes 0-0/*"), "another range"),
        (lambda exchange: exchange.reply(200, b""), "empty"),
    ],
)
def test_what_is_no_answer(answer: Callable[[Exchange], None], said: str) -> None:
    with misbehaving(answer) as server, pytest.raises(FetchError, match=said):
        Peek([server.url], label="a", offline=False)
    assert len(server.seen) == 1


def test_an_unannounced_size() -> None:
    def behave(exchange: Exchange) -> None:
        exchange.start(200, {"Transfer-Encoding": "chunked"})
        exchange.chunk(b"data")
        exchange.chunk(b"")

    with misbehaving(behave) as server, pytest.raises(FetchError, match="does not announce the size"):
        Peek([server.url], label="a", offline=False)


def test_a_file_that_is_replaced_meanwhile_is_not_mixed() -> None:
    def behave(exchange: Exchange) -> None:
        ranged(DATA if exchange.asked == 0 else DATA[:-1])(exchange)

    with misbehaving(behave) as server:
        remote = Peek([server.url], label="a", offline=False)
        with pytest.raises(FetchError, match="upstream replaced the file"):
            remote.pread(2 * WINDOW, 1)


def test_requests_are_bounded() -> None:
    with misbehaving(ranged(DATA)) as server:
        remote = Peek([server.url], label="a", offline=False)
        for number in range(MAX_REQUESTS):
            assert remote.pread(number * 2 * WINDOW, 1) == DATA[number * 2 * WINDOW :][:1]
        with pytest.raises(FetchError, match=f"a: more than {MAX_REQUESTS} requests"):
            remote.pread(MAX_REQUESTS * 2 * WINDOW, 1)
        assert len(server.seen) == MAX_REQUESTS


def test_offline_asks_nobody() -> None:
    with misbehaving(ranged(DATA)) as server, pytest.raises(OfflineError):
        Peek([server.url], label="a", offline=True)
    assert server.seen == []
