"""Urls: how they are read and shown, and where else the same bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from recipes.errors import FetchError
from recipes.redact import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def split(url: str) -> SplitResult:
    """Return the parts of `url`, whose host and port can be asked for; raise FetchError where it is no url."""
    try:
        parts = urlsplit(url)
        _ = parts.hostname, parts.port
    except ValueError as error:
        raise FetchError(f"{shown(url)!r} is not a url: {error}") from error
    return parts


def host_of(url: str) -> str:
    """Return the host of `url`, with the port where it has one.

    >>> host_of("https://me:secret@Example.org:8443/disk.img")
    'example.org:8443'
    """
    return split(url).netloc.rpartition("@")[2].lower()


def join(base: str, url: str) -> str:
    """Return `url`, which may be relative to `base` (RFC 3986, 5.2); raise FetchError where it is no url."""
    try:
        return urljoin(base, url)
    except ValueError as error:
        raise FetchError(f"{shown(url)!r} is not a url: {error}") from error


def with_mirrors(urls: Sequence[str], mirrors: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return `urls`, each after its mirrors: the longest prefix in `mirrors` that it has, replaced by each value.

    No url is given twice.

    >>> with_mirrors(["https://example.org/a/disk.img"], {"https://example.org/": ["https://mirror.test/x/"]})
    ('https://mirror.test/x/a/disk.img', 'https://example.org/a/disk.img')
    """
    found: dict[str, None] = {}
    for url in urls:
        prefix = max((prefix for prefix in mirrors if url.startswith(prefix)), key=len, default=None)
        if prefix is not None:
            found.update(dict.fromkeys(mirror + url[len(prefix) :] for mirror in mirrors[prefix]))
        found[url] = None
    return tuple(found)
