"""What a pinned source would be pinned to today."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from recipes.progress import SILENCE
from recipes.sources.http import Client
from recipes.sources.resolve import served
from recipes.sources.retry import first_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recipes.model import Source
    from recipes.sources.checksums import ChecksumList


def repinned(source: Source, checksums: ChecksumList) -> Source:
    """Return the pinned `source` as its list wants it now; equal to `source` where the list lists the same bytes.

    Only what is declared is replaced: `size` becomes None where the bytes are new and the list does not tell theirs.
    Errors are those of `served`.
    """
    identity = served(source, checksums)
    if identity.digest == source.digest:
        # Where the same bytes are as well is no reason to move.
        known = source.size is not None and identity.size is not None
        return replace(source, size=identity.size) if known else source
    return replace(
        source,
        urls=identity.urls,
        digest=identity.digest,
        size=identity.size if source.size is not None else None,
    )


def announced(urls: Sequence[str], *, label: str) -> int | None:
    """Return the bytes that the first of `urls` that serves anything announces, None where it announces no length.

    A GET whose body is left alone, since servers answer HEAD differently. Errors: FetchError where none serves it.
    """
    with Client(offline=False) as client:

        def attempt(url: str) -> int | None:
            with client.open(url) as answer:
                return answer.length

        return first_of(urls, attempt, label=label, progress=SILENCE, tick=lambda: None)
