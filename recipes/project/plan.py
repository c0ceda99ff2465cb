"""What would run, and the sizes that are known before any of it does: the facts behind `larder plan`.

A size comes from what knows it at the least price: a receipt in the cache, the declaration or its list, and a few bytes
of the wrapper, read where it is. Nothing is written but checksum lists.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recipes.derive import engine
from recipes.errors import LarderError, OfflineError
from recipes.formats.disk.table import FORMATS
from recipes.formats.fs import root as fs_root
from recipes.formats.io.probe import RAW_FORMATS, probe
from recipes.formats.wrapper import claims
from recipes.kinds import DERIVABLE, KINDS
from recipes.progress import SILENCE
from recipes.redact import shown
from recipes.reference import serves_by_digest
from recipes.sources import disk_fetch, oci_fetch
from recipes.sources.access import Access
from recipes.sources.part import Part
from recipes.sources.peek import Peek
from recipes.sources.urls import with_mirrors
from recipes.units import format_size

from . import pins
from .look import asked_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.model import Identity, Image
    from recipes.progress import Progress

    from .workspace import Workspace


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes on disk: `least` for certain, `most` where a bound is known."""

    least: int = 0
    most: int | None = 0

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(self.least + other.least, _both(self.most, other.most, int.__add__))

    def or_more(self, other: Bytes) -> Bytes:
        """Return the larger of the two."""
        return Bytes(max(self.least, other.least), _both(self.most, other.most, max))


def _both(one: int | None, other: int | None, operation: Callable[[int, int], int]) -> int | None:
    return None if one is None or other is None else operation(one, other)


@dataclass(slots=True)
class Row:
    """What would happen to one image; sizes are bytes, None where nothing tells them yet."""

    image: Image
    #: None where its list cannot be had.
    identity: Identity | None
    #: The kinds that would be made, inputs first.
    runs: list[str]
    #: The kinds that would be deleted in the end.
    released: list[str]
    wrapper_size: int | None = None
    #: Bytes of the wrapper that an earlier download left.
    resumed: int = 0
    compressed: bool | None = None
    content_format: str | None = None
    content_size: int | None = None
    virtual_size: int | None = None
    #: Of a disk that is here: where its root file system is, if that is to be read.
    root: str | None = None
    #: What a person should know.
    notes: list[str] = field(default_factory=list)

    @property
    def download(self) -> int | None:
        """Return the bytes that are still to be downloaded."""
        if "fetch" not in self.runs:
            return 0
        return None if self.wrapper_size is None else max(0, self.wrapper_size - self.resumed)

    def written(self) -> tuple[Bytes, Bytes]:
        """Return what would be written to stay, and what would be written and released.

        The bounds take disks for full: how many holes one has is known once it was read.
        """
        # Content that was not compressed is the wrapper under another name, and so is a RAW that was RAW already.
        files = {kind: kind for kind in DERIVABLE[self.image.kind]}
        if self.compressed is False:
            files["content"] = "fetch"
        if self.content_format in RAW_FORMATS:
            files["raw"] = files["content"]
        # How much of a disk its files are, and how well they compress, is known once they were read.
        sizes = {"wrapper": self.download, "content": self.content_size, "disk": self.virtual_size, None: None}
        kept = {files[kind] for kind in self.runs if kind not in self.released}
        stays = goes = Bytes()
        for file in {files[kind] for kind in self.runs} & set(self.runs):
            size = sizes[KINDS[file].size]
            written = Bytes(size or 0, size) if file == "fetch" else Bytes(0, size)
            if file in kept:
                stays += written
            else:
                goes += written
        return stays, goes

    def to_json(self) -> dict[str, Any]:
        """Return the row for scripts."""
        stays, goes = self.written()
        return {
            "image": self.image.name,
            "arch": self.image.arch,
            "runs": self.runs,
            "released": self.released,
            "url": shown(self.identity.urls[0]) if self.identity else None,
            "digest": str(self.identity.digest) if self.identity else None,
            "wrapper_size": self.wrapper_size,
            "download": self.download,
            "content_format": self.content_format,
            "content_size": self.content_size,
            "virtual_size": self.virtual_size,
            "root": self.root,
            "written_at_most": (stays + goes).most,
            "kept_at_most": stays.most,
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the rows, for images that are made one after the other; sizes are bytes."""

    download: int
    #: Images whose download has an unknown size.
    unknown: int
    #: On disk at the peak, beyond what is there now.
    peak: Bytes
    #: Of that, what stays.
    kept: Bytes
    free: int

    @property
    def suffices(self) -> bool | None:
        """Say whether what is free is enough; None where that depends on sizes that are not known."""
        if self.peak.least > self.free:
            return False
        return True if self.peak.most is not None and self.peak.most <= self.free else None

    def to_json(self) -> dict[str, Any]:
        """Return the totals for scripts."""
        return {
            "download": self.download,
            "download_unknown": self.unknown,
            "written_at_least": self.peak.least,
            "written_at_most": self.peak.most,
            "kept_at_most": self.kept.most,
            "free": self.free,
            "suffices": self.suffices,
        }


def rows(space: Workspace, named: dict[str, set[str]], progress: Progress) -> list[Row]:
    """Return a row for each image of which something would run to make the kinds that `named` has of it."""
    refused = pins.refresh(space, (space.images[name] for name in named), progress)
    found = []
    looks: list[tuple[Row, tuple[str, ...]]] = []
    for name, kinds in named.items():
        row, urls = _row(space, space.images[name], kinds, refused)
        if row.runs:
            found.append(row)
            looks += [(row, urls)] if urls else []
    pins.each_at_once(lambda each: _look(space, *each), looks)
    return found


def totals(found: list[Row], free: int) -> Totals:
    """Sum the rows up; `free` is what the cache's file system has left."""
    kept = peak = Bytes()
    for row in found:
        stays, goes = row.written()
        kept += stays
        peak = peak.or_more(goes)
    downloads = [row.download for row in found]
    return Totals(sum(each or 0 for each in downloads), downloads.count(None), kept + peak, kept, free)


def _row(
    space: Workspace, image: Image, kinds: set[str], refused: dict[Image, LarderError]
) -> tuple[Row, tuple[str, ...]]:
    """Return what would happen to `image`, with the sizes that are at hand, and where to look for the others."""
    entry, possible = space.session.store.entry(image), DERIVABLE[image.kind]
    asked = kinds | asked_of(space, image)
    identity, here, notes = None, {}, []
    try:
        if image in refused:
            raise refused[image]
        identity = space.identity(image)
        here = {kind: found for kind in possible if (found := _at_hand(space, image, kind, identity))}
    except LarderError as error:
        notes.append(f"{image.name}: {error.message}")
    needed = engine.needed(image, kinds, here.__contains__)
    runs = [kind for kind in possible if kind in needed and kind not in here]
    stays = engine.needed(image, asked, {*here, *runs}.__contains__)
    there = {*entry.kinds(), *runs}
    row = Row(image, identity, runs, [kind for kind in possible if kind in there - stays], notes=notes)
    if identity is None:
        return row, ()
    if "rootfs" in runs and image.kind == "disk":
        _find_root(row, here, space.declaration.max_virtual_size)
    row.wrapper_size = identity.size
    for _, receipt in here.values():
        row.wrapper_size = receipt.wrapper.size
        if receipt.content is not None:
            row.compressed = receipt.content.size != receipt.wrapper.size
            row.content_format = receipt.content.format
            row.content_size = receipt.content.size
            row.virtual_size = receipt.content.virtual_size
            return row, ()
    if "fetch" in here:
        return row, (here["fetch"][0].as_uri(),)
    urls = with_mirrors(identity.urls, space.declaration.mirrors)
    origin = Part(entry.part, identity.digest).left()
    if origin is not None and origin.url in map(shown, urls):
        # Another process may have finished it meanwhile.
        with suppress(FileNotFoundError):
            row.resumed = entry.part.stat().st_size
        row.wrapper_size = row.wrapper_size or origin.size
    return row, urls


def _find_root(row: Row, here: dict[str, tuple[Path, Receipt]], limit: int) -> None:
    """Add to `row` where the root is, as the reader of disks finds it in what is here; what it says if it refuses."""
    for kind in ("raw", "content", "fetch"):
        if kind not in here:
            continue
        path, _receipt = here[kind]
        try:
            if probe(path) not in (*RAW_FORMATS, *FORMATS):
                return
            row.root = fs_root.describe(path, limit=limit, place=row.image.root)
        except LarderError as error:
            row.notes.append(f"{row.image.name}: no root file system: {error.message}")
        return


def _at_hand(space: Workspace, image: Image, kind: str, identity: Identity) -> tuple[Path, Receipt] | None:
    """Return the artifact that makes a derivation superfluous, and its receipt: this image's, or one with equal bytes.

    One whose mtime alone differs will be hashed again, which takes neither a download nor room.
    """
    entry, key = space.session.store.entry(image), engine.key_of(kind, image, identity)
    path, receipt = entry.artifact(kind), entry.receipt(kind)
    with suppress(FileNotFoundError):
        if receipt and receipt.key == key and path.stat().st_size == receipt.artifact.size:
            return path, receipt
    twin = space.session.twin(kind, key)
    return (twin[0].artifact(kind), twin[1]) if twin else None


def _look(space: Workspace, row: Row, urls: tuple[str, ...]) -> None:
    """Add to `row` what the wrapper says, wherever it is."""
    name = row.image.name
    try:
        if serves_by_digest(urls[0]):
            _look_into_registry(space, row, urls)
            return
        remote = Peek(urls, label=name, offline=space.settings.offline)
        if row.wrapper_size not in (None, remote.size):
            row.notes.append(f"{name}: expected {row.wrapper_size} bytes, the server announces {remote.size}")
            return
        row.wrapper_size = remote.size
        member = row.image.source.member if row.image.kind == "disk" else None
        found = claims.read(name, remote.size, remote.pread, member=member)
    except OfflineError:
        return
    except LarderError as error:
        row.notes.append(error.message)
        return
    row.compressed = found.codec is not None
    row.content_format, row.content_size, row.virtual_size = found.format, found.content_size, found.virtual_size
    limit = space.declaration.max_virtual_size
    if found.virtual_size is not None and found.virtual_size > limit:
        row.notes.append(
            f"{name}: will be refused: its disk has {format_size(found.virtual_size)}, "
            f"and max-virtual-size is {format_size(limit)}"
        )


def _look_into_registry(space: Workspace, row: Row, urls: tuple[str, ...]) -> None:
    """Add to `row` what the manifest says of the disk, or of the archive that will hold the image."""
    image, identity = row.image, row.identity
    assert identity is not None, "it gave the urls"
    if image.kind == "disk":
        wanted = disk_fetch.Wanted(identity.digest, image.arch, image.source.disktype)
        access = Access({}, space.settings.offline, progress=SILENCE)
        row.wrapper_size = disk_fetch.size(urls, access, wanted, image.name)
        return
    archive = oci_fetch.outline(
        urls, digest=identity.digest, arch=image.arch, label=image.name, offline=space.settings.offline
    )
    row.wrapper_size = row.content_size = archive.size
    row.compressed, row.content_format = False, "tar"
    row.resumed = archive.present(space.session.store.entry(image).part)
