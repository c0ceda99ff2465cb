"""`larder status`: what is cached, stale and missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from doit.exceptions import InvalidCommand

from recipes.graph.missing import undeclared
from recipes.kinds import KINDS
from recipes.project import inventory
from recipes.project.inventory import COMMAND_LINE
from recipes.settings import IMAGES, catalogue
from recipes.units import format_duration, format_size
from recipes.wording import meant

from .command import JSON, CacheCommand, aligned, show

if TYPE_CHECKING:
    from recipes.project.inventory import Row, Totals
    from recipes.project.workspace import Workspace


#: Artifacts that are missing, and named; of a catalogue's hundreds the number suffices.
_NAMED = 6


class Status(CacheCommand):
    """`larder status`."""

    doc_purpose = "show what is cached, stale and missing"
    doc_usage = "[IMAGE | KIND:IMAGE ...]"
    doc_description = """Shows each artifact that is in the cache or asked for, and what it takes on disk.

States: current (made from what upstream serves), stale (made from something else), changed (not as its receipt
recorded it), partial (a download that was begun), missing (asked for and not there). What upstream serves is known as
of the last time that its list was asked for; status asks nobody.

Kept is what somebody asks for: you, who named it on a command line, this images.toml, or that of another project that
has the same cache.

Of clones it shows how many of them are still there, what they share with the artifact, and what that saves against a
conversion for each; "?" where the file system does not tell. A clone that was moved is not known any more.
"""
    cmd_options = (JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        known = set(space.declaration.images) | {entry.image for entry in space.session.store.entries()}
        asked = {_asked(word) for word in pos_args}
        for kind, name in asked:
            if name not in known:
                raise InvalidCommand(f"nothing of it is in the cache, and {undeclared(name, space, kind)}")
        found = inventory.rows(space, {name for _, name in asked} or None)
        if asked:
            found = [row for row in found if not asked.isdisjoint({(row.kind, row.image), ("", row.image)})]
        totals = inventory.totals(found)
        show(_status_json(space, found, totals) if json else _status_text(space, found, totals))
        return 0


def _asked(word: str) -> tuple[str, str]:
    """Return kind and image of a word on the command line; no kind for all."""
    kind, colon, name = word.partition(":")
    if not colon:
        return "", word
    if kind not in KINDS:
        raise InvalidCommand(f"{word}: there is no kind {kind}{meant(kind, KINDS)}")
    return kind, name


def _status_json(space: Workspace, found: list[Row], totals: Totals) -> str:
    return json.dumps(
        {
            "cache": str(space.session.store.root),
            "artifacts": [row.to_json() for row in found],
            "totals": asdict(totals),
        },
        indent=1,
    )


def _status_text(space: Workspace, found: list[Row], totals: Totals) -> str:
    table: list[tuple[str, ...]] = [("IMAGE", "ARCH", "ARTIFACT", "STATE", "SIZE", "ON DISK", "AGE", "KEPT FOR")]
    if totals.clones:
        table[0] += ("CLONES", "SHARED", "SAVED")
    missing = [row for row in found if row.state == "missing"]
    for row in found:
        if row.state == "missing":
            continue
        clones = (str(len(row.clones)), _known(row.shared), _known(row.saved)) if row.clones else ("", "", "")
        table.append(
            (
                row.image,
                row.arch,
                row.kind,
                row.state if row.declared else "not declared",
                format_size(row.size) if row.size is not None else "",
                format_size(row.allocated) if row.allocated is not None else "",
                _age(row.receipt.made) if row.receipt else "",
                _askers(space, row),
                *(clones if totals.clones else ()),
            )
        )
    lines = [*aligned(table, right={4, 5, 6, 8, 9, 10}), ""] if len(table) > 1 else []
    if missing:
        names = [f"{row.kind}:{row.image}" for row in missing]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"missing: {', '.join(names[:_NAMED])}{more}; `larder plan` says what they would take")
    artifacts = "1 artifact" if totals.artifacts == 1 else f"{totals.artifacts} artifacts"
    summary = f"{artifacts}, {format_size(totals.allocated)} on disk in {space.session.store.root}"
    if totals.holes:
        summary += f"; sparse RAW files save {format_size(totals.holes)}"
    if totals.saved:
        summary += f"; clones save {format_size(totals.saved)}"
    lines.append(summary)
    if outdated := dict.fromkeys(row.image for row in found if row.outdated):
        lines.append(f"upstream has newer than is pinned, `larder update` re-pins: {', '.join(outdated)}")
    return "\n".join(lines)


def _askers(space: Workspace, row: Row) -> str:
    """Return for whom an artifact is kept: you, the catalogue, this images.toml, or another one by its folder."""
    names = {
        COMMAND_LINE: "you",
        str(space.settings.images): space.settings.images.name,
        str(catalogue()): "the catalogue",
    }
    return ", ".join(names.get(each) or each.removesuffix(f"/{IMAGES}") for each in row.asked_by)


def _known(size: int | None) -> str:
    return "?" if size is None else format_size(size)


def _age(made: str) -> str:
    return format_duration((datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds())
