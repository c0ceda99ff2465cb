"""A look into a wrapper that is somewhere else: its size, and some of its bytes, for the price of a few requests.

A GET of the first bytes tells the size as well, so there is no HEAD before it, which some servers answer differently.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import FetchError
from recipes.progress import SILENCE

from .http import Client
from .retry import first_of, once

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bytes asked for at once, at the least: what a round trip costs anyway, and more than `claims.HEAD` (formats/wrapper).
WINDOW = 136 << 10

#: Most requests for one wrapper. The index of an XZ file takes one or two; a chain of a hundred streams is given up.
MAX_REQUESTS = 16


class _Window(NamedTuple):
    """What one request brought: the url that served it, the bytes of the whole, and those from `offset` on."""

    url: str
    size: int
    offset: int
    data: bytes


class Peek:
    """What the first of `urls` (http, https, file) serves, read here and there; for one thread. Each is asked once.

    Errors, here and in `pread`, begin with `label`: FetchError, with every url's failure; OfflineError.
    """

    def __init__(self, urls: Sequence[str], *, label: str, offline: bool) -> None:
        self._label = label
        self._offline = offline
        first = self._ask(urls, 0, WINDOW)
        self._url = first.url
        self._windows = [first]
        #: Bytes of the wrapper.
        self.size = first.size

    def pread(self, offset: int, count: int) -> bytes:
        """Return `count` bytes at `offset`, fewer at the end."""
        count = max(0, min(count, self.size - offset))
        for window in self._windows:
            at = offset - window.offset
            if at >= 0 and at + count <= len(window.data):
                return window.data[at : at + count]
        if len(self._windows) == MAX_REQUESTS:
            raise FetchError(f"{self._label}: more than {MAX_REQUESTS} requests would be needed to look into it")
        # Near the end, what comes before is asked for next.
        start = min(offset, max(0, self.size - WINDOW))
        window = self._ask((self._url,), start, max(WINDOW, offset + count - start))
        if window.size != self.size or len(window.data) < offset + count - start:
            raise FetchError(f"{self._label}: upstream replaced the file while it was looked at")
        self._windows.append(window)
        return window.data[offset - start : offset - start + count]

    def _ask(self, urls: Sequence[str], offset: int, count: int) -> _Window:
        def attempt(url: str) -> _Window:
            return self._get(url, offset, count)

        return first_of(urls, once(attempt), label=self._label, progress=SILENCE, tick=lambda: None)

    def _get(self, url: str, offset: int, count: int) -> _Window:
        headers = {"Range": f"bytes={offset}-{offset + count - 1}"}
        accept = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
        # A client for each: we ask servers to close, and one that does so without a word would fail the next request.
        with Client(offline=self._offline) as client, client.open(url, headers, accept=accept) as answer:
            size = answer.length
            if answer.status == HTTPStatus.PARTIAL_CONTENT:
                span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
                if span is None or int(span[1]) != offset:
                    raise FetchError("the server answers with another range than the one that was asked for")
                size = int(span[2])
            elif offset:
                raise FetchError("the server sends nothing but whole files")
            if size is None:
                raise FetchError("the server does not announce the size")
            data = bytearray()
            for piece in answer.body():
                data += piece
                if len(data) >= count:
                    break
            return _Window(url, size, offset, bytes(data[:count]))
