from __future__ import annotations

import email.utils
import errno
import hashlib
import json
import os
import random
import re
import shutil
import socket
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from recipes.errors import DigestMismatch, FetchError, Interrupted, NoSpace, OfflineError
from recipes.formats.sparse import allocated
from recipes.model import Digest
from recipes.sources import download as module
from recipes.sources import http, retry
from recipes.sources.download import Downloaded, download
from tests.servers import Exchange, misbehaving
from tests.sources.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = random.Random(1).randbytes(1_000_000)
OTHER = random.Random(2).randbytes(1_000_000)
OLD = "Thu, 01 Jan 2026 00:00:00 GMT"


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 0.005)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "wrapper.part"


def sidecar(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def fetch(
    url: str | list[str],
    part: Path,
    *,
    data: bytes = DATA,
    digest: Digest | None = None,
    size: int | None = None,
    offline: bool = False,
    watch: Watch | None = None,
) -> Downloaded:
    return download(
        [url] if isinstance(url, str) else url,
        part,
        digest=digest or digest_of(data),
        size=size,
        offline=offline,
        progress=watch or Watch(),
        label="debian-13",
    )


def assert_arrived(part: Path, data: bytes = DATA) -> None:
    assert part.read_bytes() == data
    assert list(part.parent.iterdir()) == [part], "the sidecar and everything else is gone"


def assert_nothing_kept(part: Path) -> None:
    assert not list(part.parent.iterdir())


class TestWhatIsAskedFor:
    def test_bytes_arrive_and_the_answer_is_described(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.file(DATA, Last_Modified=OLD, Content_Type="application/x-qemu-disk")

        watch = Watch()
        with misbehaving(behave) as server:
            done = fetch(f"{server.url}/disk.img", part, size=len(DATA), watch=watch)
        assert done == Downloaded(f"{server.url}/disk.img", len(DATA), '"v1"', OLD, "application/x-qemu-disk")
        assert_arrived(part)
        assert (watch.labels, watch.done, watch.total) == (["debian-13"], len(DATA), len(DATA))
        headers = server.seen[0].headers
        assert headers["Accept-Encoding"] == "identity"
        assert re.fullmatch(r"larder/\d+\.\d+.*", headers["User-Agent"])
        assert "Range" not in headers

    def test_the_length_becomes_known_from_the_server(self, part: Path) -> None:
        watch = Watch()
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            fetch(server.url, part, watch=watch)
        assert watch.total == len(DATA)

    def test_sha512(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            fetch(server.url, part, digest=digest_of(DATA, "sha512"))
        assert_arrived(part)

    def test_zeros_become_holes(self, part: Path) -> None:
        data = b"head" + bytes(8 << 20) + b"tail" + bytes(1 << 20)
        with misbehaving(lambda exchange: exchange.file(data)) as server:
            fetch(server.url, part, data=data)
        assert_arrived(part, data)
        assert allocated(part) <= 64 * 1024

    def test_a_body_that_trickles(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.start(200, {"Content-Length": 300})
            for start in range(0, 300, 7):
                exchange.wfile.write(DATA[start : min(start + 7, 300)])
                exchange.wfile.flush()
                time.sleep(0.001)

        with misbehaving(behave) as server:
            fetch(server.url, part, data=DATA[:300])
        assert_arrived(part, DATA[:300])

    def test_a_body_without_a_length(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.start(200, {"Transfer-Encoding": "chunked"})
            for start in range(0, len(DATA), 99_999):
                exchange.chunk(DATA[start : start + 99_999])
            exchange.chunk(b"")

        watch = Watch()
        with misbehaving(behave) as server:
            assert fetch(server.url, part, watch=watch).size == len(DATA)
        assert_arrived(part)
        assert watch.total is None


class TestCuts:
    @pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.9999])
    def test_a_cut_is_resumed_with_the_etag(self, part: Path, fraction: float) -> None:
        stop = int(len(DATA) * fraction)
        watch = Watch()
        with misbehaving(lambda exchange: exchange.file(DATA, stop=None if exchange.asked else stop)) as server:
            fetch(server.url, part, watch=watch)
        assert_arrived(part)
        assert [seen.range for seen in server.seen] == [(None, None), (f"bytes={stop}-", '"v1"')]
        assert (watch.done, watch.lowest_step) == (len(DATA), 0), "nothing was transferred twice"

    def test_progress_resets_the_count_of_failures(self, part: Path) -> None:
        step = 50_000

        def behave(exchange: Exchange) -> None:
            exchange.file(DATA, stop=step * (exchange.asked + 1))

        with misbehaving(behave) as server:
            fetch(server.url, part)
        assert_arrived(part)
        assert len(server.seen) == len(DATA) // step > 3 * retry.ATTEMPTS

    def test_a_link_that_brings_nothing_new_is_given_up(self, part: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.file(DATA, stop=1000)) as server,
            pytest.raises(FetchError) as caught,
        ):
            fetch(f"{server.url}/disk.img", part)
        # One that brings bytes, and then as many as are allowed that do not.
        assert len(server.seen) == 1 + retry.ATTEMPTS - 1
        assert f"debian-13: {server.url}/disk.img: the connection was cut after 1000 of 1000000 bytes" in str(
            caught.value
        )
        assert f"({retry.ATTEMPTS} attempts)" in str(caught.value)
        assert part.stat().st_size == 1000, "kept for the next time"

    def test_a_server_without_validators_is_not_resumed_and_given_up(self, part: Path) -> None:
        watch = Watch()
        with (
            misbehaving(lambda exchange: exchange.file(DATA, etag=None, stop=1000)) as server,
            pytest.raises(FetchError),
        ):
            fetch(server.url, part, watch=watch)
        assert {seen.range for seen in server.seen} == {(None, None)}
        assert len(server.seen) == retry.ATTEMPTS, "the same bytes again are no progress"
        assert (watch.done, watch.lowest_step) == (1000, -1000)

    def test_chunked_bodies_are_resumed(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.asked:
                exchange.file(DATA)
                return
            exchange.start(200, {"Transfer-Encoding": "chunked", "ETag": '"v1"'})
            exchange.chunk(DATA[:1234])
            exchange.cut()

        with misbehaving(behave) as server:
            fetch(server.url, part)
        assert_arrived(part)
        assert server.seen[1].range == ("bytes=1234-", '"v1"')

    def test_a_cut_after_the_last_byte_costs_no_request(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.start(200, {"Transfer-Encoding": "chunked", "ETag": '"v1"'})
            exchange.chunk(DATA)
            exchange.cut()

        with misbehaving(behave) as server:
            fetch(server.url, part)
        assert_arrived(part)
        assert len(server.seen) == 1

    def test_the_end_of_a_body_without_a_length_is_a_cut_when_the_size_is_declared(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.asked:
                exchange.file(DATA)
                return
            exchange.start(200, {"Connection": "close", "ETag": '"v1"'})
            exchange.wfile.write(DATA[:5000])
            exchange.close_connection = True

        with misbehaving(behave) as server:
            fetch(server.url, part, size=len(DATA))
        assert_arrived(part)
        assert server.seen[1].range == ("bytes=5000-", '"v1"')

    def test_a_server_that_hangs_is_left_and_asked_again(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "READ_TIMEOUT", 0.1)

        def behave(exchange: Exchange) -> None:
            if exchange.asked == 0:
                exchange.stopping.wait(10)
            elif exchange.asked == 1:
                exchange.start(200, {"Content-Length": len(DATA), "ETag": '"v1"'})
                exchange.wfile.write(DATA[:70_000])
                exchange.stopping.wait(10)
            else:
                exchange.file(DATA)

        with misbehaving(behave) as server:
            fetch(server.url, part)
        assert_arrived(part)
        assert [seen.range for seen in server.seen][1:] == [(None, None), ("bytes=70000-", '"v1"')]

    def test_a_server_that_only_hangs(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.stopping.wait(10)

        monkeypatch.setattr(http, "READ_TIMEOUT", 0.05)
        with (
            misbehaving(behave) as server,
            pytest.raises(FetchError, match=r"nothing arrived for 0\.05 s \(5 attempts\)"),
        ):
            fetch(server.url, part)


class TestAnswersToARange:
    """Each first answer is cut at 1000 bytes; what the second one says is the test's."""

    @staticmethod
    def served(part: Path, second: Callable[[Exchange], None], *, data: bytes = DATA) -> list[tuple[str | None, ...]]:
        def behave(exchange: Exchange) -> None:
            if exchange.asked == 0:
                exchange.file(DATA, stop=1000)
            elif exchange.asked == 1:
                second(exchange)
            else:
                exchange.file(data)

        watch = Watch()
        with misbehaving(behave) as server:
            fetch(server.url, part, data=data, watch=watch)
        assert_arrived(part, data)
        assert watch.done == len(data)
        return [seen.range for seen in server.seen]

    RANGED = ("bytes=1000-", '"v1"')
    PLAIN = (None, None)

    def test_200_means_start_over(self, part: Path) -> None:
        ranges = self.served(part, lambda exchange: exchange.reply(body=DATA, ETag='"v1"'))
        assert ranges == [self.PLAIN, self.RANGED]

    def test_a_new_etag_means_start_over(self, part: Path) -> None:
        ranges = self.served(part, lambda exchange: exchange.file(OTHER, etag='"v2"'), data=OTHER)
        assert ranges == [self.PLAIN, self.RANGED]

    def test_416_means_start_over(self, part: Path) -> None:
        ranges = self.served(part, lambda exchange: exchange.reply(416, Content_Range="bytes */500"))
        assert ranges == [self.PLAIN, self.RANGED, self.PLAIN]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content_Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}", "ETag": '"v1"'},
            {"Content_Range": f"bytes 999-{len(DATA) - 1}/{len(DATA)}", "ETag": '"v1"'},
            {"Content_Range": f"bytes 1000-{len(DATA)}/{len(DATA) + 1}", "ETag": '"v1"'},
            {"Content_Range": f"bytes 1000-{len(DATA) - 1}/{len(DATA)}", "ETag": '"v2"'},
            {"Content_Range": f"bytes {'9' * 5000}-{'9' * 5000}/{'9' * 5000}", "ETag": '"v1"'},
            {"Content_Type": "multipart/byteranges; boundary=x"},
        ],
        ids=["start of the file", "one byte early", "another total", "If-Range ignored", "absurd", "multipart"],
    )
    def test_206_that_does_not_go_on_means_start_over(self, part: Path, headers: dict[str, str]) -> None:
        ranges = self.served(part, lambda exchange: exchange.reply(206, OTHER[1000:], **headers))
        assert ranges == [self.PLAIN, self.RANGED, self.PLAIN]

    def test_206_with_less_than_the_rest_is_gone_on_from(self, part: Path) -> None:
        def second(exchange: Exchange) -> None:
            span = f"bytes 1000-1999/{len(DATA)}"
            exchange.reply(206, DATA[1000:2000], Content_Range=span, ETag='"v1"')

        assert self.served(part, second) == [self.PLAIN, self.RANGED, ("bytes=2000-", '"v1"')]

    def test_206_with_an_unknown_total_is_gone_on_from(self, part: Path) -> None:
        def second(exchange: Exchange) -> None:
            exchange.reply(206, DATA[1000:], Content_Range=f"bytes 1000-{len(DATA) - 1}/*")

        assert self.served(part, second) == [self.PLAIN, self.RANGED]

    def test_a_mismatch_after_a_resume_is_tried_once_from_scratch(self, part: Path) -> None:
        def second(exchange: Exchange) -> None:
            span = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
            exchange.reply(206, OTHER[1000:], Content_Range=span, ETag='"v1"')

        assert self.served(part, second) == [self.PLAIN, self.RANGED, self.PLAIN]

    def test_206_without_a_question_is_refused(self, part: Path) -> None:
        with (
            misbehaving(lambda exchange: exchange.reply(206, DATA, Content_Range="bytes 0-9/10")) as server,
            pytest.raises(FetchError, match="206 Partial Content"),
        ):
            fetch(server.url, part)


class TestValidators:
    @pytest.mark.parametrize(
        ("headers", "if_range"),
        [
            ({"ETag": '"strong"', "Last_Modified": OLD}, '"strong"'),
            ({"ETag": 'W/"weak"', "Last_Modified": OLD}, OLD),
            ({"ETag": "unquoted", "Last_Modified": OLD}, OLD),
            ({"Last_Modified": OLD}, OLD),
            ({"ETag": 'W/"weak"'}, None),
            ({"Last_Modified": "yesterday"}, None),
            ({"Last_Modified": "Thu, 01 Jan 99999999999 00:00:00 GMT"}, None),
            ({"Last_Modified": email.utils.formatdate(time.time() + 3600, usegmt=True)}, None),
            ({}, None),
        ],
        ids=["strong", "weak", "broken", "date", "weak only", "no date", "absurd date", "too young", "none"],
    )
    def test_what_if_range_carries(self, part: Path, headers: dict[str, str], if_range: str | None) -> None:
        def behave(exchange: Exchange) -> None:
            etag = headers.get("ETag")
            rest = {name: value for name, value in headers.items() if name != "ETag"}
            exchange.file(DATA, etag=etag, stop=None if exchange.asked else 1000, **rest)

        with misbehaving(behave) as server:
            fetch(server.url, part)
        assert_arrived(part)
        assert server.seen[1].range == ((None, None) if if_range is None else ("bytes=1000-", if_range))


class TestANewProcess:
    """What an `Interrupted` leaves is what a kill leaves, as far as the next process can see."""

    @staticmethod
    def interrupted(url: str, part: Path, **arguments: Any) -> int:
        with pytest.raises(Interrupted):
            fetch(url, part, watch=Watch(interrupt_at=100_000), **arguments)
        return part.stat().st_size

    def test_goes_on_where_the_old_one_stopped(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            there = self.interrupted(server.url, part)
            watch = Watch()
            done = fetch(server.url, part, watch=watch)
        assert 100_000 <= there < len(DATA)
        assert server.seen[1].range == (f"bytes={there}-", '"v1"')
        assert_arrived(part)
        assert (watch.done, watch.total, watch.lowest_step) == (len(DATA), len(DATA), 0)
        assert done.etag == '"v1"'

    def test_the_sidecar_says_what_is_there_and_no_secrets(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            self.interrupted(server.url.replace("//", "//me:secret@"), part)
        left = json.loads(sidecar(part).read_text())
        assert left["url"] == server.url
        assert (left["digest"], left["size"], left["validator"]) == (str(digest_of(DATA)), len(DATA), '"v1"')
        assert "secret" not in sidecar(part).read_text()

    def test_another_digest_starts_over(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(OTHER if exchange.asked else DATA)) as server:
            self.interrupted(server.url, part)
            fetch(server.url, part, data=OTHER)
        assert server.seen[1].range == (None, None)
        assert_arrived(part, OTHER)

    def test_another_url_starts_over(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            self.interrupted(f"{server.url}/a", part)
            fetch(f"{server.url}/b", part)
        assert server.seen[1].range == (None, None)
        assert_arrived(part)

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"digest": 1, "more": 2}'])
    def test_an_unreadable_sidecar_starts_over(self, part: Path, content: str) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            self.interrupted(server.url, part)
            sidecar(part).write_text(content)
            fetch(server.url, part)
        assert server.seen[1].range == (None, None)
        assert_arrived(part)

    @pytest.mark.parametrize("lost", ["part", "sidecar"])
    def test_half_of_it_lost_starts_over(self, part: Path, lost: str) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            self.interrupted(server.url, part)
            (part if lost == "part" else sidecar(part)).unlink()
            fetch(server.url, part)
        assert server.seen[1].range == (None, None)
        assert_arrived(part)

    def test_a_damaged_part_is_found_and_downloaded_again(self, part: Path) -> None:
        watch = Watch()
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            self.interrupted(server.url, part)
            with part.open("r+b") as file:
                file.write(b"damage")
            fetch(server.url, part, watch=watch)
        assert [seen.range[0] is None for seen in server.seen] == [True, False, True]
        assert "starting over" in watch.notes[0]
        assert_arrived(part)

    def test_a_part_that_is_complete_needs_no_network(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            self.interrupted(server.url, part)
            part.write_bytes(DATA)
            done = fetch(server.url, part, offline=True)
        assert len(server.seen) == 1
        assert (done.url, done.size, done.etag) == (server.url, len(DATA), '"v1"')
        assert_arrived(part)

    def test_a_part_that_is_longer_than_the_file_starts_over(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            self.interrupted(server.url, part)
            part.write_bytes(DATA + b"more")
            fetch(server.url, part)
        assert_arrived(part)

    def test_an_interrupt_while_hashing_keeps_the_part(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            there = self.interrupted(server.url, part)
            assert self.interrupted(server.url, part) == there
            fetch(server.url, part)
        assert server.seen[1].range == (f"bytes={there}-", '"v1"')
        assert_arrived(part)

    def test_an_interrupt_while_waiting_stops_the_wait(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retry, "BACKOFF", 3600)
        with (
            misbehaving(lambda exchange: exchange.reply(503)) as server,
            pytest.raises(Interrupted),
        ):
            fetch(server.url, part, watch=Watch(interrupt_at=0))


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
        with pytest.raises(FetchError, match=r"http://images\.invalid/a: name or service not known \(5 attempts\)"):
            fetch("http://images.invalid/a", part)

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
            there = TestANewProcess.interrupted(server.url, part)
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
            ("file://{folder}", "found a directory"),
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
