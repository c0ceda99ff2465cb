"""What is tried again, what is refused, and what is kept then."""

from __future__ import annotations

import email.utils
import errno
import os
import re
import shutil
import socket
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import pytest

from recipes.errors import DigestMismatch, FetchError, NoSpace, OfflineError
from recipes.sources import download as module
from recipes.sources import retry
from recipes.sources.download import Downloaded
from tests.kit.downloads import DATA, OTHER, assert_arrived, assert_nothing_kept, digest_of, fetch, interrupted, sidecar
from tests.kit.servers import Exchange, misbehaving
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("quick_and_alone")


class TestTryingAgain:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_passing_status_is_asked_again(self, part: Path, status: int) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.file(DATA) if exchange.asked == 2 else exchange.reply(status)

        with misbehaving(behave) as server:
            fetch(server.url, part)
        assert len(server.seen) == 3
        assert_arrived(part)

    def test_a_passing_status_that_stays(self, part: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.reply(503)) as server,
            pytest.raises(FetchError, match=r"503 Service Unavailable \(5 attempts\)"),
        ):
            fetch(server.url, part)
        assert len(server.seen) == retry.ATTEMPTS

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 501, 300, 204])
    def test_a_final_status_is_not(self, part: Path, status: int) -> None:
        with (
            misbehaving(lambda exchange: exchange.reply(status)) as server,
            pytest.raises(FetchError, match=f"{status} {HTTPStatus(status).phrase}"),
        ):
            fetch(server.url, part)
        assert len(server.seen) == 1
        assert_nothing_kept(part)

    @pytest.mark.parametrize("form", ["seconds", "date"])
    def test_retry_after_is_honoured_and_told(self, part: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)

        def behave(exchange: Exchange) -> None:
            wait = "50" if form == "seconds" else email.utils.formatdate(time.time() + 51, usegmt=True)
            exchange.file(DATA) if exchange.asked else exchange.reply(503, Retry_After=wait)

        watch = Watch()
        with misbehaving(behave) as server:
            fetch(server.url, part, watch=watch)
        assert 30 < sum(slept) < 51.5
        assert re.fullmatch(
            rf"debian-13: {server.url}: 503 Service Unavailable; trying again in [345]\d s", watch.notes[0]
        )

    def test_waits_grow(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retry, "BACKOFF", 1.0)
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        with misbehaving(lambda exchange: exchange.reply(503)) as server, pytest.raises(FetchError):
            fetch(server.url, part)
        assert 7.5 <= sum(slept) <= 22.5, "1 + 2 + 4 + 8, half as much more or less"

    @pytest.mark.parametrize("wait", ["9999", "Fri, 01 Jan 2100 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 -0000"])
    def test_retry_after_is_capped_and_that_is_told(
        self, part: Path, monkeypatch: pytest.MonkeyPatch, wait: str
    ) -> None:
        monkeypatch.setattr(retry, "MAX_RETRY_AFTER", 0.02)
        monkeypatch.setattr(retry, "VISIBLE_WAIT", 0.0)

        def behave(exchange: Exchange) -> None:
            exchange.file(DATA) if exchange.asked else exchange.reply(429, Retry_After=wait)

        watch = Watch()
        with misbehaving(behave) as server:
            fetch(server.url, part, watch=watch)
        assert re.search(
            r"429 Too Many Requests; trying again in 0 s \(the server asked for \d{4,} s\)", watch.notes[0]
        )

    @pytest.mark.parametrize(
        "wait",
        [
            "soon",
            "-1",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 99 Jan 1970 00:00:00 GMT",
            "Thu, 01 Jan 99999999999 00:00:00 GMT",
        ],
    )
    def test_a_retry_after_that_says_nothing(self, part: Path, wait: str) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.file(DATA) if exchange.asked else exchange.reply(503, Retry_After=wait)

        with misbehaving(behave) as server:
            fetch(server.url, part)
        assert_arrived(part)

    def test_nobody_listens(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.reply()) as server:
            pass
        with pytest.raises(FetchError, match=r"connection refused \(5 attempts\)"):
            fetch(server.url, part)

    def test_no_such_host(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def getaddrinfo(*_: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with pytest.raises(FetchError) as caught:
            fetch("http://images.invalid/a", part)
        assert caught.value.message == (
            "debian-13: http://images.invalid/a: the name of the host cannot be resolved: name or service not known "
            "(3 attempts)"
        )

    def test_something_that_is_not_http(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.wfile.write(b"SSH-2.0-OpenSSH\r\n")
            exchange.cut()

        with (
            misbehaving(behave) as server,
            pytest.raises(FetchError, match=r"expected an answer in HTTP, got 'SSH-2\.0"),
        ):
            fetch(server.url, part)


class TestSeveralUrls:
    def test_the_next_one_is_taken_at_once_and_that_is_told(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.reply(404) if exchange.path == "/gone" else exchange.file(DATA)

        watch = Watch()
        with misbehaving(behave) as server:
            done = fetch([f"{server.url}/gone", f"{server.url}/here"], part, watch=watch)
        assert done.url == f"{server.url}/here"
        assert [seen.path for seen in server.seen] == ["/gone", "/here"]
        url = server.url
        assert watch.notes == [f"debian-13: {url}/gone: 404 Not Found; going on with {url}/here"]

    def test_all_failures_are_listed(self, part: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.reply(404 if exchange.path == "/a" else 403)) as server,
            pytest.raises(FetchError) as caught,
        ):
            fetch([f"{server.url}/a", f"{server.url.replace('//', '//me:secret@')}/b", "ftp://example.org/c"], part)
        assert caught.value.message.splitlines() == [
            "debian-13: none of 3 urls serves it:",
            f"  {server.url}/a: 404 Not Found",
            f"  {server.url}/b: 403 Forbidden",
            "  ftp://example.org/c: expected an http, https or file url, got ftp:",
        ]
        assert caught.value.hint is not None
        assert ".netrc" in caught.value.hint

    def test_the_digest_is_enforced_on_all(self, part: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.file(OTHER)) as server,
            pytest.raises(DigestMismatch) as caught,
        ):
            fetch([f"{server.url}/a", f"{server.url}/b"], part)
        assert str(caught.value).count(str(digest_of(DATA))) == 2
        assert str(caught.value).count(str(digest_of(OTHER))) == 2
        assert_nothing_kept(part)

    def test_a_good_mirror_makes_up_for_a_bad_one(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.file(OTHER if exchange.path == "/bad" else DATA)

        watch = Watch()
        with misbehaving(behave) as server:
            fetch([f"{server.url}/bad", f"{server.url}/good"], part, watch=watch)
        assert_arrived(part)
        assert watch.done == len(DATA)
        assert "wrong digest" in watch.notes[0]

    def test_the_pieces_of_one_are_not_mixed_with_another(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.file(DATA, stop=5000 if exchange.path == "/breaks" else None)

        with misbehaving(behave) as server:
            fetch([f"{server.url}/breaks", f"{server.url}/works"], part)
        assert server.seen[-1].path == "/works"
        assert server.seen[-1].range == (None, None)
        assert_arrived(part)

    def test_what_one_brought_outlives_the_refusal_of_the_next(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.file(DATA, stop=5000) if exchange.path == "/breaks" else exchange.reply(404)

        with misbehaving(behave) as server, pytest.raises(FetchError):
            fetch([f"{server.url}/breaks", f"{server.url}/gone"], part)
        assert part.stat().st_size == 5000
        assert sidecar(part).exists()

    def test_no_url_at_all(self, part: Path) -> None:
        with pytest.raises(FetchError, match="debian-13: no url"):
            fetch([], part)


class TestTheWrongBytes:
    def test_a_fresh_mismatch_is_final(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(OTHER)) as server, pytest.raises(DigestMismatch) as caught:
            fetch(f"{server.url}/disk.img", part)
        assert len(server.seen) == 1
        for detail in (f"{server.url}/disk.img", str(digest_of(DATA)), str(digest_of(OTHER)), "1000000 bytes"):
            assert detail in caught.value.message
        assert_nothing_kept(part)

    def test_a_mismatch_after_a_resume_and_once_more(self, part: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.file(OTHER, stop=None if exchange.asked else 1000)) as server,
            pytest.raises(DigestMismatch),
        ):
            fetch(server.url, part)
        assert [seen.range[0] for seen in server.seen] == [None, "bytes=1000-", None]
        assert_nothing_kept(part)

    def test_the_second_chance_comes_once_even_when_it_is_cut(self, part: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.file(OTHER, stop=None if exchange.asked % 2 else 1000)) as server,
            pytest.raises(DigestMismatch),
        ):
            fetch(server.url, part)
        assert [seen.range[0] for seen in server.seen] == [None, "bytes=1000-", None, "bytes=1000-"]
        assert_nothing_kept(part)

    @pytest.mark.parametrize("type_", ["text/html", "text/html; charset=utf-8", "application/xhtml+xml", "TEXT/HTML"])
    def test_an_html_page_by_its_type(self, part: Path, type_: str) -> None:
        with (
            misbehaving(lambda exchange: exchange.reply(body=b"please log in", Content_Type=type_)) as server,
            pytest.raises(FetchError, match="HTML page"),
        ):
            fetch(server.url, part)
        assert_nothing_kept(part)

    @pytest.mark.parametrize(
        "page", [b"<!DOCTYPE html>", b"\xef\xbb\xbf\r\n <!doctype HTML SYSTEM>", b"<HTML lang=en>"]
    )
    def test_an_html_page_by_its_bytes(self, part: Path, page: bytes) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.start(200, {"Content-Length": len(page) + 5000, "Content-Type": "application/octet-stream"})
            for byte in page + bytes(5000):
                exchange.wfile.write(bytes([byte]))

        with misbehaving(behave) as server, pytest.raises(FetchError, match="HTML page"):
            fetch(server.url, part)
        assert_nothing_kept(part)

    def test_bytes_that_only_resemble_a_page(self, part: Path) -> None:
        data = b"<htmlish" + DATA
        with misbehaving(lambda exchange: exchange.file(data)) as server:
            fetch(server.url, part, data=data)
        assert_arrived(part, data)

    @pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "br"])
    def test_an_encoded_body(self, part: Path, encoding: str) -> None:
        with (
            misbehaving(lambda exchange: exchange.file(DATA, Content_Encoding=encoding)) as server,
            pytest.raises(FetchError, match=f"Content-Encoding '{encoding}'"),
        ):
            fetch(server.url, part)
        assert_nothing_kept(part)

    def test_content_encoding_identity_is_none(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA, Content_Encoding="Identity")) as server:
            fetch(server.url, part)
        assert_arrived(part)

    def test_another_length_is_refused_before_the_body(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.start(200, {"Content-Length": 10**12})
            exchange.stopping.wait(10)

        with (
            misbehaving(behave) as server,
            pytest.raises(FetchError, match="expected 1000000 bytes, the server announces 1000000000000"),
        ):
            fetch(server.url, part, size=len(DATA))
        assert_nothing_kept(part)

    @pytest.mark.parametrize("chunked", [True, False])
    def test_an_empty_body(self, part: Path, chunked: bool) -> None:
        def behave(exchange: Exchange) -> None:
            if chunked:
                exchange.start(200, {"Transfer-Encoding": "chunked"})
                exchange.chunk(b"")
            else:
                exchange.reply()

        with misbehaving(behave) as server, pytest.raises(FetchError, match="the answer is empty"):
            fetch(server.url, part, data=b"")
        assert_nothing_kept(part)


def endless(exchange: Exchange) -> None:
    exchange.start(200, {"Transfer-Encoding": "chunked", "ETag": '"v1"'})
    while not exchange.stopping.is_set():
        exchange.chunk(DATA)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class TestRoom:
    def test_a_body_longer_than_declared_stops_early(self, part: Path) -> None:
        with (
            misbehaving(endless) as server,
            pytest.raises(FetchError, match="the answer goes on after 3000000 bytes"),
        ):
            fetch(server.url, part, size=3_000_000)
        assert_nothing_kept(part)

    def test_an_endless_body_leaves_a_reserve(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        free = module.RESERVE + 3_000_000
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free))
        watch = Watch()
        with misbehaving(endless) as server, pytest.raises(NoSpace, match="announces no length"):
            fetch(server.url, part, watch=watch)
        assert 2_000_000 < watch.done <= 3_000_000
        assert_nothing_kept(part)

    @pytest.mark.parametrize("declared", [True, False])
    def test_what_does_not_fit_is_not_begun(self, part: Path, monkeypatch: pytest.MonkeyPatch, declared: bool) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 999_999))
        with misbehaving(lambda exchange: exchange.file(DATA)) as server, pytest.raises(NoSpace) as caught:
            fetch(server.url, part, size=len(DATA) if declared else None)
        assert "1000000 bytes" in caught.value.message
        assert "999999 bytes" in caught.value.message
        assert_nothing_kept(part)

    def test_what_is_there_needs_no_room_again(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            there = interrupted(server.url, part)
            monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, len(DATA) - there - 1))
            with pytest.raises(NoSpace):
                fetch(server.url, part)
            assert part.stat().st_size == there, "kept"
            monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, len(DATA) - there))
            fetch(server.url, part)
        assert_arrived(part)

    def test_a_disk_that_fills_up_keeps_the_part(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written = 0
        real = os.pwrite

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            nonlocal written
            if written > 200_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += len(data)
            return real(fd, data, offset)

        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            monkeypatch.setattr(os, "pwrite", pwrite)
            with pytest.raises(NoSpace, match="No space left on device"):
                fetch(server.url, part)
            monkeypatch.setattr(os, "pwrite", real)
            there = part.stat().st_size
            assert there > 200_000
            fetch(server.url, part)
        assert server.seen[1].range == (f"bytes={there}-", '"v1"')
        assert_arrived(part)


class TestOffline:
    def test_the_network_is_not_touched(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server, pytest.raises(OfflineError) as caught:
            fetch(f"{server.url}/disk.img", part, offline=True)
        assert server.seen == []
        for detail in ("debian-13", f"{server.url}/disk.img", "LARDER_OFFLINE"):
            assert detail in caught.value.message

    def test_files_still_work(self, part: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        source = tmp_path_factory.mktemp("source") / "disk.img"
        source.write_bytes(DATA)
        fetch(["http://images.invalid/disk.img", source.as_uri()], part, offline=True)
        assert_arrived(part)


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("source")

    @pytest.mark.parametrize("name", ["disk.img", "a b#c?d%e.img"])
    def test_a_file(self, part: Path, folder: Path, name: str) -> None:
        source = folder / name
        source.write_bytes(DATA)
        watch = Watch()
        done = fetch(source.as_uri(), part, size=len(DATA), watch=watch)
        assert done == Downloaded(source.as_uri(), len(DATA), None, None, None)
        assert_arrived(part)
        assert (watch.done, watch.total) == (len(DATA), len(DATA))

    def test_localhost_is_this_machine(self, part: Path, folder: Path) -> None:
        (folder / "disk.img").write_bytes(DATA)
        fetch(f"file://localhost{folder}/disk.img", part)
        assert_arrived(part)

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("file://{folder}/none.img", "no such file or directory"),
            ("file://{folder}", "found a folder"),
            ("file://nas{folder}/disk.img", "names the host nas"),
            ("file:///dev/zero", "not a regular file"),
            ("file:///a%00b", "null"),
        ],
    )
    def test_what_is_no_file(self, part: Path, folder: Path, url: str, message: str) -> None:
        with pytest.raises(FetchError, match=message):
            fetch(url.format(folder=folder), part)
        assert_nothing_kept(part)

    def test_a_file_with_the_wrong_bytes(self, part: Path, folder: Path) -> None:
        (folder / "disk.img").write_bytes(OTHER)
        with pytest.raises(DigestMismatch):
            fetch((folder / "disk.img").as_uri(), part)
        assert_nothing_kept(part)

    def test_a_file_of_the_wrong_length(self, part: Path, folder: Path) -> None:
        (folder / "disk.img").write_bytes(DATA[:10])
        with pytest.raises(FetchError, match="expected 1000000 bytes"):
            fetch((folder / "disk.img").as_uri(), part, size=len(DATA))

    @pytest.mark.parametrize("url", ["ftp://example.org/a", "disk.img", "s3://bucket/a", "", "http://[::1/a"])
    def test_other_schemes(self, part: Path, url: str) -> None:
        with pytest.raises(FetchError, match=r"expected an http, https or file url|not a url"):
            fetch(url, part)
