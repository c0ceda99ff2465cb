"""Servers that lie, dawdle and never stop: the right bytes or a clear error, in bounded time and memory.

Each is asked through `download`, as an image is, and where it matters through `pages.get`, as a checksum list is. What
honest servers do wrong now and then is in test_download.py and test_http.py.
"""

from __future__ import annotations

import random
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, FetchError, LarderError
from recipes.sources import failures, http, pace, pages, retry
from recipes.sources.access import Access
from recipes.sources.download import Wanted, download
from tests.kit.downloads import DATA, OTHER, assert_arrived, assert_nothing_kept, digest_of
from tests.kit.oracles import need
from tests.kit.servers import Exchange, misbehaving
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.sources.download import Downloaded

pytestmark = pytest.mark.usefixtures("nobody")

Behave = Callable[[Exchange], None]
SMALL = DATA[:5000]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    folder = tmp_path / "entry"
    folder.mkdir()
    return folder / "wrapper.part"


def fetch(*urls: str, part: Path, data: bytes = DATA, size: int | None = None) -> Downloaded:
    return download(urls, part, Access(progress=Watch()), wanted=Wanted(digest_of(data), size), label="fetch:debian-13")


def refused(behave: Behave, part: Path, match: str, size: int | None = None) -> int:
    """Say how often a server was asked that is refused for what `match` says; nothing wrong is kept."""
    with misbehaving(behave) as server, pytest.raises(LarderError, match=match) as caught:
        fetch(f"{server.url}/disk.img", part=part, size=size)
    assert f"{server.url}/disk.img" in str(caught.value)
    assert not part.exists() or DATA.startswith(part.read_bytes())
    return len(server.seen)


def saying(head: bytes, body: bytes = b"") -> Behave:
    """Answer with these bytes, and then close."""

    def behave(exchange: Exchange) -> None:
        exchange.wfile.write(head + b"\r\n\r\n" + body)
        exchange.close_connection = True

    return behave


def forever(head: bytes, more: bytes, pause: float = 0.0) -> Behave:
    """Answer with `head`, and then with `more` again and again."""

    def behave(exchange: Exchange) -> None:
        exchange.wfile.write(head)
        while not exchange.stopping.wait(pause):
            exchange.wfile.write(more)
            exchange.wfile.flush()

    return behave


class TestCuts:
    @pytest.mark.parametrize("sized", [True, False], ids=["declared", "undeclared"])
    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    def test_at_every_fraction(self, part: Path, framing: str, sized: bool) -> None:
        """Sixty cuts, of the body and within the head, in one download; then the rest."""
        dice = random.Random(f"{framing}{sized}")
        cuts = sorted(dice.sample(range(5000, len(DATA)), 60))

        def behave(exchange: Exchange) -> None:
            first, _ = exchange.seen.range
            start = int(first.removeprefix("bytes=").removesuffix("-")) if first else 0
            later = [cut for cut in cuts if cut > start]
            if exchange.asked % 7 == 3:
                exchange.wfile.write(b"HTTP/1.1 206"[: exchange.asked % 9])
                exchange.cut()
                return
            stop = later[0] if later else len(DATA)
            span = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if start else {}
            if framing == "length" or (framing == "close" and not sized):
                span["Content-Length"] = str(len(DATA) - start)
            elif framing == "chunked":
                span["Transfer-Encoding"] = "chunked"
            exchange.start(206 if start else 200, {"ETag": '"v1"', **span})
            if framing == "chunked":
                exchange.wfile.write(b"%x\r\n" % (len(DATA) - start))
            exchange.wfile.write(DATA[start:stop])
            if stop < len(DATA):
                exchange.cut()
            else:
                exchange.wfile.write(b"\r\n0\r\n\r\n" if framing == "chunked" else b"")
                exchange.close_connection = True

        with misbehaving(behave) as server:
            fetch(server.url, part=part, size=len(DATA) if sized else None)
        assert_arrived(part)
        assert len(server.seen) > len(cuts), "each was resumed"

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("stop", [0, 1, 511, 512, 513, len(DATA) - 1])
    def test_at_the_edges(self, part: Path, framing: str, stop: int) -> None:
        """The first 512 bytes are looked at before any is kept: an HTML page is not the beginning of a disk."""

        def behave(exchange: Exchange) -> None:
            if exchange.asked or framing == "length":
                exchange.file(DATA, stop=None if exchange.asked else stop)
                return
            exchange.start(200, {"Transfer-Encoding": "chunked", "ETag": '"v1"'})
            exchange.wfile.write(b"%x\r\n%s" % (len(DATA), DATA[:stop]))
            exchange.cut()

        with misbehaving(behave) as server:
            fetch(server.url, part=part)
        assert_arrived(part)
        assert server.seen[1].range[0] == (f"bytes={stop}-" if stop >= 512 else None)

    def test_a_byte_at_a_time_is_given_up_for_the_next_url(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A byte more with each attempt is no progress that would keep us from a mirror."""
        monkeypatch.setattr(retry, "SLOWEST", 10**9)
        with (
            misbehaving(lambda exchange: exchange.file(DATA, stop=exchange.asked + 1)) as slow,
            misbehaving(lambda exchange: exchange.file(DATA)) as good,
        ):
            assert fetch(slow.url, good.url, part=part).url == good.url
        assert len(slow.seen) == retry.ATTEMPTS
        assert_arrived(part)


class TestWhatNeverEnds:
    """The read timeout is 0.3 s here; none of these lets it pass, and none may go on."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "READ_TIMEOUT", 0.3)
        monkeypatch.setattr(retry, "ATTEMPTS", 2)
        # No loopback is as slow as that, and a byte every 20 ms is slower.
        monkeypatch.setattr(pace, "SLOWEST", 2000)
        monkeypatch.setattr(retry, "SLOWEST", 2000)

    LENGTH = b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nContent-Length: 1000000\r\n\r\n'
    CHUNKED = b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nTransfer-Encoding: chunked\r\n\r\n'

    @pytest.mark.parametrize(
        ("head", "byte"),
        [
            (b"", b"H"),
            (b"HTTP/1.1 200 OK\r\n", b"X"),
            (LENGTH, DATA[:1]),
            (CHUNKED, b"1"),
            (CHUNKED + b"1;", b"x"),
            (CHUNKED + b"1\r\na\r\n0\r\n", b"x"),
        ],
        ids=["status", "header", "body", "chunk size", "chunk extension", "trailer"],
    )
    def test_a_trickle(self, part: Path, head: bytes, byte: bytes) -> None:
        asked = refused(
            forever(head, byte, 0.02), part, r"(fewer than 2000 bytes/s|nothing arrived) for 0\.3 s.*\(2 attempts\)"
        )
        assert asked == 2

    def test_a_trickle_leaves_what_it_brought(self, part: Path) -> None:
        with (
            misbehaving(forever(self.LENGTH + DATA[:700], DATA[700:701], 5)) as server,
            pytest.raises(FetchError, match=r"nothing arrived for 0\.3 s"),
        ):
            fetch(server.url, part=part)
        assert part.read_bytes() == DATA[:700]

    @pytest.mark.parametrize(
        ("head", "more"),
        [
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 999),
            (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 999),
            (b"HTTP/1.1 200 OK\r\n", b"".join(b"X-%d: %s\r\n" % (n, bytes(99).hex().encode()) for n in range(99))),
            (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 9999),
            (CHUNKED + b"1;", b"x" * 9999),
            (CHUNKED + b"1\r\na\r\n0\r\n", b"X: y\r\n" * 999),
        ],
        ids=["100 without end", "103 without end", "headers", "one header", "chunk extension", "trailers"],
    )
    def test_a_flood(self, part: Path, head: bytes, more: bytes) -> None:
        began = time.process_time()
        refused(forever(head, more), part, "headers|header line|bytes of|103 Early|chunk")
        assert time.process_time() - began < 20, "it is bounded by bytes, not by patience"

    @pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n"], ids=["chunked", "until it closes"])
    def test_a_body(self, part: Path, head: bytes) -> None:
        more = b"%x\r\n%s\r\n" % (len(DATA), DATA) if b"chunked" in head else DATA
        assert refused(forever(head, more), part, "goes on after 3000000 bytes", size=3_000_000) == 1
        assert_nothing_kept(part)

    def test_a_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pages, "MAX_PAGE", 1 << 20)
        for behave in (
            forever(b"HTTP/1.1 200 OK\r\n\r\n", DATA),
            forever(self.CHUNKED, b"400;x\r\n%s\r\n" % DATA[:1024] * 99),
        ):
            with misbehaving(behave) as server, pytest.raises(FetchError, match="longer than 1048576 bytes"):
                pages.get([server.url], label="SHA256SUMS", offline=False)

    def test_the_next_url_is_taken(self, part: Path) -> None:
        with (
            misbehaving(forever(self.LENGTH, b"x", 0.02)) as slow,
            misbehaving(lambda exchange: exchange.file(DATA)) as good,
        ):
            assert fetch(slow.url, good.url, part=part).url == good.url
        assert_arrived(part)

    def test_redirects(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.reply(302, Location=f"/{exchange.asked}")

        asked = refused(behave, part, "more than 10 redirects")
        assert asked == failures.MAX_REDIRECTS + 1


class TestSlowConsumers:
    def test_what_we_take_our_time_for_is_not_the_servers_fault(
        self, part: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "READ_TIMEOUT", 1.0)
        monkeypatch.setattr(pace, "SLOWEST", 10**6)

        class Slow(Watch):
            def advance(self, count: int) -> None:
                super().advance(count)
                if count:
                    time.sleep(0.1)

        with misbehaving(lambda exchange: exchange.file(DATA)) as server:
            download([server.url], part, Access(progress=Slow()), wanted=Wanted(digest_of(DATA), None), label="a")
        assert len(server.seen) == 1
        assert_arrived(part)


class TestLengths:
    @pytest.mark.parametrize(
        "headers",
        [
            b"Content-Length: -1",
            b"Content-Length: 5000, 5000",
            b"Content-Length: 0x1388",
            b"Content-Length: +5000",
            b"Content-Length: 5000\r\nContent-Length: 5000",
            b"Content-Length: " + b"9" * 4000,
            b"Content-Length:",
            b"Content-Length: 5000\r\nTransfer-Encoding: chunked\r\nConnection: close",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity",
        ],
        ids=["negative", "list", "hex", "signed", "two", "absurd", "none", "both", "gzip", "identity"],
    )
    @pytest.mark.parametrize("sized", [True, False])
    def test_that_say_nothing_sensible(self, part: Path, headers: bytes, sized: bool) -> None:
        """The bytes are right, or they are refused: never other bytes, never a traceback."""
        with misbehaving(saying(b"HTTP/1.1 200 OK\r\n" + headers, SMALL)) as server:
            try:
                fetch(server.url, part=part, data=SMALL, size=len(SMALL) if sized else None)
            except FetchError:
                assert not part.exists() or SMALL.startswith(part.read_bytes())
            else:
                assert_arrived(part, SMALL)

    @pytest.mark.parametrize("first", [4000, 6000])
    def test_two_that_differ(self, part: Path, first: int) -> None:
        """Whichever of them counts: too few bytes are a cut, and more are never taken for the file."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Length: 5000" % first
        with misbehaving(saying(head, SMALL + bytes(1000))) as server, pytest.raises(LarderError):
            fetch(server.url, part=part, data=SMALL, size=len(SMALL))

    def test_more_than_announced_is_not_read(self, part: Path) -> None:
        with misbehaving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5000", SMALL + OTHER)) as server:
            fetch(server.url, part=part, data=SMALL)
        assert_arrived(part, SMALL)

    @pytest.mark.parametrize(
        "body",
        [
            b"-5\r\naaaaa\r\n0\r\n\r\n",
            b"zz\r\naaaaa\r\n0\r\n\r\n",
            b"ffffffffffffffffffff\r\n" + SMALL,
            b"1388\r\n" + SMALL + b"no line end 0\r\n\r\n",
            b"1388\r\n" + SMALL,
            b"\r\n\r\n\r\n",
            SMALL,
        ],
        ids=["negative", "no number", "absurd", "no line end", "no last chunk", "no size", "not chunked"],
    )
    def test_chunks_that_are_none(self, part: Path, body: bytes) -> None:
        with misbehaving(saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", body)) as server:
            try:
                fetch(server.url, part=part, data=SMALL)
            except FetchError:
                assert not part.exists() or SMALL.startswith(part.read_bytes())
            else:
                assert_arrived(part, SMALL)


class TestRanges:
    """The first answer is cut at 1000 bytes; the server then says something else."""

    def second(self, part: Path, answer: Behave) -> list[str | None]:
        def behave(exchange: Exchange) -> None:
            if exchange.asked == 0:
                exchange.file(DATA, stop=1000)
            elif exchange.asked == 1:
                answer(exchange)
            else:
                exchange.file(DATA)

        with misbehaving(behave) as server:
            fetch(server.url, part=part)
        assert_arrived(part)
        return [seen.range[0] for seen in server.seen]

    def test_a_range_that_brings_less_than_it_says(self, part: Path) -> None:
        def answer(exchange: Exchange) -> None:
            span = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
            exchange.reply(206, DATA[1000:2000], Content_Range=span, ETag='"v1"')

        assert self.second(part, answer) == [None, "bytes=1000-", "bytes=2000-"]

    def test_a_range_that_brings_more_than_the_file(self, part: Path) -> None:
        def answer(exchange: Exchange) -> None:
            span = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
            exchange.reply(206, DATA[1000:] + OTHER, Content_Range=span, ETag='"v1"')

        with pytest.raises(FetchError, match="goes on after 1000000 bytes"):
            self.second(part, answer)
        assert_nothing_kept(part)

    def test_a_range_in_another_encoding(self, part: Path) -> None:
        def answer(exchange: Exchange) -> None:
            span = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
            exchange.reply(206, DATA[1000:], Content_Range=span, ETag='"v1"', Content_Encoding="gzip")

        with pytest.raises(FetchError, match="Content-Encoding 'gzip'"):
            self.second(part, answer)

    def test_416_again_and_again(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.headers.get("Range"):
                exchange.reply(416, Content_Range=f"bytes */{len(DATA)}")
            else:
                exchange.file(DATA, stop=1000)

        asked = refused(behave, part, r"cut after 1000 of 1000000 bytes \(5 attempts\)")
        assert asked <= 2 * retry.ATTEMPTS + 1

    def test_an_html_page_where_the_rest_was(self, part: Path) -> None:
        def answer(exchange: Exchange) -> None:
            exchange.reply(200, b"<!doctype html><title>log in</title>", Content_Type="text/html")

        with pytest.raises(FetchError, match="HTML page"):
            self.second(part, answer)

    def test_etags_that_change_with_each_answer(self, part: Path) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.file(DATA, etag=f'"{exchange.asked}"', stop=None if exchange.asked == 3 else 1000)

        with misbehaving(behave) as server:
            fetch(server.url, part=part)
        assert_arrived(part)

    @pytest.mark.parametrize("etag", ['"' + "x" * 60_000 + '"', '"\xff\xfe"', '""', '"a" \t', "W/"])
    def test_an_etag_that_is_odd(self, part: Path, etag: str) -> None:
        with misbehaving(
            lambda exchange: exchange.file(DATA, etag=etag, stop=None if exchange.asked else 1000)
        ) as server:
            try:
                fetch(server.url, part=part)
            except FetchError:
                assert not part.exists() or DATA.startswith(part.read_bytes())
            else:
                assert_arrived(part)


class TestTls:
    @pytest.mark.parametrize(
        ("name", "days", "reason"),
        [("DNS:example.org", 2, "mismatch|doesn't match|not valid for"), ("IP:127.0.0.1", -1, "expired")],
        ids=["another host", "expired"],
    )
    def test_a_certificate_that_is_trusted_and_wrong(
        self, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, reason: str
    ) -> None:
        context, certificate = _certificate(tmp_path, name, days)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with (
            misbehaving(lambda exchange: exchange.file(DATA), tls=context) as server,
            pytest.raises(FetchError, match=f"certificate was refused: .*({reason})") as caught,
        ):
            fetch(server.url, part=part)
        assert "attempts" not in str(caught.value), "trying again does not help"
        assert server.seen == []

    def test_an_old_protocol(self, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        context, certificate = _certificate(tmp_path, "IP:127.0.0.1", 2)
        with pytest.warns(DeprecationWarning, match="deprecated"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with misbehaving(lambda exchange: exchange.file(DATA), tls=context) as server, pytest.raises(FetchError):
            fetch(server.url, part=part)
        assert server.seen == []


class TestNames:
    def test_a_name_that_has_ipv6_only(self, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody listens at its address, that is said; it is tried at no other."""
        real = socket.getaddrinfo

        def only_6(host: str, *arguments: object, **named: object) -> object:
            if host == "six.example.org":
                return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", arguments[0], 0, 0))]
            return real(host, *arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", only_6)
        with misbehaving(lambda exchange: exchange.file(DATA)) as server, pytest.raises(FetchError) as caught:
            fetch(f"http://six.example.org:{server.port}/disk.img", part=part)
        assert "six.example.org" in str(caught.value)
        assert server.seen == [], "it listens at 127.0.0.1"

    @pytest.mark.parametrize("status", [200, 206, 999, 199])
    def test_a_port_that_speaks_something_else(self, part: Path, status: int) -> None:
        head = b"SSH-2.0-OpenSSH" if status == 200 else b"HTTP/1.1 %d Hm\r\nContent-Length: 4" % status
        refused(saying(head, b"data"), part, "expected an answer in HTTP|206 Partial|999 |199 |cut|empty")


def test_bytes_of_somebody_else_are_never_kept(part: Path) -> None:
    """Right length, right type, right validators, and other bytes, at once and after a resume."""
    for stop in (None, 1000):
        with (
            misbehaving(
                lambda exchange, stop=stop: exchange.file(OTHER, stop=None if exchange.asked else stop)  # type: ignore[misc]
            ) as server,
            pytest.raises(DigestMismatch),
        ):
            fetch(server.url, part=part, size=len(DATA))
        assert_nothing_kept(part)


def _certificate(folder: Path, name: str, days: int) -> tuple[ssl.SSLContext, Path]:
    """Return the context of a TLS server, and its certificate, for `name` and so many days."""
    need("openssl")
    key, request, certificate = folder / "key.pem", folder / "request.pem", folder / "certificate.pem"
    make = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a"]
    sign = ["openssl", "x509", "-req", "-copy_extensions", "copyall", "-days", str(days)]
    extensions = ["-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:true"]
    extensions += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    for command in (
        [*make, *extensions, "-keyout", str(key), "-out", str(request)],
        [*sign, "-in", str(request), "-signkey", str(key), "-out", str(certificate)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
