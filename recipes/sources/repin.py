"""What a pinned source would be pinned to today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.progress import SILENCE
from recipes.reference import SCHEME, Reference

from .disks import chosen
from .http import Client
from .manifests import Named
from .resolve import served
from .retry import first_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recipes.model import Arch, Source

    from .lists import Listing


def repinned(source: Source, arch: Arch, found: Listing, *, is_disk: bool = False) -> Source:
    """Return the pinned `source` as its list or tag wants it now; equal to `source` where that has the same bytes.

    Only what is declared is replaced: `size` becomes None where the bytes are new and the list does not tell theirs. A
    pin in a registry becomes the digest that the tag has for all architectures, as docker and skopeo show it. Errors
    are those of `served`; UnsupportedFeature where the tag has nothing for `arch` any more.
    """
    if isinstance(found, Named):
        return _repinned(source, arch, found, is_disk=is_disk)
    identity = served(source, found)
    if identity.digest == source.digest:
        # Where the same bytes are as well is no reason to move.
        known = source.size is not None and identity.size is not None
        return source._replace(size=identity.size) if known else source
    return source._replace(
        urls=identity.urls,
        digest=identity.digest,
        size=identity.size if source.size is not None else None,
    )


def _repinned(source: Source, arch: Arch, named: Named, *, is_disk: bool) -> Source:
    assert source.digest is not None, "only a pinned source is re-pinned"
    if is_disk:
        chosen(named, arch, source.disktype, source.urls[0])
    else:
        named.digest_for(arch, source.urls[0])
    if named.has(source.digest):
        return source
    # A pin that is not in the url is in `digest`.
    urls = tuple(
        f"{url.rpartition('@')[0]}@{named.digest}" if url.startswith(SCHEME) and Reference.parse(url).digest else url
        for url in source.urls
    )
    return source._replace(urls=urls, digest=named.digest)


def announced(urls: Sequence[str], *, label: str) -> int | None:
    """Return the bytes that the first of `urls` that serves anything announces, None where it announces no length.

    A GET whose body is left alone, since servers answer HEAD differently. Errors: FetchError where none serves it.
    """
    with Client(offline=False) as client:

        def attempt(url: str) -> int | None:
            with client.open(url) as answer:
                return answer.length

        return first_of(urls, attempt, label=label, progress=SILENCE, tick=lambda: None)
