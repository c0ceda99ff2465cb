"""How slow, and how wordy, a server may be: what ends an answer that would otherwise go on for ever.

The read timeout ends a stall. It does not end a header, a chunk's extension or a body that arrives byte by byte, each
just in time, nor interim answers (RFC 9110, 15.2) and trailers that never end; and who waits for one server never asks
the next. So what arrives is watched where it arrives, below http.client, which has no limit for any of them.
"""

from __future__ import annotations

import io
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from .retry import SLOWEST

if TYPE_CHECKING:
    import socket

#: Most bytes of headers, interim answers, chunk extensions or trailers, at a stretch.
MAX_OVERHEAD = 1 << 20


class _Watched(io.RawIOBase):
    """The bytes of a socket, as they arrive; raises OSError where they come too slowly or lead to nothing."""

    def __init__(self, source: io.RawIOBase, window: float | None) -> None:
        self._source = source
        self._window = window
        self._waited = 0.0
        self._arrived = 0
        #: Bytes that arrived since somebody last got any out of them.
        self.unheard = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read as RawIOBase does."""
        began = time.monotonic()
        count = self._source.readinto(buffer)
        # Only waiting counts: what we take our time for is not the server's fault.
        self._waited += time.monotonic() - began
        self._arrived += count or 0
        self.unheard += count or 0
        if self.unheard > MAX_OVERHEAD:
            raise OSError(f"more than {MAX_OVERHEAD} bytes of headers, or between the bytes of the body")
        if count and self._window and self._waited >= self._window:
            if self._arrived < SLOWEST * self._window:
                raise OSError(f"fewer than {SLOWEST} bytes/s for {self._window:g} s")
            self._waited, self._arrived = 0.0, 0
        return count

    def close(self) -> None:
        """Close the source too."""
        self._source.close()
        super().close()


class _Response(HTTPResponse):
    """An answer that is watched."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        # The read timeout; the buffer is empty so far.
        self._watched = _Watched(self.fp.detach(), sock.gettimeout())
        self.fp = io.BufferedReader(self._watched)

    def read1(self, n: int = -1) -> bytes:
        """Read what is there of the body, as HTTPResponse does."""
        self._watched.unheard = 0
        return super().read1(n)


class _Plain(HTTPConnection):
    response_class = _Response


class _Secure(HTTPSConnection):
    response_class = _Response


class Adapter(HTTPAdapter):
    """The adapter of requests whose answers are watched; through proxies as well."""

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> Any:
        """Return the pool of connections for a request."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **named)
        pool.ConnectionCls = _Secure if issubclass(pool.ConnectionCls, HTTPSConnection) else _Plain
        return pool
