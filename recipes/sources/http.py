"""HTTP, HTTPS and file:// with one policy: what is asked for, what is refused, what may be tried again.

The messages of errors that are raised in here name neither a label nor the url: `retry.first_of`, which knows both,
adds them.
"""

from __future__ import annotations

import email.utils
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import BadStatusLine, IncompleteRead
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self, TypeAlias
from urllib.request import url2pathname

from recipes import __version__
from recipes.errors import FetchError, OfflineError
from recipes.formats.io.text import HTML
from recipes.redact import shown

from .retry import Elsewhere, Retryable, Unreachable
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

#: Redirects followed for one request; a redirector, a mirror and a trailing slash take three.
MAX_REDIRECTS = 10

#: Most bytes taken from the connection at once. It hands over what is there, so this only bounds a buffer.
READ_SIZE = 256 * 1024

_HTML_HEAD = 512
_PROXY_LOGIN = "http_proxy and https_proxy take them: http://USER:PASSWORD@HOST:PORT"
_TRANSIENT = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


#: What a mirror says that has not, or not any more, what its redirector believes.
_OF_ONE_MIRROR = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


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

    def body(self) -> Iterator[bytes]:
        """Yield the body's bytes as they arrive, in pieces of any length.

        Errors: FetchError for an empty body and for an HTML page, whatever the header calls it (a login or an error
        page, served with status 200); `Retryable` for a body that ends before its announced length.
        """
        received = 0
        for piece in self._vetted() if self.status == HTTPStatus.OK else iter(self._read, b""):
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
    with _translated(request.url, request.timeouts):
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
    with response:
        if response.status_code not in accept:
            raise _refused(response, request.url)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise FetchError(
                f"the answer has Content-Encoding {encoding!r}, though identity was asked for",
                hint="the server compresses what it should serve as it is; use another url or mirror",
            )

        def read() -> bytes:
            with _translated(response.url, request.timeouts):
                # Not stream(): it holds bytes back until a chunk is full, and drops them when the connection is cut.
                data: bytes = response.raw.read1(READ_SIZE, decode_content=False)
            return data

        yield Answer(response.url, response.status_code, response.headers, _length(response.headers), read)


def _refused(response: requests.Response, url: str) -> FetchError:
    """Return the error for an answer that is of no use, with the url that it came from after redirects."""
    error = refusal(response.status_code, response.headers)
    if not answered_elsewhere(url, response.url):
        return error
    message = f"{error.message}, from {shown(response.url)}"
    if isinstance(error, Retryable):
        return Retryable(message, retry_after=error.retry_after, hint=error.hint)
    # 451 and the like say that no other server will do.
    if response.status_code in _OF_ONE_MIRROR:
        return Elsewhere(message, hint=error.hint)
    return FetchError(message, hint=error.hint)


def answered_elsewhere(asked: str, answered: str) -> bool:
    """Say whether a redirect led from `asked`, a url of http or https, to another host."""
    before, after = split(asked), split(answered)
    return before.scheme.startswith("http") and (before.hostname, before.port) != (after.hostname, after.port)


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
        raise FetchError(_cause(error)) from error

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
                raise FetchError(_cause(error)) from error

        yield Answer(url, status, found, stop - start, read)


@contextmanager
def _translated(url: str, timeouts: tuple[float, float]) -> Iterator[None]:
    """Turn what requests and urllib3 raise about `url` into our errors. Reading `raw` raises urllib3's own."""
    import requests
    import urllib3

    connect, read = timeouts
    permanent = (
        requests.TooManyRedirects,
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.InvalidHeader,
        urllib3.exceptions.LocationValueError,
    )
    try:
        yield
    except requests.exceptions.ProxyError as error:
        raise _proxy_failed(url, _cause(error)) from error
    except requests.ConnectTimeout as error:
        raise Unreachable(f"no connection within {connect:g} s") from error
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise Retryable(f"nothing arrived for {read:g} s") from error
    except requests.TooManyRedirects as error:
        raise FetchError(f"more than {MAX_REDIRECTS} redirects") from error
    except permanent as error:
        cause = shown(_cause(error))
        if "SOCKS" in cause:
            raise FetchError(
                f"the proxy {_proxy_of(url)} is a SOCKS proxy, and the module for it is missing",
                hint="pip install 'requests[socks]'",
            ) from error
        raise FetchError(cause) from error
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise FetchError(
                f"the server's certificate was refused: {_cause(error)}",
                hint="behind a company's proxy, REQUESTS_CA_BUNDLE names the file with its certificate",
            ) from error
        raise Retryable(_cause(error)) from error
    except requests.ConnectionError as error:
        raise (Unreachable if _is_unconnected(error) else Retryable)(_cause(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Retryable(_cause(error)) from error
    except ValueError as error:
        # What urllib.parse and the idna codec raise for the target of a redirect.
        raise FetchError(f"not a url: {_cause(error)}") from error


def _is_unconnected(error: BaseException) -> bool:
    """Say whether it is for want of a connection, and not one that broke, that something failed."""
    import urllib3

    causes: list[BaseException] = [error]
    while causes:
        each = causes.pop()
        if isinstance(each, urllib3.exceptions.NewConnectionError):
            return True
        inner = (getattr(each, "reason", None), *each.args)
        causes += [one for one in inner if isinstance(one, BaseException)]
    return False


def _proxy_of(url: str) -> str:
    """Return the proxy that requests would ask for `url`, as people may see it."""
    from requests.utils import get_environ_proxies, select_proxy

    return shown(select_proxy(url, get_environ_proxies(url)) or "of the environment")


def _proxy_failed(url: str, cause: str) -> FetchError:
    proxy = _proxy_of(url)
    if "407" in cause:
        return FetchError(f"the proxy {proxy} wants credentials: {cause}", hint=_PROXY_LOGIN)
    return Retryable(f"the proxy {proxy}: {cause}", hint="http_proxy and https_proxy name it, no_proxy exempts hosts")


def _cause(error: BaseException) -> str:
    """Return what happened, from the innermost of the errors that are wrapped in each other."""
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), error.__cause__)
        if inner is None:
            break
        error = inner
    if isinstance(error, IncompleteRead):
        return "the connection was cut"
    if isinstance(error, BadStatusLine) and not isinstance(error, ConnectionError):
        return f"expected an answer in HTTP, got {str(error)[:80]!r}"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def refusal(status: int, headers: Mapping[str, str], *, said: str = "", hint: str | None = None) -> FetchError:
    """Return the error for an answer with a `status` that is of no use; `said` is the reason that the server gives."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "(not a registered status)"
    message = f"{status} {phrase}" + (f": {said}" if said else "")
    if status in _TRANSIENT:
        return Retryable(message, retry_after=_retry_after(headers), hint=hint)
    if hint is None and status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        hint = _PROXY_LOGIN
    if hint is None and status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        hint = "credentials are taken from ~/.netrc (or the file that NETRC names)"
    return FetchError(message, hint=hint)


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    # RFC 9112, 6.3: Transfer-Encoding overrides Content-Length.
    return int(text) if re.fullmatch("[0-9]{1,18}", text) and "Transfer-Encoding" not in headers else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After (RFC 9110, 10.2.3): a number of them, or a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
