"""The doit commands that look at the cache; derivations are tasks, these are not."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from recipes.console import Bars
from recipes.derive import engine, verify
from recipes.derive.engine import RECIPES
from recipes.errors import LarderError
from recipes.graph import inventory
from recipes.graph.command import FAILED, JSON, CacheCommand, aligned, show
from recipes.progress import SILENCE
from recipes.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recipes.graph.inventory import Row, Totals
    from recipes.graph.workspace import Workspace


class Status(CacheCommand):
    """`doit status`."""

    doc_purpose = "show what is cached, stale and missing"
    doc_usage = "[IMAGE ...]"
    doc_description = """Shows each artifact that is in the cache or asked for, and what it takes on disk.

States: current (made from what upstream serves), stale (made from something else), changed (not as its receipt
recorded it), partial (a download that was begun), missing (asked for and not there). What upstream serves is known as
of the last time that its list was asked for; status asks nobody.
"""
    cmd_options = (JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        known = set(space.declaration.images) | {entry.image for entry in space.session.store.entries()}
        for name in pos_args:
            if name not in known:
                raise InvalidCommand(f"{name!r} is neither declared in {space.settings.images.name} nor in the cache")
        found = inventory.rows(space, set(pos_args) or None)
        totals = inventory.totals(found)
        show(_status_json(space, found, totals) if json else _status_text(space, found, totals))
        return 0


class Path(CacheCommand):
    """`doit path KIND:NAME`."""

    doc_purpose = "print where an artifact is, for scripts"
    doc_usage = "KIND:IMAGE ..."
    doc_description = """Prints the path of each artifact that is current; fails where one is not.

The files are the cache's: clone them, do not write to them.
"""
    cmd_options = ()

    def _execute(self, pos_args: list[str]) -> int:
        space = self.space()
        if not pos_args:
            raise InvalidCommand("expected KIND:IMAGE, for example raw:ubuntu-24.04")
        paths = []
        for word in pos_args:
            kind, _, name = word.partition(":")
            image = space.images.get(name)
            if kind not in RECIPES or image is None:
                raise InvalidCommand(f"expected KIND:IMAGE as `doit list` shows them, got {word!r}")
            entry = space.session.store.entry(image)
            try:
                current = engine.is_current(entry, kind, space.identity(image))
            except LarderError as error:
                sys.stderr.write(f"{error}\n")
                return FAILED
            if not current:
                sys.stderr.write(f"{word} is not in the cache, or out of date\n  hint: doit {word}\n")
                return FAILED
            paths.append(str(entry.artifact(kind)))
        show("\n".join(paths))
        return 0


class Verify(CacheCommand):
    """`doit verify`."""

    doc_purpose = "re-hash what is cached and name what is damaged"
    doc_usage = "[IMAGE ...]"
    doc_description = """Holds the bytes of every artifact against its receipt; fails where one is damaged.

A RAW is verified by its blkhash, at the price of its data and not of its size; everything else by its digest.
"""
    cmd_options = (JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        progress = Bars(sys.stderr, space.stop) if sys.stderr.isatty() and not json else None
        results: list[dict[str, Any]] = []
        try:
            for row in inventory.rows(space, set(pos_args) or None):
                if row.state in ("missing", "partial"):
                    continue
                began = time.monotonic()
                damage: str | None = "it has no receipt"
                if row.receipt is not None:
                    entry = space.session.store.entry_of(row.image, row.arch)
                    damage = verify.damage(entry, row.receipt, jobs=space.settings.jobs, progress=progress or SILENCE)
                seconds = round(time.monotonic() - began, 3)
                results.append(
                    {
                        "image": row.image,
                        "arch": row.arch,
                        "kind": row.kind,
                        "path": str(row.path),
                        "damage": damage,
                        "seconds": seconds,
                    }
                )
        finally:
            if progress is not None:
                progress.close()
        show(_verify_json(results) if json else _verify_text(results))
        return FAILED if any(each["damage"] for each in results) else 0


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
    table = [("IMAGE", "ARCH", "ARTIFACT", "STATE", "SIZE", "ON DISK", "AGE")]
    for row in found:
        table.append(
            (
                row.image,
                row.arch,
                row.kind,
                row.state if row.declared else "not declared",
                format_size(row.size) if row.size is not None else "",
                format_size(row.allocated) if row.allocated is not None else "",
                _age(row.receipt.made) if row.receipt and row.state != "missing" else "",
            )
        )
    lines = aligned(table, right={4, 5, 6})
    lines.append("")
    artifacts = "1 artifact" if totals.artifacts == 1 else f"{totals.artifacts} artifacts"
    summary = f"{artifacts}, {format_size(totals.allocated)} on disk in {space.session.store.root}"
    if totals.holes:
        summary += f"; sparse RAW files save {format_size(totals.holes)}"
    lines.append(summary)
    if outdated := dict.fromkeys(row.image for row in found if row.outdated):
        lines.append(f"upstream has newer than is pinned, `doit update` re-pins: {', '.join(outdated)}")
    return "\n".join(lines)


def _verify_json(results: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"artifacts": list(results)}, indent=1)


def _verify_text(results: Sequence[dict[str, Any]]) -> str:
    if not results:
        return "nothing is cached"
    lines = []
    for each in results:
        name = f"{each['kind']}:{each['image']} ({each['arch']})"
        if each["damage"]:
            lines.append(f"DAMAGED  {name}: {each['damage']}\n         {each['path']}")
        else:
            lines.append(f"ok       {name} in {format_duration(each['seconds'])}")
    return "\n".join(lines)


def _age(made: str) -> str:
    return format_duration((datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds())
