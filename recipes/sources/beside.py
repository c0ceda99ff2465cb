"""The checksum list that upstream has beside an image, found by the names that such lists have.

Distributions put it into the image's folder: one for all files (SHA256SUMS, CHECKSUM …), one for the file
(FILE.sha256 …), a manifest (STEM.json), or one whose name the folder's own index gives away (Fedora's …-CHECKSUM).
"""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from recipes.errors import ChecksumError, FetchError
from recipes.names import tail, with_tail

from . import checksums, pages
from .http import Client
from .packets import CLEARTEXT_HEADER
from .retry import Retryable, first_of
from .urls import with_mirrors

if TYPE_CHECKING:
    from .access import Access
    from .checksums import Listed

#: Lists of all files in a folder, those that say most first.
FOLDER_LISTS = (
    *("SHA256SUMS", "SHA512SUMS", "CHECKSUM", "CHECKSUM.sha256", "CHECKSUM.SHA256", "CHECKSUM.SHA512"),
    *("SHA256SUM", "SHA512SUM", "sha256sum.txt", "sha512sum.txt", "sha256sums.txt", "SHA256SUMS.txt", "checksums.txt"),
    "manifest.json",
)
#: What is put behind the name of a file for the list of it alone.
FILE_LISTS = (
    *(".sha256", ".sha512", ".sha256sum", ".sha512sum", ".SHA256", ".SHA512", ".SHA256SUM", ".SHA512SUM"),
    *(".CHECKSUM", ".DIGESTS", ".json"),
)
#: What is put behind the name of a list for its signature.
SIGNATURES = (".gpg", ".asc", ".sig", ".sign")

#: Most bytes of a folder's index that are looked through, and most names that are taken from it.
_MOST_OF_INDEX = 1 << 20
_MOST = 16
#: What says that there is nothing at a url: buckets that may not be listed answer with 403 for what is not there.
_ABSENT = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.GONE,
)
_HREF = re.compile(rb"""href\s*=\s*["']?([^"'\s>?#]+)""", re.IGNORECASE)
_LIST_NAME = re.compile(r"checksum|sha-?(256|512)|manifest\.json", re.IGNORECASE)
_COMPRESSED = re.compile(r"\.(gz|xz|bz2|zst|qcow2|raw|img|tar|tgz)$", re.IGNORECASE)


def candidates(url: str) -> list[str]:
    """Return the urls at which a list of the image at `url` may be, the likeliest first.

    >>> candidates("https://h.example/a/disk.qcow2?x=1")[:2]
    ['https://h.example/a/SHA256SUMS', 'https://h.example/a/SHA512SUMS']
    """
    bare = url.partition("?")[0]
    name = tail(bare)
    stem = name
    while match := _COMPRESSED.search(stem):
        stem = stem[: match.start()]
    own = [f"{name}{suffix}" for suffix in FILE_LISTS] + ([f"{stem}.json"] if stem != name else [])
    return [with_tail(bare, each) for each in (*FOLDER_LISTS, *own)]


def get(url: str, access: Access, *, html: bool = False) -> bytes | None:
    """Return what is at `url`; None where its server says that there is nothing, or not for everybody.

    A page is nothing either, unless `html` is wanted: servers have one for what they have not.

    Errors: FetchError where that cannot be told, since a list that is not seen is not missing; OfflineError.
    """

    def attempt(url: str) -> bytes | None:
        with client.open(url, accept=(HTTPStatus.OK, *_ABSENT)) as answer:
            if answer.status != HTTPStatus.OK:
                return None
            content = bytearray()
            try:
                for piece in answer.body(html=html):
                    content += piece
                    if len(content) > pages.MAX_PAGE:
                        # Not a list, whatever it is called.
                        return None
            except Retryable:
                raise
            except FetchError:
                return None
            return bytes(content)

    if url.startswith("file:") and not Path(url2pathname(urlsplit(url).path)).exists():
        return None
    label = f"looking for {tail(url)}"
    with Client(offline=access.offline) as client, access.progress.meter(label) as meter:
        urls = with_mirrors((url,), access.mirrors)
        return first_of(urls, attempt, label=label, progress=access.progress, tick=lambda: meter.advance(0))


def in_index(url: str, access: Access) -> list[str]:
    """Return the urls of what the index of the image's folder calls like a list, without the `candidates`."""
    folder = url.partition("?")[0].rpartition("/")[0] + "/"
    content = get(folder, access, html=True) if folder.startswith("http") else None
    tried = set(candidates(url))
    found: dict[str, None] = {}
    for match in _HREF.finditer((content or b"")[:_MOST_OF_INDEX]):
        name = unquote(html.unescape(match[1].decode("utf-8", "replace"))).removeprefix("./")
        if "/" not in name and _LIST_NAME.search(name) and not name.endswith(SIGNATURES):
            found[with_tail(f"{folder}x", name)] = None
    return [each for each in found if each not in tried][:_MOST]


def said(url: str, content: bytes, *, at: str) -> Listed | None:
    """Return what the list `content`, found `at` a url, says of the image at `url`; None where it says nothing of it.

    Raise ChecksumError where it names the image and cannot be used: twice with different digests, or with a weak one.
    """
    name = tail(url)
    try:
        found = checksums.parse(checksums.decode(content))
    except ChecksumError:
        return None
    # A digest without a name is of the file that the list is called after.
    if found.is_nameless and not tail(at).startswith(name):
        return None
    return found.lookup(name) if found.is_nameless or found.names(name) else None


def is_clear_signed(content: bytes) -> bool:
    """Say whether a list has its signature in itself."""
    return CLEARTEXT_HEADER in content


def signature(url: str, access: Access) -> tuple[str, bytes] | None:
    """Return the url of the signature beside the list at `url`, and what is there; None where there is none."""
    for suffix in SIGNATURES:
        content = get(f"{url}{suffix}", access)
        if content is not None:
            return f"{url}{suffix}", content
    return None
