"""How asking over HTTP fails: what requests and urllib3 raise, and statuses that are of no use, as errors of ours."""

from __future__ import annotations

import email.utils
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import BadStatusLine, IncompleteRead
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.errors import FetchError
from recipes.redact import shown

from .retry import Elsewhere, Retryable, Unreachable, Unresolved
from .urls import split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests
    import urllib3

#: Redirects followed for one request; a redirector, a mirror and a trailing slash take three.
MAX_REDIRECTS = 10

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
OF_ONE_MIRROR = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def redirection(asked: str, answered: str) -> str | None:
    """Return `answered`, the url that answers for `asked`, where a redirect led to it on another host; else None.

    >>> redirection("https://example.org/disk.img", "https://mirror.test/disk.img")
    'https://mirror.test/disk.img'
    >>> redirection("https://example.org/disk.img", "https://example.org/old/disk.img")
    """
    before, after = split(asked), split(answered)
    return None if (before.hostname, before.port) == (after.hostname, after.port) else answered


@contextmanager
def blaming(redirected: str | None) -> Iterator[None]:
    """Say of what fails that `redirected`, the url that a redirect led to on another host, is what failed.

    What trying again does not help here may be better at the next server that the redirector chooses: it becomes an
    `Elsewhere`.
    """
    try:
        yield
    except FetchError as error:
        if redirected is None or error.redirected is not None:
            raise
        error.redirected = redirected
        if type(error) is not FetchError:
            raise
        found = Elsewhere(error.message, hint=error.hint)
        found.redirected = redirected
        raise found from error


@contextmanager
def translated(url: str, timeouts: tuple[float, float], *, answering: str | None = None) -> Iterator[None]:
    """Turn what requests and urllib3 raise about `url` into our errors.

    `answering` is the url that answers, where it is known; before that, requests knows which it could not ask.
    """
    import requests
    import urllib3

    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        failed = answering or getattr(getattr(error, "request", None), "url", None) or url
        found = _translation(error, failed, timeouts)
        found.redirected = redirection(url, failed)
        raise found from error
    except ValueError as error:
        # What urllib.parse and the idna codec raise for the target of a redirect.
        raise FetchError(f"not a url: {cause_of(error)}") from error


def _translation(
    error: requests.RequestException | urllib3.exceptions.HTTPError, url: str, timeouts: tuple[float, float]
) -> FetchError:
    """Return our error for `error`, which asking `url` met. Reading `raw` of a response raises urllib3's own."""
    import requests
    import urllib3

    connect, read = timeouts
    said = cause_of(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return _proxy_failed(url, said)
    if isinstance(error, requests.ConnectTimeout):
        return Unreachable(f"no connection within {connect:g} s")
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return Retryable(f"nothing arrived for {read:g} s")
    if isinstance(error, requests.TooManyRedirects):
        return FetchError(f"more than {MAX_REDIRECTS} redirects")
    permanent = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.InvalidHeader,
        urllib3.exceptions.LocationValueError,
    )
    if isinstance(error, permanent):
        if "SOCKS" in said:
            return FetchError(
                f"the proxy {_proxy_of(url)} is a SOCKS proxy, and the module for it is missing",
                hint="pip install 'requests[socks]'",
            )
        return FetchError(shown(said))
    if isinstance(error, requests.exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return FetchError(
                f"the server's certificate was refused: {said}",
                hint="behind a company's proxy, REQUESTS_CA_BUNDLE names the file with its certificate",
            )
        return Retryable(said)
    if isinstance(error, requests.ConnectionError) and _has(error, urllib3.exceptions.NameResolutionError):
        return Unresolved(
            f"the name of the host cannot be resolved: {said}",
            hint="is there a network? `larder raw:demo` needs none, and LARDER_OFFLINE=1 takes what is in the cache",
        )
    if isinstance(error, requests.ConnectionError) and _has(error, urllib3.exceptions.NewConnectionError):
        return Unreachable(said)
    return Retryable(said)


def _has(error: BaseException, kind: type[BaseException]) -> bool:
    """Say whether an error of `kind` is what `error` comes of."""
    causes: list[BaseException] = [error]
    while causes:
        each = causes.pop()
        if isinstance(each, kind):
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


def cause_of(error: BaseException) -> str:
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


def refusal(
    status: int, headers: Mapping[str, str], *, said: str = "", hint: str | None = None, login: str | None = None
) -> FetchError:
    """Return the error for an answer with a `status` that is of no use; `said` is the reason that the server gives.

    `login` says where the login is stored that was sent; the hint is about it, where there is no other `hint`.
    """
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
        if login:
            hint = f"the login in {login} was refused; {hint}"
    return FetchError(message, hint=hint)


def login_of(request: requests.PreparedRequest) -> str | None:
    """Return where the credentials of `request`, for which no Authorization was given, are from; None for none."""
    if "Authorization" not in request.headers:
        return None
    from requests.utils import NETRC_FILES, get_netrc_auth

    if not get_netrc_auth(request.url or ""):
        return "the url"
    named = os.environ.get("NETRC")
    found = [Path(each).expanduser() for each in ([named] if named else [f"~/{name}" for name in NETRC_FILES])]
    return str(next((path for path in found if path.exists()), found[0]))


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
