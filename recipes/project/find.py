"""What a url alone tells of an image: its digest and the list that has it, its kind, the machines that it is for."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from recipes.declare.urls import certain_kind, is_relative, resolved
from recipes.errors import ChecksumError, DigestMismatch, LarderError, SignatureError
from recipes.formats import machine
from recipes.formats.disk.table import FORMATS
from recipes.formats.io import digests
from recipes.formats.io.context import Context
from recipes.formats.io.probe import RAW_FORMATS
from recipes.formats.wrapper import claims
from recipes.names import tail
from recipes.redact import shown
from recipes.reference import SCHEME, Reference, is_layout
from recipes.settings import ARCH_ALIASES
from recipes.sources import beside, disks, first_use, layouts, machines, openpgp, registry
from recipes.sources.access import Access
from recipes.sources.manifests import Named
from recipes.sources.peek import Peek
from recipes.sources.urls import with_mirrors

from .pins import each_at_once

if TYPE_CHECKING:
    from recipes.model import Arch, Digest, Kind
    from recipes.progress import Progress

    from .workspace import Workspace


class NotListed(LarderError):
    """No list says what an image's bytes have to be."""


class Wish(NamedTuple):
    """What is known of an image beside its url."""

    #: What is to be downloaded, for somebody who knows it from elsewhere.
    digest: Digest | None = None
    #: The keys that may have signed the list; without one signatures are only told of.
    keyring: Path | None = None
    #: Whether what comes is right where no list names it.
    first_use: bool = False


@dataclass(slots=True)
class Found:
    """What is to be declared of an image."""

    url: str
    kind: Kind
    #: One, or those that an image index has.
    arches: tuple[Arch, ...]
    digest: Digest | None = None
    size: int | None = None
    checksums: str | None = None
    signature: str | None = None
    #: Whether the list is signed by a key of the keyring.
    is_verified: bool = False
    #: What a person should know.
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return what was found for scripts."""
        return {
            "url": shown(self.url),
            "kind": self.kind,
            "arches": list(self.arches),
            "digest": str(self.digest) if self.digest else None,
            "size": self.size,
            "checksums": shown(self.checksums) if self.checksums else None,
            "signature": shown(self.signature) if self.signature else None,
            "verified": self.is_verified,
        }


def declarable(space: Workspace, name: str, url: str, wish: Wish, progress: Progress) -> Found:
    """Return what is to be declared as the image `name`, with a digest; `url` may be one from the project's folder.

    A file of this machine is pinned to what it is. With `Wish.first_use` an image that no list names is downloaded to
    where the next run looks for it. Raise `NotListed` for such an image otherwise; the rest is as for `find`.
    """
    whole = resolved(url, space.settings.images.parent)
    access = Access(space.declaration.mirrors, space.settings.offline, progress=progress)
    found = find(whole, wish, space.settings.arch, access)
    if found.digest is None and found.kind != "oci" and not found.url.startswith(SCHEME):
        if whole.startswith("file:"):
            with progress.meter(f"hashing {tail(whole)}", found.size) as meter:
                found.digest = digests.of_file(_local(whole), "sha256", meter)
            found.notes.append("pinned to what the file is now")
        elif wish.first_use:
            with space.session.store.entry_of(name, found.arches[0]).hold(progress) as held:
                held.discard_part()
                label = f"fetch:{name}"
                found.digest, found.size = first_use.take(whole, held.entry.part, access, label=label)
            found.notes.append(f"trusted on first use: no list names it, and {found.digest} is what came")
        else:
            raise NotListed(
                f"{shown(url)}: no list beside it names it, so nothing says what it has to be",
                hint="--digest sha256:HEX, where its digest is published elsewhere; or --trust-first-use, which "
                "downloads it now and pins what came",
            )
    if is_relative(url):
        found.url = url
    return found


def find(url: str, wish: Wish, here: Arch, access: Access) -> Found:
    """Return what there is to be known of the image at `url`; `here` is the machine's architecture.

    The digest is that of a list beside it, or of `wish`, which no list may contradict; None where there is neither.
    Errors: FetchError, ChecksumError, SignatureError, DigestMismatch, and those of a document that is none.
    """
    if url.startswith(SCHEME) or is_layout(url):
        return _in_registry(url, wish, here, access)
    peek = Peek(with_mirrors((url,), access.mirrors), label=tail(url), offline=access.offline)
    found = Found(url, _kind(url, peek), ())
    found.size = peek.size
    found.arches = (arch_of(url) or _in_content(url, here, access) or _assumed(here, found),)
    listed = _listed(url, access)
    if listed is None:
        found.digest = wish.digest
        return found
    found.checksums, content, found.digest = listed
    if wish.digest is not None and wish.digest != found.digest:
        if wish.digest.algorithm == found.digest.algorithm:
            raise DigestMismatch(
                f"{shown(found.checksums)} lists {found.digest} for {tail(url)}, not {wish.digest}",
                hint="one of the two is of another release, or wrong",
            )
        found.digest = wish.digest
    _look_at_signature(found, content, wish, access)
    return found


def arch_of(url: str) -> Arch | None:
    """Return the architecture that a url names, its file's name before its folders; None where it names none.

    >>> arch_of("https://h.example/amd64/noble-server-cloudimg-arm64.img"), arch_of("https://h.example/x86_64/disk.img")
    ('aarch64', 'x86_64')
    """
    for text in (tail(url), url):
        for alias in sorted(ARCH_ALIASES, key=len, reverse=True):
            if re.search(rf"(?<![A-Za-z0-9]){re.escape(alias)}(?![A-Za-z0-9])", text, re.IGNORECASE):
                return ARCH_ALIASES[alias]
    return None


def _in_content(url: str, here: Arch, access: Access) -> Arch | None:
    """Return the architecture of what is in a file of this machine; None for others, which are not here yet."""
    if not url.startswith("file:"):
        return None
    return machine.of_file(_local(url), Context(access.progress, tail(url)), here)


def _local(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _assumed(here: Arch, found: Found) -> Arch:
    found.notes.append(f"nothing says which machines it is for: taken for {here}; --arch says otherwise")
    return here


def _kind(url: str, peek: Peek) -> Kind:
    """Return what the image is, by its name where that is certain, else by its first bytes."""
    if kind := certain_kind(url):
        return kind
    claimed = claims.read(tail(url), peek.size, peek.pread).format
    if claimed == "tar":
        return "rootfs"
    if claimed is None or claimed in FORMATS or claimed in RAW_FORMATS or claimed == "zip":
        return "disk"
    raise LarderError(f"{shown(url)}: expected a disk image or an archive, found {claimed}")


def _listed(url: str, access: Access) -> tuple[str, bytes, Digest] | None:
    """Return the first list beside `url` that names it, what is in it, and the digest that it has."""
    refused: ChecksumError | None = None
    for urls in (beside.candidates(url), beside.in_index(url, access)):
        there = _fetched(urls, access)
        for each in urls:
            content = there.get(each)
            if content is None:
                continue
            try:
                listed = beside.said(url, content, at=each)
            except ChecksumError as error:
                refused = refused or error
                continue
            if listed is not None:
                return each, content, listed.digest
    if refused is not None:
        raise refused
    return None


def _fetched(urls: list[str], access: Access) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    refused: dict[str, LarderError] = {}
    lock = threading.Lock()

    def get(url: str) -> None:
        try:
            content = beside.get(url, access)
        except LarderError as error:
            with lock:
                refused[url] = error
        else:
            if content is not None:
                with lock:
                    found[url] = content

    each_at_once(get, urls)
    for url in urls:
        # What could not be asked for may be the list: to go on would be to say that there is none.
        if url in refused:
            raise refused[url]
    return found


def _look_at_signature(found: Found, content: bytes, wish: Wish, access: Access) -> None:
    assert found.checksums is not None, "it is the list that is signed"
    clear = beside.is_clear_signed(content)
    beside_it = None if clear else beside.signature(found.checksums, access)
    found.signature = beside_it[0] if beside_it else None
    if wish.keyring is None:
        if clear or beside_it:
            found.notes.append("the list is signed: --keyring FILE, the keys of who signs it, has that verified")
        return
    if not clear and beside_it is None:
        raise SignatureError(f"{shown(found.checksums)} is not signed, as far as there is a signature beside it")
    keys = _read(wish.keyring)
    verified = openpgp.verify(content, beside_it[1] if beside_it else None, keys, what=shown(found.checksums))
    listed = beside.said(found.url, verified, at=found.checksums)
    if listed is None or (listed.digest != found.digest and wish.digest is None):
        raise SignatureError(f"what is signed of {shown(found.checksums)} does not say the same")
    found.is_verified = True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LarderError(f"{path}: {error.strerror}") from error


def _in_registry(url: str, wish: Wish, here: Arch, access: Access) -> Found:
    """Return what a tag names, or the folder of an image layout has, pinned to what that is now."""
    label = f"what {shown(url)} names"
    urls = with_mirrors((url,), access.mirrors)
    if is_layout(url):
        data = layouts.latest(urls, label=label, offline=access.offline, progress=access.progress)
        named, reference = Named.parse(data), None
    else:
        try:
            reference = Reference.parse(url)
        except ValueError as error:
            raise LarderError(str(error)) from None
        data_or_none = registry.latest(urls, known=None, label=label, offline=access.offline, progress=access.progress)
        assert data_or_none is not None, "nothing was known that it could be"
        named = Named.parse(data_or_none)
    if wish.digest is not None and not named.has(wish.digest):
        raise DigestMismatch(f"{shown(url)} has {named.digest}, not {wish.digest}")
    digest = wish.digest or named.digest
    found = Found(url, "oci", ())
    if reference is None:
        found.digest = digest
    else:
        # In the url it is what docker and podman take, and the tag beside it is followed by `larder update`.
        found.url = str(reference) if reference.digest else f"{reference}@{digest}"
    if reference is not None and not disks.has_containers(named.document):
        found.kind = "disk"
        found.arches = disks.machines(named.document) or (arch_of(url) or _assumed(here, found),)
        for arch in found.arches:
            # What could not be chosen between when it is made is better said now.
            disks.chosen(named, arch, "", shown(url))
        return found
    if reference is not None and disks.machines(named.document):
        found.notes.append('there are disks beside the container image: with kind = "disk" one of them is taken')
    found.arches = machines.of(named, url, access) or (_assumed(here, found),)
    return found
