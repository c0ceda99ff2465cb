"""What is in the cache beside what is declared: the facts behind `doit status`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from recipes.cache import ledger, store
from recipes.derive import engine
from recipes.errors import LarderError
from recipes.formats.io import sparse
from recipes.kinds import KINDS
from recipes.sources.lists import ListRef
from recipes.sources.repin import repinned

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.ledger import Share
    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Entry
    from recipes.model import Image

    from .workspace import Workspace

#: current: made from what upstream serves; stale: made from something else; changed: not as its receipt recorded it;
#: partial: a download that was begun; missing: asked for and not there.
State = Literal["current", "stale", "changed", "partial", "missing"]


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact that is in the cache, or asked for; sizes are bytes."""

    image: str
    arch: str
    kind: str
    state: State
    declared: bool
    asked: bool
    path: Path
    size: int | None = None
    allocated: int | None = None
    receipt: Receipt | None = None
    #: The image is pinned to other bytes than its checksum list, as last seen, has.
    outdated: bool = False
    #: The clones of it, or of one that was here before it, that are still there.
    clones: tuple[Share, ...] = ()
    #: Bytes of it that clones share; None where the file system does not tell.
    shared: int | None = 0

    @property
    def saved(self) -> int | None:
        """Bytes that the clones would take more if each were a conversion of its own; None where nobody can tell.

        At least these: what a guest wrote to an overlay counts against it.
        """
        saved = [share.saved for share in self.clones]
        return None if None in saved else sum(each for each in saved if each is not None)

    def to_json(self) -> dict[str, Any]:
        """Return the row for scripts."""
        return {
            "image": self.image,
            "arch": self.arch,
            "kind": self.kind,
            "state": self.state,
            "declared": self.declared,
            "asked": self.asked,
            "path": str(self.path),
            "size": self.size,
            "allocated": self.allocated,
            "receipt": self.receipt.to_json() if self.receipt else None,
            "outdated": self.outdated,
            "shared": self.shared,
            "saved": self.saved,
            "clones": [each.to_json() for each in self.clones],
        }


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the rows, in bytes; a file with several names counts once."""

    artifacts: int
    allocated: int
    #: What the RAW files would take more if their holes were stored.
    holes: int
    clones: int
    #: What the clones would take more if each were a conversion of its own, as far as file systems tell.
    saved: int


def rows(space: Workspace, names: set[str] | None = None) -> list[Row]:
    """Return a row for every artifact that is there or asked for, of the images `names` or of all."""
    images = {(image.name, image.arch): image for image in space.images.values()}
    for entry in space.session.store.entries():
        by_arch = space.declaration.images.get(entry.image, {})
        images.update({(image.name, image.arch): image for image in by_arch.values() if image.arch == entry.arch})
    found: list[Row] = []
    for image in images.values():
        found += _rows(space, space.session.store.entry(image), image)
    for entry in space.session.store.entries():
        if (entry.image, entry.arch) not in images:
            found += _rows(space, entry, None)
    return [row for row in found if names is None or row.image in names]


def totals(found: list[Row]) -> Totals:
    """Sum the rows up."""
    files: dict[tuple[int, int], tuple[int, int]] = {}
    for row in found:
        if row.size is not None and row.allocated is not None:
            try:
                status = row.path.stat()
            except FileNotFoundError:
                continue  # another process has just taken it away
            holes = max(0, row.size - row.allocated) if KINDS[row.kind].is_sparse else 0
            files[status.st_dev, status.st_ino] = (row.allocated, holes)
    return Totals(
        artifacts=sum(row.size is not None and row.state != "partial" for row in found),
        allocated=sum(allocated for allocated, _ in files.values()),
        holes=sum(holes for _, holes in files.values()),
        clones=sum(len(row.clones) for row in found),
        saved=sum(share.saved or 0 for row in found for share in row.clones),
    )


def _rows(space: Workspace, entry: Entry, image: Image | None) -> list[Row]:
    asked = entry.asked() | (set(image.derive) if image else set())
    outdated = image is not None and _is_outdated(space, image)
    found = []
    clones = ledger.living(entry)
    for kind in KINDS:
        path = entry.artifact(kind)
        receipt = entry.receipt(kind)
        state: State | None = None
        if store.is_there(path):
            state = _state(space, entry, image, receipt, kind)
        elif kind == "fetch" and store.is_there(entry.part):
            path, state = entry.part, "partial"
        elif kind in asked and image is not None:
            state = "missing"
        if state is None:
            continue
        size = allocated = None
        shares: list[Share] = []
        shared: int | None = 0
        if state != "missing":
            try:
                status = path.stat()
                shares, shared = ledger.shares(path, [clone for clone in clones if clone.kind == kind])
            except FileNotFoundError:
                continue  # another process has just taken it away
            size, allocated = status.st_size, sparse.allocated(status)
        found.append(
            Row(
                image=entry.image,
                arch=entry.arch,
                kind=kind,
                state=state,
                declared=image is not None,
                asked=kind in asked,
                path=path,
                size=size,
                allocated=allocated,
                receipt=receipt,
                outdated=outdated,
                clones=tuple(shares),
                shared=shared,
            )
        )
    return found


def _state(space: Workspace, entry: Entry, image: Image | None, receipt: Receipt | None, kind: str) -> State:
    if receipt is None or not entry.matches(receipt):
        return "changed"
    if image is None:
        return "stale"
    try:
        return "current" if engine.is_current(entry, kind, image, space.identity(image)) else "stale"
    except LarderError:
        # Its list was never seen, so nothing says that it is out of date; nor that it is not.
        return "stale"


def _is_outdated(space: Workspace, image: Image) -> bool:
    """Say whether `image` is pinned and its list, as last seen, lists other bytes."""
    if image.source.digest is None:
        return False
    try:
        ref = ListRef.declared(image.source)
        if ref is None:
            return False
        return repinned(image.source, image.arch, space.lists.read(ref)).digest != image.source.digest
    except LarderError:
        # The list was never asked for, or does not name the image: `doit update` says so.
        return False
