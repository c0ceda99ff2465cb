"""Downloads: to a part, hashed as they arrive, resumed after a cut, verified before anybody else sees them."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import DigestMismatch, FetchError, NoSpace
from recipes.formats.io.context import Context
from recipes.units import format_size

from .http import Client, html_page
from .part import Origin, Part
from .retry import Elsewhere, Retryable, first_of
from .urls import with_mirrors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recipes.formats.io.arrival import Arrival
    from recipes.model import Digest
    from recipes.progress import Meter

    from .access import Access
    from .http import Answer, Opener

#: Bytes that a body of unknown length leaves free. It may have no end, and others live on the same file system.
RESERVE = 256 << 20


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What arrived."""

    #: The url that served it, without credentials.
    url: str
    size: int
    etag: str | None
    last_modified: str | None
    content_type: str | None


class Wanted(NamedTuple):
    """The bytes that are to be downloaded."""

    digest: Digest
    #: How many they are, where that is declared.
    size: int | None = None


def download(
    urls: Sequence[str],
    part: Path,
    access: Access,
    *,
    wanted: Wanted,
    label: str,
    arrival: Arrival | None = None,
) -> Downloaded:
    """Download the `wanted` bytes from the first of `urls` (http, https, file) that serves them to `part`.

    A mirror of a url goes before it. An `arrival` is told how far they are.

    On success they are verified and on the disk. Otherwise `part` and its sidecar are left for the next call to resume,
    except where the bytes are known to be wrong. `part` must be this caller's alone; its folder exists. A server that
    announces another size than the wanted one is refused before the body.

    Errors: FetchError, with every url's failure; DigestMismatch; OfflineError; NoSpace.
    """
    context = Context(access.progress, label)
    size = wanted.size
    with (
        Client(offline=access.offline) as client,
        Part(part, wanted.digest, arrival) as kept,
        context.meter(size) as meter,
    ):
        url = receive(client, kept, with_mirrors(urls, access.mirrors), context, size=size, meter=meter)
        # Nothing is known any more of the answer that bytes came with which were all there.
        origin = kept.origin or Origin.of(url, kept.position, {})
        return Downloaded(origin.url, kept.position, origin.etag, origin.last_modified, origin.content_type)


def receive(
    opener: Opener,
    part: Part,
    urls: Sequence[str],
    context: Context,
    *,
    size: int | None,
    meter: Meter,
) -> str:
    """Fill `part` from the first of `urls` that `opener` gets its bytes from; return that url.

    What is there of the part is restored first. The rest is as for `download`.
    """
    transfer = _Transfer(opener, part, size, meter, context)
    part.restore(transfer.advance)
    return first_of(
        urls,
        transfer.attempt,
        label=context.label,
        progress=context.progress,
        tick=lambda: meter.advance(0),
        reached=lambda: part.position,
    )


def require_room(folder: Path, size: int, label: str) -> None:
    """Raise NoSpace where less than `size` bytes are left in `folder`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise NoSpace(
            f"{label}: {format_size(size)} ({size} bytes) left to download, and "
            f"{folder} has {format_size(free)} ({free} bytes) free",
            hint="free some space, or move the cache with LARDER_CACHE",
        )


class _Transfer:
    """The attempts to fill one part."""

    def __init__(self, opener: Opener, part: Part, size: int | None, meter: Meter, context: Context) -> None:
        self._opener = opener
        self._part = part
        self._size = size
        self._meter = meter
        self._progress = context.progress
        self._label = context.label
        self._metered = 0
        #: Where a redirect led to, on another host, for the last answer.
        self._redirected: str | None = None
        #: The urls that have had their second chance after a mismatch.
        self._restarted: set[str] = set()

    @property
    def _expected(self) -> int | None:
        """Return the bytes of the whole: as declared, else as announced, else None."""
        return self._size if self._size is not None or self._part.origin is None else self._part.origin.size

    def advance(self, count: int) -> None:
        """Tell the meter."""
        self._metered += count
        self._meter.advance(count)

    def attempt(self, url: str) -> str:
        """Make one attempt with `url`, and return it; `Retryable` where another may come further."""
        part = self._part
        # A connection, or an earlier process, may have ended after the last byte of a body without a length.
        if not part.complete:
            self._receive(url)
        if not part.complete and part.pieced and url not in self._restarted:
            # Validators promise that the pieces belong together; servers have broken that promise.
            self._restarted.add(url)
            self._progress.note(f"{self._label}: the resumed download has the wrong digest; starting over")
            part.clear()
            self._receive(url)
        if not part.complete:
            found = f"{part.position} bytes with the wrong digest: expected {part.digest}, got {part.actual}"
            part.clear()
            mismatch = DigestMismatch(
                found, hint="upstream replaced the file, or it was altered on the way; nothing of it was kept"
            )
            mismatch.redirected = self._redirected
            if self._redirected:
                # An old copy: the redirector may send us to a better one.
                old = Elsewhere(mismatch.message, hint=mismatch.hint)
                old.redirected = self._redirected
                raise old from mismatch
            raise mismatch
        part.finish()
        return url

    def _receive(self, url: str) -> None:
        """Add what `url` serves to the part, or start the part over with it."""
        part = self._part
        headers = part.continuation(url)
        accept = [HTTPStatus.OK]
        if headers:
            accept += [HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE]
        with self._opener.open(url, headers, accept=accept) as answer:
            self._redirected = answer.redirected
            if answer.status == HTTPStatus.OK:
                self._begin(url, answer)
                self._fill(answer)
                return
            if answer.status == HTTPStatus.PARTIAL_CONTENT and self._continues(answer):
                part.pieced = True
                self._require_room((self._expected or 0) - part.position)
                self._fill(answer)
                return
            part.clear()
        self._receive(url)

    def _begin(self, url: str, answer: Answer) -> None:
        """Start the part over with this answer, if it can be what was asked for."""
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise html_page()
        if self._size is not None and answer.length not in (None, self._size):
            raise FetchError(f"expected {self._size} bytes, the server announces {answer.length}")
        self._require_room((self._size or answer.length or 0) - self._part.allocated)
        self._part.begin(Origin.of(url, answer.length, answer.headers))
        self.advance(-self._metered)

    def _continues(self, answer: Answer) -> bool:
        """Say whether this answer to a ranged request goes on where the part ends, in the same bytes."""
        span = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]+|\*)", answer.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != self._part.position:
            return False
        if self._expected and span[2] not in ("*", str(self._expected)):
            return False
        return self._part.agrees(answer.headers)

    def _fill(self, answer: Answer) -> None:
        """Write the answer's body to the part."""
        part = self._part
        size = self._expected
        self._meter.expect(size)
        bound = part.position + self._free() - RESERVE if size is None else size
        try:
            for piece in answer.body():
                if part.position + len(piece) > bound:
                    raise self._too_long(size)
                part.write(piece)
                self.advance(len(piece))
            if size is not None and part.position < size:
                raise Retryable("the answer ended")
        except Retryable as error:
            of = "" if size is None else f" of {size}"
            raise Retryable(f"{error.message} after {part.position}{of} bytes") from error
        except FetchError:
            part.clear()
            raise

    def _too_long(self, size: int | None) -> FetchError | NoSpace:
        if size is not None:
            return FetchError(f"the answer goes on after {size} bytes, the size that was expected")
        # Kept, it would leave the file system full, and nothing says that the body has an end.
        position = self._part.position
        self._part.clear()
        return NoSpace(
            f"{self._label}: the server announces no length, and after {format_size(position)} there was "
            f"{format_size(RESERVE)} left in {self._part.path.parent}; nothing was kept",
            hint="declare the size, so that it is known beforehand whether it fits",
        )

    def _require_room(self, size: int) -> None:
        require_room(self._part.path.parent, size, self._label)

    def _free(self) -> int:
        return shutil.disk_usage(self._part.path.parent).free
