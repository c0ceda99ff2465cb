"""A download whose digest nobody knows beforehand: what comes the first time is what is trusted from then on."""

from __future__ import annotations

import hashlib
import shutil
from http import HTTPStatus
from typing import TYPE_CHECKING

from recipes.errors import NoSpace
from recipes.formats.io import files
from recipes.model import Digest
from recipes.units import format_size

from .download import RESERVE, require_room
from .http import Client, html_page
from .retry import Retryable, first_of
from .urls import with_mirrors

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.progress import Meter

    from .access import Access
    from .http import Answer


def take(url: str, path: Path, access: Access, *, label: str) -> tuple[Digest, int]:
    """Download what is at `url` to `path`; return its SHA-256 and how many bytes it has.

    An attempt that is cut off starts over: without a digest nothing says that two pieces belong together. After an
    error nothing is at `path`. Errors: FetchError; OfflineError; NoSpace.
    """

    def attempt(url: str) -> tuple[Digest, int]:
        with client.open(url, accept=(HTTPStatus.OK,)) as answer:
            return _received(answer, path, meter, label)

    with Client(offline=access.offline) as client, access.progress.meter(label) as meter:
        urls = with_mirrors((url,), access.mirrors)
        try:
            return first_of(urls, attempt, label=label, progress=access.progress, tick=lambda: meter.advance(0))
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _received(answer: Answer, path: Path, meter: Meter, label: str) -> tuple[Digest, int]:
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise html_page()
    require_room(path.parent, answer.length or 0, label)
    meter.expect(answer.length)
    digest, size = hashlib.sha256(), 0
    bound = answer.length if answer.length is not None else shutil.disk_usage(path.parent).free - RESERVE
    try:
        with files.os_errors(path), path.open("wb") as file:
            for piece in answer.body():
                size += len(piece)
                if size > bound:
                    limit = f"{format_size(bound)}, {'announced' if answer.length is not None else 'the room for it'}"
                    raise NoSpace(f"{label}: the server sends more than {limit}")
                file.write(piece)
                digest.update(piece)
                meter.advance(len(piece))
    except Retryable:
        meter.advance(-size)
        raise
    return Digest("sha256", digest.hexdigest()), size
