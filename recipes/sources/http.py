"""HTTP, HTTPS and file:// with one policy: what is asked for, what is refused, what may be tried again.

The messages of errors that are raised in here name neither a label nor the url: `retry.first_of`, which knows both,
adds them.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self, TypeAlias
from urllib.request import url2pathname

from recipes import __version__
from recipes.errors import FetchError, OfflineError
from recipes.formats.io.text import HTML
from recipes.redact import shown

from .failures import MAX_REDIRECTS, OF_ONE_MIRROR, blaming, cause_of, login_of, redirection, refusal, translated
from .retry import Elsewhere, Retryable, answered
from .urls import join, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    import requests

#: Seconds to wait for a connection, and for the next byte. Without them a dead peer is waited for without end.
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0

Method = Literal["GET", "HEAD", "POST", "PATCH", "PUT"]
#: What a request sends: at once, or streamed in pieces, whose number nobody knows before.
Body: TypeAlias = "bytes | Iterator[bytes]"

#: Most bytes taken from the connection at once. It hands over what is there, so this only bounds a buffer.
READ_SIZE = 256 * 1024

_HTML_HEAD = 512


class _Reader(Protocol):
    """Give the next bytes of a body, nothing at its end; raise `Retryable` where it breaks off."""

    def __call__(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server, or the file system, answers."""

    #: Where it comes from, after redirects.
    url: str
    status: int
    headers: Mapping[str, str]
    #: Bytes of the body, where they are announced.
    length: int | None
    _read: _Reader
    #: `url`, where a redirect led to it on another host.
    redirected: str | None = None

    def body(self, *, html: bool = False) -> Iterator[bytes]:
        """Yield the body's bytes as they arrive, in pieces of any length.

        Errors: FetchError for an empty body and, unless `html` is wanted, for an HTML page, whatever the header calls
        it (a login or an error page, served with status 200); `Retryable` for a body that ends before its announced
        length.
        """
        received = 0
        for piece in self._vetted() if self.status == HTTPStatus.OK and not html else iter(self._read, b""):
            received += len(piece)
            yield piece
        if self.length is not None and received < self.length:
            raise Retryable("the connection was cut")
        if not received:
            raise FetchError("the answer is empty")

    def _vetted(self) -> Iterator[bytes]:
        head = b""
        while len(head) < _HTML_HEAD and (piece := self._read()):
            head += piece
        if HTML.match(head):
            raise html_page()
        if head:
            yield head
            yield from iter(self._read, b"")


def html_page() -> FetchError:
    """Return the error for an HTML page where a file was asked for."""
    return FetchError(
        "the answer is an HTML page, not the file",
        hint="a login page, an error page or a captive portal; open the url in a browser to see which",
    )


class Client:
    """Opens urls; nothing else does. For one thread.

    `timeouts` are the seconds to wait for a connection and for the next byte, where they are not `CONNECT_TIMEOUT` and
    `READ_TIMEOUT`.
    """

    def __init__(self, *, offline: bool, timeouts: tuple[float, float] | None = None) -> None:
        self._offline = offline
        self._timeouts = timeouts
        self._session: requests.Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()

    @contextmanager
    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        accept: Collection[int] = (HTTPStatus.OK,),
        method: Method = "GET",
        form: Mapping[str, str] | None = None,
        data: Body | None = None,
    ) -> Iterator[Answer]:
        """Ask for `url` and hand out the answer, whose status is one of `accept`.

        An Authorization among `headers` goes to the host and port of `url` only, whatever that redirects to; without
        one, ~/.netrc may have credentials. `form` is what a POST sends; since it holds a secret, no redirect is
        followed then. `data` is any other body; one that is streamed is there once, so no redirect is followed with it
        either. What it raises passes, but for OSErrors. file:// knows GET only and answers 200, or 206 where a
        ``Range: bytes=FIRST-LAST`` of it is asked for, or fails.

        Errors: OfflineError, `Retryable`, and FetchError for what trying again does not help.
        """
        scheme = split(url).scheme
        if scheme == "file":
            with _open_file(url, headers or {}) as answer:
                yield answer
        elif scheme not in ("http", "https"):
            raise FetchError(f"expected an http, https or file url, got {f'{scheme}:' if scheme else 'no scheme'}")
        elif self._offline:
            raise OfflineError("the network is needed, and LARDER_OFFLINE is set", hint="unset LARDER_OFFLINE")
        else:
            self._session = self._session or _new_session()
            timeouts = self._timeouts or (CONNECT_TIMEOUT, READ_TIMEOUT)
            if not isinstance(data, bytes | None):
                # urllib3 sends each piece within the time that it has for the connection.
                timeouts = (timeouts[1], timeouts[1])
            request = _Request(method, url, headers or {}, form, data, timeouts)
            with _open_http(self._session, request, accept) as answer:
                yield answer


class Opener(Protocol):
    """What downloads ask for the bytes of a url: a `Client`, or what knows how to ask one."""

    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, accept: Collection[int] = (HTTPStatus.OK,)
    ) -> AbstractContextManager[Answer]:
        """GET `url` and hand out the answer, whose status is one of `accept`; see `Client.open`."""


class _Request(NamedTuple):
    method: Method
    url: str
    headers: Mapping[str, str]
    form: Mapping[str, str] | None
    data: Body | None
    timeouts: tuple[float, float]


def _new_session() -> requests.Session:
    import requests

    from .pace import Adapter

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    session.max_redirects = MAX_REDIRECTS
    session.headers.update(
        {
            "User-Agent": f"larder/{__version__}",
            "Accept": "*/*",
            # Compression in transit would hide the bytes that the digest is of.
            "Accept-Encoding": "identity",
            # There is seldom a second request to one host, and urllib3 2 closes idle connections only when its pool
            # is garbage, which errors that still refer to it delay.
            "Connection": "close",
        }
    )
    session.hooks["response"].append(_check_redirect)
    return session


def _check_redirect(response: requests.Response, *_: object, **__: object) -> None:
    if not response.is_redirect:
        return
    # requests reads the body of a redirect to its end before it goes on; that may be without end.
    response.raw.close()
    target = join(response.url, response.headers["Location"])
    allowed = ("https",) if split(response.url).scheme == "https" else ("http", "https")
    if split(target).scheme not in allowed:
        raise FetchError(f"refused to follow a redirect to {shown(target)!r}: only {' or '.join(allowed)} is expected")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the Authorization of a request alone; requests would replace it by what ~/.netrc has."""
    return request


@contextmanager
def _open_http(session: requests.Session, request: _Request, accept: Collection[int]) -> Iterator[Answer]:
    with translated(request.url, request.timeouts):
        response = session.request(
            request.method,
            request.url,
            headers=dict(request.headers),
            data=request.data if request.form is None else request.form,
            auth=_as_it_is if "Authorization" in request.headers else None,
            allow_redirects=request.form is None and isinstance(request.data, bytes | None),
            stream=True,
            timeout=request.timeouts,
        )
    for each in (*response.history, response):
        answered(each.url)
    redirected = redirection(request.url, response.url)

    def read() -> bytes:
        with translated(request.url, request.timeouts, answering=response.url):
            # Not stream(): it holds bytes back until a chunk is full, and drops them when the connection is cut.
            data: bytes = response.raw.read1(READ_SIZE, decode_content=False)
        return data

    with response, blaming(redirected):
        if response.status_code not in accept:
            raise _refused(response, redirected)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise FetchError(
                f"the answer has Content-Encoding {encoding!r}, though identity was asked for",
                hint="the server compresses what it should serve as it is; use another url or mirror",
            )
        length = _length(response.headers)
        yield Answer(response.url, response.status_code, response.headers, length, read, redirected)


def _refused(response: requests.Response, redirected: str | None) -> FetchError:
    """Return the error for an answer whose status is of no use."""
    error = refusal(response.status_code, response.headers, login=login_of(response.request))
    # 451 and the like say that no other server will do.
    if redirected and response.status_code in OF_ONE_MIRROR:
        error = Elsewhere(error.message, hint=error.hint)
    error.redirected = redirected
    return error


@contextmanager
def _open_file(url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
    parts = split(url)
    if parts.netloc not in ("", "localhost"):
        raise FetchError(
            f"a file url names a file of this machine, and this one names the host {parts.hostname}",
            hint="write file:///absolute/path",
        )
    path = Path(url2pathname(parts.path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            if path.is_dir():
                raise FetchError(
                    "expected a file, found a folder",
                    hint='an image layout in a folder is kind = "oci", and its url ends with a slash',
                )
            raise FetchError("not a regular file")
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as error:
        raise FetchError(cause_of(error)) from error

    with file:
        size = os.fstat(file.fileno()).st_size
        status, found, start, stop = HTTPStatus.OK, {}, 0, size
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range", ""))
        if span and int(span[1]) < size:
            start, stop = int(span[1]), min(int(span[2]) + 1, size)
            status, found = HTTPStatus.PARTIAL_CONTENT, {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        file.seek(start)

        def read() -> bytes:
            try:
                return file.read(min(READ_SIZE, stop - file.tell()))
            except OSError as error:
                raise FetchError(cause_of(error)) from error

        yield Answer(url, status, found, stop - start, read)


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    # RFC 9112, 6.3: Transfer-Encoding overrides Content-Length.
    return int(text) if re.fullmatch("[0-9]{1,18}", text) and "Transfer-Encoding" not in headers else None
