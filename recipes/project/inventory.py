"""What is in the cache beside what is declared: the facts behind `larder status`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recipes.cache import ledger
from recipes.formats.io import sparse
from recipes.kinds import KINDS

from . import look, pins

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.ledger import Share
    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Entry

    from .look import Look, State
    from .workspace import Workspace

#: Among those who ask for an artifact, what was named there.
COMMAND_LINE = "command line"


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
    #: Who asks for it by name: `COMMAND_LINE`, and the images.toml of projects.
    asked_by: tuple[str, ...] = ()
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
            "asked_by": list(self.asked_by),
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
    """Return a row for every artifact that is there or asked for, of the images `names` or of all.

    Counted is what every project that shares the cache declares, as `larder prune` counts it; but of what is missing,
    only what this project asks for.
    """
    everybodys = look.everybodys(space, strict=False)
    entries: dict[tuple[str, str], Entry] = {}
    entries |= {(image.name, image.arch): space.session.store.entry(image) for image in space.images.values()}
    for entry in space.session.store.entries():
        entries.setdefault((entry.image, entry.arch), entry)
    found: list[Row] = []
    for place, entry in entries.items():
        if names is None or entry.image in names:
            found += _rows(space, look.look(space, entry, everybodys.get(place, ())))
    return found


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


def _rows(space: Workspace, seen: Look) -> list[Row]:
    entry = seen.entry
    own = [each.image for each in seen.declared if each.project == space.settings.images]
    outdated = any(pins.is_outdated(space, image) for image in own)
    found = []
    clones = ledger.living(entry)
    for kind, each in seen.found.items():
        if each.state is None:
            continue
        if each.state == "missing" and not (own and (each.named or space.settings.images in each.projects)):
            continue
        size = allocated = None
        shares: list[Share] = []
        shared: int | None = 0
        if each.state != "missing":
            try:
                status = each.path.stat()
                shares, shared = ledger.shares(each.path, [clone for clone in clones if clone.kind == kind])
            except FileNotFoundError:
                continue  # another process has just taken it away
            size, allocated = status.st_size, sparse.allocated(status)
        found.append(
            Row(
                image=entry.image,
                arch=entry.arch,
                kind=kind,
                state=each.state,
                declared=bool(seen.declared),
                asked=each.asked,
                asked_by=(*((COMMAND_LINE,) if each.named else ()), *map(str, each.projects)),
                path=each.path,
                size=size,
                allocated=allocated,
                receipt=each.receipt,
                outdated=outdated,
                clones=tuple(shares),
                shared=shared,
            )
        )
    return found
