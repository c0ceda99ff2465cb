"""`larder verify`: the bytes of what is cached, held against its receipts, and what is damaged rebuilt."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from recipes.console import console
from recipes.derive import repair as repairs
from recipes.derive import verify
from recipes.errors import Interrupted, LarderError, StoreError
from recipes.graph.missing import undeclared
from recipes.kinds import DERIVABLE
from recipes.project import inventory
from recipes.units import format_duration

from .command import JSON, CacheCommand, show
from .spoken import FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.model import Image
    from recipes.project.inventory import Row
    from recipes.project.workspace import Workspace

_REPAIR = {
    "name": "repair",
    "long": "repair",
    "type": bool,
    "default": False,
    "help": "rebuild what is damaged, from the nearest input that is not",
}


class Verify(CacheCommand):
    """`larder verify`."""

    doc_purpose = "re-hash what is cached, name what is damaged, repair it"
    doc_usage = "[IMAGE ...]"
    doc_description = """Holds the bytes of every artifact against its receipt; fails where one is damaged.

A RAW is verified by its blkhash, at the price of its data and not of its size; everything else by its digest.

With --repair what is damaged is not handed out from then on and rebuilt: from an artifact with equal bytes, else from
the nearest input that is intact, else from upstream. The damaged file stays until another takes its place. Fails where
damage remains.
"""
    cmd_options = (_REPAIR, JSON)

    def _execute(self, repair: bool, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        rows = [row for row in inventory.rows(space) if row.state not in ("missing", "partial")]
        for name in pos_args:
            if name not in space.declaration.images and not any(row.image == name for row in rows):
                raise InvalidCommand(f"nothing of it is in the cache, and {undeclared(name, space)}")
        progress = None if json else console(sys.stderr, space.stop)
        space.session.progress = progress or space.session.progress
        try:
            asked = (row for row in rows if not pos_args or row.image in pos_args)
            findings = [found for row in asked if (found := _verified(space, row))]
            if repair:
                findings += _twins(space, rows, findings)
                _repair(space, [finding for finding in findings if finding.damage])
        except KeyboardInterrupt:
            space.stop.set()
            raise
        finally:
            if progress is not None:
                progress.close()
        show(_json(findings) if json else _text(findings))
        return FAILED if any(finding.remains for finding in findings) else 0


@dataclass(slots=True)
class Finding:
    """What was found of an artifact."""

    row: Row
    damage: str | None
    seconds: float
    repaired: bool = False
    #: Why it was not repaired, where that was tried.
    obstacle: str | None = None

    @property
    def remains(self) -> bool:
        """Say whether the artifact is damaged still."""
        return self.damage is not None and not self.repaired

    def to_json(self) -> dict[str, Any]:
        """Return the finding for scripts."""
        return {
            "image": self.row.image,
            "arch": self.row.arch,
            "kind": self.row.kind,
            "path": str(self.row.path),
            "damage": self.damage,
            "repaired": self.repaired,
            "obstacle": self.obstacle,
            "seconds": self.seconds,
        }


def _verified(space: Workspace, row: Row) -> Finding | None:
    """Return what is found of an artifact; None of one that another process has deleted meanwhile."""
    began = time.monotonic()
    entry = space.session.store.entry_of(row.image, row.arch)
    damage: str | None = "it has no receipt"
    receipt = row.receipt
    while receipt is not None:
        damage = verify.damage(entry, receipt, jobs=space.settings.jobs, progress=space.session.progress)
        # No lock is held, for minutes: what differs from a receipt that is not there any more is no damage.
        now = entry.receipt(row.kind)
        if damage is None or now == receipt:
            break
        if now is None:
            return None
        receipt = now
    return Finding(row, damage, round(time.monotonic() - began, 3))


def _twins(space: Workspace, rows: Iterable[Row], findings: list[Finding]) -> list[Finding]:
    """Return the findings of what has the same bytes as what is damaged: often it is the same file, damaged too."""

    def key(row: Row) -> tuple[str, str] | None:
        return (row.kind, row.receipt.key) if row.receipt else None

    damaged = {key(finding.row) for finding in findings if finding.damage and finding.row.receipt}
    seen = {finding.row.path for finding in findings}
    twins = (row for row in rows if row.path not in seen and key(row) in damaged)
    return [found for row in twins if (found := _verified(space, row))]


def _repair(space: Workspace, damaged: list[Finding]) -> None:
    """Repair what can be; inputs come before what is made from them, as in the inventory."""
    able: list[tuple[Finding, Image]] = []
    for finding in damaged:
        try:
            able.append((finding, _declared(space, finding.row)))
            repairs.distrust(space.session.store.entry(able[-1][1]), finding.row.kind)
        except LarderError as error:
            finding.obstacle = str(error)
    for finding, image in able:
        if finding.obstacle:
            continue
        began = time.monotonic()
        try:
            repairs.repair(finding.row.kind, image, space.identity(image), space.session)
        except Interrupted:
            raise
        except LarderError as error:
            finding.obstacle = str(error)
        else:
            finding.repaired, finding.seconds = True, round(time.monotonic() - began, 3)


def _declared(space: Workspace, row: Row) -> Image:
    """Return the image of a row; raise StoreError where nothing says how to make the artifact anew."""
    by_arch = space.declaration.images.get(row.image, {})
    for image in by_arch.values():
        if image.arch == row.arch and row.kind in DERIVABLE[image.kind]:
            return image
    raise StoreError(
        f"{space.settings.images.name} does not declare it any more", hint="`larder prune` deletes what is not declared"
    )


def _json(findings: Iterable[Finding]) -> str:
    return jsonlib.dumps({"artifacts": [finding.to_json() for finding in findings]}, indent=1)


def _text(findings: list[Finding]) -> str:
    if not findings:
        return "nothing is cached"
    lines = []
    for finding in findings:
        row = finding.row
        name = f"{row.kind}:{row.image} ({row.arch})"
        if finding.repaired:
            lines.append(f"repaired {name} in {format_duration(finding.seconds)}: {finding.damage}")
        elif finding.damage:
            lines.append(f"DAMAGED  {name}: {finding.damage}\n         {row.path}")
            if finding.obstacle:
                lines.append(f"         cannot be repaired: {finding.obstacle}")
        else:
            lines.append(f"ok       {name} in {format_duration(finding.seconds)}")
    return "\n".join(lines)
