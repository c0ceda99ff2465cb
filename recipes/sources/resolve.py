"""resolve: from what is declared to what upstream serves now."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from recipes.errors import ChecksumError
from recipes.model import Identity
from recipes.names import tail, with_tail
from recipes.reference import SCHEME, Reference, is_layout

from .lists import ListRef

if TYPE_CHECKING:
    from recipes.model import Arch, Digest, Image, Source

    from .checksums import ChecksumList, Listed
    from .lists import Lists
    from .manifests import Named


def resolve(image: Image, lists: Lists) -> Identity:
    """Return the identity of `image`: the declared one where it is pinned, else the one that its list or tag gives.

    Reads nothing but the copy of the list in `lists`; raise a LarderError where there is none, or where it does not
    name the file. A pinned image never looks at a list, so what a list says cannot loosen a pin.
    """
    source = image.source
    if source.digest is not None:
        return Identity(_pinned(source.urls, source.digest), source.digest, source.size)
    from .manifests import Named

    ref = ListRef.of(source)
    assert ref is not None, "a declaration has a digest or a list"
    found = lists.read(ref)
    if isinstance(found, Named):
        return _disk(image, found) if image.kind == "disk" else _named(source, image.arch, found)
    identity = served(source, found)
    return identity if source.size is None else identity._replace(size=source.size)


def _named(source: Source, arch: Arch, named: Named) -> Identity:
    from .layouts import require_one
    from .manifests import Manifest
    from .oci_outline import Outline

    if is_layout(source.urls[0]):
        require_one(named, arch, source.urls[0])
    digest = named.digest_for(arch, source.urls[0])
    size = Outline.of(named.document, named.data).size if isinstance(named.document, Manifest) else None
    return Identity(_pinned(source.urls, digest), digest, size)


def _disk(image: Image, named: Named) -> Identity:
    from .disks import chosen, layer
    from .manifests import Manifest
    from .oci_outline import Outline

    source = image.source
    found = chosen(named, image.arch, source.disktype, source.urls[0])
    if isinstance(found, Manifest):
        blob = layer(found, source.disktype, source.urls[0])
        size = Outline.of(found, named.data).size if blob is None else blob.size
        return Identity(_pinned(source.urls, named.digest), named.digest, size)
    # That of the index would be another one whenever a disk for somebody else is replaced.
    return Identity(_pinned(source.urls, found.digest), found.digest)


def _pinned(urls: tuple[str, ...], digest: Digest) -> tuple[str, ...]:
    """Return `urls`, those in registries with `digest` for whatever tag they have."""
    return tuple(str(Reference.parse(url).pinned(digest)) if url.startswith(SCHEME) else url for url in urls)


def served(source: Source, checksums: ChecksumList) -> Identity:
    """Return what upstream serves of `source` now as its list tells, whatever the source is pinned to.

    The list is asked for the `pattern` of the source, by default for the file name of its first url. The digest has the
    pin's algorithm where the list has that, else the strongest listed. Raise ChecksumError where the list does not name
    the file, or only with a digest too weak to verify it.
    """
    asked, listed = _lookup(source, checksums)
    if source.digest is not None and listed.digest.algorithm != source.digest.algorithm:
        with suppress(ChecksumError):
            listed = checksums.lookup(asked, algorithm=source.digest.algorithm)
    return Identity(_moved(source.urls, asked, listed), listed.digest, listed.size, listed.content)


def _lookup(source: Source, checksums: ChecksumList) -> tuple[str, Listed]:
    """Return what the list was asked for, and what it says."""
    names = [source.pattern] if source.pattern else names_of(source.urls[0])
    for name in names[1:]:
        # The end of the path counts if it is listed, and is what the error names if nothing is.
        with suppress(ChecksumError):
            return names[0], checksums.lookup(names[0])
        with suppress(ChecksumError):
            return name, checksums.lookup(name)
    return names[0], checksums.lookup(names[0])


def names_of(url: str) -> list[str]:
    """Return what a list may call what is at `url`, the end of its path first.

    Some servers have the name in the query, or before a last segment that says what to do with it.

    >>> names_of("https://example.org/files/disk.img/download")
    ['download', 'disk.img']
    >>> names_of("https://example.org/get.php?file=release/disk.img&mirror=1")
    ['get.php', 'disk.img', '1']
    """
    parts = urlsplit(url)
    names = [tail(url)]
    above = parts.path.rstrip("/").rpartition("/")[0].rpartition("/")[2]
    if "." not in names[0] and above:
        names.append(unquote(above))
    names += [value.rpartition("/")[2] for _, value in parse_qsl(parts.query)]
    return list(dict.fromkeys(filter(None, names))) or [""]


def _moved(urls: tuple[str, ...], asked: str, listed: Listed) -> tuple[str, ...]:
    """Return where the file is: what matched `*` takes its place in each url; where the list says where, there first.

    The listed name replaces the end of the url instead of being joined to the list's folder: so each of several urls
    keeps its server, and an index whose paths are relative to something of its own (simplestreams) needs no rule.
    """
    if "*" in asked:
        urls = tuple(with_tail(url, listed.name) for url in urls)
    return urls if listed.url is None or listed.url in urls else (listed.url, *urls[1:])
