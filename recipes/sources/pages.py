"""Small documents: checksum lists and signatures, fetched whole and only when they changed."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from recipes.errors import FetchError
from recipes.progress import SILENCE
from recipes.redact import shown

from .http import Client
from .retry import first_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recipes.progress import Progress

    from .http import Answer

#: Most bytes of a `Page`: the longest checksum lists and stream metadata have a tenth of it.
MAX_PAGE = 16 << 20


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells later whether a url still serves the same: to be kept beside the bytes and handed to `get` again."""

    #: The url that they came from, without credentials. They mean nothing to another one.
    url: str
    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, url: str, answer: Answer) -> Self:
        """Take the validators from an answer."""
        return cls(shown(url), answer.headers.get("ETag"), answer.headers.get("Last-Modified"))


@dataclass(frozen=True, slots=True)
class Page:
    """A small document."""

    content: bytes
    validators: Validators


@dataclass(frozen=True, slots=True)
class NotModified:
    """The document is still the one that the validators came with."""

    url: str


def get(
    urls: Sequence[str],
    *,
    label: str,
    offline: bool,
    validators: Validators | None = None,
    past_caches: bool = False,
    progress: Progress = SILENCE,
) -> Page | NotModified:
    """Fetch a small document, at most `MAX_PAGE` bytes, from the first of `urls` that serves it.

    `validators` make the request to the url that they came from conditional (RFC 9110, 13.1.2 and 13.1.3). A file://
    url has none and is read each time. `past_caches` asks those in between to ask the server
    (RFC 9111, 5.2.1.4). Errors: FetchError, OfflineError.
    """

    def attempt(url: str) -> Page | NotModified:
        headers = _conditions(validators) if validators and validators.url == shown(url) else {}
        accept = (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED) if headers else (HTTPStatus.OK,)
        if past_caches and url.startswith("http"):
            headers["Cache-Control"] = "no-cache"
        with client.open(url, headers, accept=accept) as answer:
            if answer.status == HTTPStatus.NOT_MODIFIED:
                return NotModified(shown(url))
            content = bytearray()
            for piece in answer.body():
                content += piece
                meter.advance(len(piece))
                if len(content) > MAX_PAGE:
                    raise FetchError(f"the answer is longer than {MAX_PAGE} bytes, the limit for such a document")
            return Page(bytes(content), Validators.of(url, answer))

    with Client(offline=offline) as client, progress.meter(label) as meter:
        return first_of(urls, attempt, label=label, progress=progress, tick=lambda: meter.advance(0))


def _conditions(validators: Validators) -> dict[str, str]:
    pairs = (("If-None-Match", validators.etag), ("If-Modified-Since", validators.last_modified))
    return {name: value for name, value in pairs if value}
