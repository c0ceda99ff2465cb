"""What became of the artifacts that were handed out: a record of each clone, in the entry of its image.

A record is a small file in the entry's folder `clones`, named after the path of the clone, replaced as a whole and
written without the entry's lock: who clones never waits for who converts. A record whose file is gone, or has become
another one, is dropped when the records are read, and where nobody reads them, with every 64th clone. What one may not
look at is not gone. Drafts, whose names begin with a dot, are their writer's for a day.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from recipes import jsontext
from recipes.formats.io import fiemap, sparse
from recipes.units import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .store import Entry

_SWEEP_EVERY = 64
#: Nobody takes so long to write a record.
_DRAFT_NS = 86400 * 10**9


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone as it was made."""

    path: Path
    #: The kind of artifact that it was made from.
    kind: str
    format: str
    #: How the file at `base`, or else at `path`, came from the cache.
    method: str
    #: Inode of `path`; device numbers change from one start of the machine to the next.
    inode: int
    #: RFC 3339, in UTC.
    made: str
    base: Path | None = None
    base_inode: int | None = None

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read what `to_json` gave; raise KeyError, TypeError or ValueError where it is none."""
        base = document.pop("base")
        return cls(path=Path(document.pop("path")), base=Path(base) if base else None, **document)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return {**dataclasses.asdict(self), "path": str(self.path), "base": str(self.base) if self.base else None}

    def lives(self) -> bool | None:
        """Say whether its files are still the ones that were made; None where that cannot be told."""
        files = [(self.path, self.inode), (self.base, self.base_inode)]
        try:
            return all(path is None or path.lstat().st_ino == inode for path, inode in files)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return None


@dataclass(frozen=True, slots=True)
class Share:
    """What a clone has in common with the artifact in the cache, in bytes; None where the file system does not tell."""

    clone: Clone
    #: What both have in the same place on the disk.
    shared: int | None
    #: What the clone would take more if it were a conversion of its own.
    saved: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the clone for scripts."""
        record = self.clone.to_json()
        told = {name: record[name] for name in ("path", "base", "format", "method", "made")}
        return {**told, "shared": self.shared, "saved": self.saved}


def remember(entry: Entry, path: Path, base: Path | None, *, kind: str, format: str, method: str) -> None:
    """Record that `path` is a clone of the artifact of `kind`, where the cache can be written to.

    `base` is the file beside it that an overlay stands on; `method` says how `base`, or else `path`, came to be.
    """
    path, base = path.absolute(), base.absolute() if base else None
    with suppress(OSError):
        record = Clone(
            path=path,
            kind=kind,
            format=format,
            method=method,
            inode=path.stat().st_ino,
            made=now(),
            base=base,
            base_inode=base.stat().st_ino if base else None,
        )
        folder = entry.clones
        folder.mkdir(exist_ok=True)
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        # The same for each clone to this path: the next one takes over what a killed one leaves.
        draft = folder / f".{name}"
        draft.write_text(json.dumps(record.to_json()), encoding="utf-8")
        draft.replace(folder / name)
        if sum(1 for _ in folder.iterdir()) % _SWEEP_EVERY == 0:
            living(entry)


def living(entry: Entry) -> list[Clone]:
    """Return the clones of the artifacts of `entry` that are still there, in the order of their paths."""
    found: dict[Path, Clone] = {}
    try:
        files = list(entry.clones.iterdir())
    except OSError:
        files = []
    for file in files:
        with suppress(OSError):
            if file.name.startswith("."):
                if time.time_ns() - file.stat().st_mtime_ns > _DRAFT_NS:
                    file.unlink()
                continue
            inode, record = _read(file)
            if record is None or record.lives() is False:
                _drop(file, inode)
            elif record.lives():
                found[record.path] = record
    return [found[path] for path in sorted(found)]


def _read(file: Path) -> tuple[int, Clone | None]:
    """Return the inode of a record, and what it says; None where that is nothing this version can read."""
    with file.open("rb") as opened:
        inode, data = os.fstat(opened.fileno()).st_ino, opened.read()
    try:
        return inode, Clone.from_json(jsontext.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError):
        return inode, None


def _drop(file: Path, inode: int) -> None:
    """Delete the record that was read from `file` as `inode`, and no other that another process puts there."""
    aside = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    file.rename(aside)
    try:
        if aside.stat().st_ino != inode:
            # Taken at the instant at which it was written, unless one that is newer still has taken its place.
            with suppress(FileExistsError):
                os.link(aside, file)
    finally:
        aside.unlink()


def shares(artifact: Path, clones: Sequence[Clone]) -> tuple[list[Share], int | None]:
    """Return what each of the `clones` has in common with `artifact`, and how many bytes of it any of them shares."""
    here = artifact.stat()
    whole = sparse.allocated(here)
    mine = fiemap.places(artifact) if any(clone.method == "reflink" for clone in clones) else None
    linked = False
    found: list[Share] = []
    runs: list[tuple[int, int]] = []
    for clone in clones:
        file = clone.base or clone.path
        try:
            status = file.stat()
            # What the guest wrote to an overlay may hide what it shares, or be new: it is not counted as saved.
            overlay = sparse.allocated(clone.path) if clone.base else 0
        except FileNotFoundError:
            # Deleted since it was found to be there.
            continue
        shared: int | None = 0
        if (status.st_dev, status.st_ino) == (here.st_dev, here.st_ino):
            linked, shared = True, whole
        elif clone.method == "reflink":
            # Addresses say something within one file system only.
            theirs = fiemap.places(file) if mine is not None and status.st_dev == here.st_dev else None
            both = fiemap.common(mine, theirs) if mine is not None and theirs is not None else None
            shared = None if both is None else sum(stop - start for start, stop in both)
            runs += both or []
        found.append(Share(clone, shared, None if shared is None else max(0, shared - overlay)))
    if linked:
        return found, whole
    if any(share.shared is None for share in found):
        return found, None
    return found, sum(stop - start for start, stop in fiemap.merged(runs))
