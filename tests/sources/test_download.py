from __future__ import annotations

import email.utils
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError, Interrupted
from recipes.formats.io.sparse import allocated
from recipes.sources import http, retry
from recipes.sources.download import Downloaded
from tests.kit.downloads import DATA, OLD, OTHER, assert_arrived, digest_of, fetch, interrupted, sidecar
from tests.kit.servers import Exchange, misbehaving
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("quick_and_alone")


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

    def test_goes_on_where_the_old_one_stopped(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            there = interrupted(server.url, part)
            watch = Watch()
            done = fetch(server.url, part, watch=watch)
        assert 100_000 <= there < len(DATA)
        assert server.seen[1].range == (f"bytes={there}-", '"v1"')
        assert_arrived(part)
        assert (watch.done, watch.total, watch.lowest_step) == (len(DATA), len(DATA), 0)
        assert done.etag == '"v1"'

    def test_the_sidecar_says_what_is_there_and_no_secrets(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            interrupted(server.url.replace("//", "//me:secret@"), part)
        left = json.loads(sidecar(part).read_text())
        assert left["url"] == server.url
        assert (left["digest"], left["size"], left["validator"]) == (str(digest_of(DATA)), len(DATA), '"v1"')
        assert "secret" not in sidecar(part).read_text()

    def test_another_digest_starts_over(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(OTHER if exchange.asked else DATA)) as server:
            interrupted(server.url, part)
            fetch(server.url, part, data=OTHER)
        assert server.seen[1].range == (None, None)
        assert_arrived(part, OTHER)

    def test_another_url_starts_over(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            interrupted(f"{server.url}/a", part)
            fetch(f"{server.url}/b", part)
        assert server.seen[1].range == (None, None)
        assert_arrived(part)

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"digest": 1, "more": 2}'])
    def test_an_unreadable_sidecar_starts_over(self, part: Path, content: str) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            interrupted(server.url, part)
            sidecar(part).write_text(content)
            fetch(server.url, part)
        assert server.seen[1].range == (None, None)
        assert_arrived(part)

    @pytest.mark.parametrize("lost", ["part", "sidecar"])
    def test_half_of_it_lost_starts_over(self, part: Path, lost: str) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            interrupted(server.url, part)
            (part if lost == "part" else sidecar(part)).unlink()
            fetch(server.url, part)
        assert server.seen[1].range == (None, None)
        assert_arrived(part)

    def test_a_damaged_part_is_found_and_downloaded_again(self, part: Path) -> None:
        watch = Watch()
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            interrupted(server.url, part)
            with part.open("r+b") as file:
                file.write(b"damage")
            fetch(server.url, part, watch=watch)
        assert [seen.range[0] is None for seen in server.seen] == [True, False, True]
        assert "starting over" in watch.notes[0]
        assert_arrived(part)

    def test_a_part_that_is_complete_needs_no_network(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            interrupted(server.url, part)
            part.write_bytes(DATA)
            done = fetch(server.url, part, offline=True)
        assert len(server.seen) == 1
        assert (done.url, done.size, done.etag) == (server.url, len(DATA), '"v1"')
        assert_arrived(part)

    def test_a_part_that_is_longer_than_the_file_starts_over(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            interrupted(server.url, part)
            part.write_bytes(DATA + b"more")
            fetch(server.url, part)
        assert_arrived(part)

    def test_an_interrupt_while_hashing_keeps_the_part(self, part: Path) -> None:
        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            there = interrupted(server.url, part)
            assert interrupted(server.url, part) == there
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
