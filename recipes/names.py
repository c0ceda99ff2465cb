"""The ends of urls and paths, which are what checksum lists name: taken, matched and replaced."""

from __future__ import annotations

import fnmatch
import re
from urllib.parse import quote, unquote, urlsplit


def tail(url: str, segments: int = 1) -> str:
    """Return the last segments of the path of `url`, unquoted; fewer where it has fewer.

    >>> tail("https://example.org/noble/release/disk.img?x=1")
    'disk.img'
    >>> tail("https://example.org/noble/20260705/disk%20one.img", 2)
    '20260705/disk one.img'
    """
    path = urlsplit(url).path.lstrip("/")
    return "/".join(unquote(segment) for segment in path.split("/")[-segments:])


def with_tail(url: str, name: str) -> str:
    """Return `url` with the last segments of its path, as many as `name` has, replaced by those of `name`.

    >>> with_tail("https://example.org/noble/20260705/disk.img", "20260812/disk.img")
    'https://example.org/noble/20260812/disk.img'
    """
    path, mark, query = url.partition("?")
    kept = path.split("/")[: -(name.count("/") + 1)]
    # RFC 3986, 3.3: what a segment may hold unquoted, but for the star, which is a wildcard in declarations.
    return "/".join((*kept, quote(name, safe="/!$&'()+,;=:@"))) + mark + query


def wildcard(segment: str) -> re.Pattern[str]:
    """Return what matches a path segment in which ``*`` stands for any characters.

    >>> bool(wildcard("disk-*.img").fullmatch("disk-9.10.img")), bool(wildcard("a?").fullmatch("ab"))
    (True, False)
    """
    # fnmatch knows two more wildcards; in brackets they are themselves.
    return re.compile(fnmatch.translate(re.sub(r"([?[])", r"[\1]", segment)))


def ends_with(url: str, pattern: str) -> bool:
    """Say whether the last segments of the path of `url` are those of `pattern`, in which ``*`` is a wildcard.

    >>> ends_with("https://example.org/noble/20260705/disk.img", "*/disk.img")
    True
    >>> ends_with("https://example.org/disk.img", "noble/disk.img")
    False
    """
    asked = pattern.split("/")
    found = tail(url, len(asked)).split("/")
    return len(asked) == len(found) and all(
        wildcard(one).fullmatch(other) for one, other in zip(asked, found, strict=True)
    )
