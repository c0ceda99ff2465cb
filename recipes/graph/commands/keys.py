"""`larder keys`: what a CI system stores artifacts under, and which files those are."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recipes.console import console
from recipes.errors import LarderError
from recipes.kinds import DERIVABLE
from recipes.project import look, pins
from recipes.units import format_size

from . import plan
from .command import JSON, CacheCommand, aligned, show
from .spoken import FAILED

if TYPE_CHECKING:
    from recipes.cache.receipt import Receipt
    from recipes.model import Image
    from recipes.project.workspace import Workspace


class Keys(CacheCommand):
    """`larder keys`."""

    doc_purpose = "print cache keys and paths, for CI"
    doc_usage = "[IMAGE | KIND:IMAGE ...]"
    doc_description = """Shows the key of each artifact that is asked for or named. The key changes when what upstream
serves changes, or how the artifact is made of it; it is known before anything is made or downloaded. The last line is
one key for all of them together, and their names.

With --json: "key" and "paths" of all, and "artifacts", which a matrix can take as it is. The paths are the files to
store: artifacts and their receipts. Fails where the list of an image cannot be had; its keys, and that of all, are
null then.
"""
    cmd_options = (JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        named = plan.selection(space, pos_args or list(space.images))
        progress = console(sys.stderr, space.stop)
        try:
            refused = pins.refresh(space, (space.images[name] for name in named), progress)
            found = [row for name, kinds in named.items() for row in _rows(space, space.images[name], kinds, refused)]
            for error in dict.fromkeys(row.error for row in found if row.error):
                progress.write(f"{error}\n")
        finally:
            progress.close()
        show(_json(space, found) if json else _text(found))
        return FAILED if any(row.error for row in found) else 0


@dataclass(frozen=True, slots=True)
class _Row:
    """One artifact that is asked for; without a key where there is an error."""

    image: Image
    kind: str
    paths: tuple[str, str]
    key: str | None = None
    #: Where it is current.
    receipt: Receipt | None = None
    #: Bytes, where they are known.
    size: int | None = None
    error: str | None = None

    @property
    def task(self) -> str:
        return f"{self.kind}:{self.image.name}"

    def to_json(self) -> dict[str, Any]:
        """Return the row for scripts."""
        return {
            "task": self.task,
            "kind": self.kind,
            "image": self.image.name,
            "arch": self.image.arch,
            "key": self.key,
            "paths": list(self.paths),
            "current": self.receipt is not None,
            "size": self.size,
            "allocated": self.receipt.artifact.allocated if self.receipt else None,
        }


def _rows(space: Workspace, image: Image, kinds: set[str], refused: dict[Image, LarderError]) -> list[_Row]:
    entry = space.session.store.entry(image)
    paths = {kind: (str(entry.artifact(kind)), str(entry.path / f"{kind}.json")) for kind in DERIVABLE[image.kind]}
    asked = [kind for kind in paths if kind in kinds]
    try:
        if image in refused:
            raise refused[image]
        seen, size = look.look_at(space, image), space.identity(image).size
    except LarderError as error:
        return [_Row(image, kind, paths[kind], error=f"{image.name}: {error}") for kind in asked]
    rows = []
    for kind in asked:
        (key,), receipt = seen.found[kind].keys, seen.found[kind].receipt
        current = receipt if seen.found[kind].state == "current" else None
        known = current.artifact.size if current else size if kind == "fetch" else None
        rows.append(_Row(image, kind, paths[kind], key, current, known))
    return rows


def _together(found: list[_Row]) -> str | None:
    """Return one key for all; None where one is not known."""
    # The names are part of it: they are where the files are put.
    lines = [f"{row.task} {row.image.arch} {row.key}\n" for row in found]
    return None if None in {row.key for row in found} else hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _json(space: Workspace, found: list[_Row]) -> str:
    return json.dumps(
        {
            "cache": str(space.session.store.root),
            "key": _together(found),
            "paths": [path for row in found for path in row.paths],
            "artifacts": [row.to_json() for row in found],
        },
        indent=1,
    )


def _text(found: list[_Row]) -> str:
    if not found:
        return "nothing is asked for"
    table: list[tuple[str, ...]] = [("ARTIFACT", "ARCH", "CURRENT", "SIZE", "KEY")]
    for row in found:
        size = "" if row.size is None else format_size(row.size)
        table.append((row.task, row.image.arch, "yes" if row.receipt else "no", size, row.key or "?"))
    return "\n".join([*aligned(table, right={3}), "", f"all: {_together(found) or '?'}"])
