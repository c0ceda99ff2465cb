"""`larder plan`: what would run, and the sizes that are known before any of it does."""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import TYPE_CHECKING

from recipes.console import console
from recipes.graph.missing import unknown
from recipes.kinds import DERIVABLE
from recipes.project import look
from recipes.project import plan as facts
from recipes.units import format_size

from .command import JSON, CacheCommand, aligned, show
from .spoken import FAILED

if TYPE_CHECKING:
    from recipes.project.plan import Row, Totals
    from recipes.project.workspace import Workspace

#: Notes that differ in their urls only and are all shown, and images that are named of the others.
_ALIKE, _NAMED = 2, 6
_URL = re.compile(r"\S+://\S+: ")


class Plan(CacheCommand):
    """`larder plan`."""

    doc_purpose = "show what would run, and the sizes that are known up front"
    doc_usage = "[IMAGE | KIND:IMAGE ...]"
    doc_description = """Shows what would be made of each image that is not current: what is still to be downloaded, the
size of the content and of the virtual disk, and what is released in the end. Of a disk that is here, it says which file
system is the root.

Sizes come from images.toml, checksum lists, receipts, and a few bytes of the image, read from upstream. "?" is what is
not known before the download: gzip and bzip2 do not say how much they hold. Nothing is made or downloaded, and the
registry of [cache] is not asked: what it has is pulled instead, which is left out of account. Fails where
nothing is known of any image, since no list can be had.
"""
    cmd_options = (JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        named = selection(space, pos_args or list(space.images))
        progress = console(sys.stderr, space.stop)
        try:
            rows = facts.rows(space, named, progress)
        finally:
            progress.close()
        sums = facts.totals(rows, shutil.disk_usage(space.session.store.root).free)
        show(_json(space, rows, sums) if json else _text(space, rows, sums))
        return FAILED if rows and all(row.identity is None for row in rows) else 0


def selection(space: Workspace, words: list[str]) -> dict[str, set[str]]:
    """Return the kinds that each image is wanted in, of those that have any."""
    named: dict[str, set[str]] = {}
    for word in words:
        kind, colon, name = word.rpartition(":")
        image = space.images.get(name)
        if image is None or (colon and kind not in DERIVABLE[image.kind]):
            raise unknown(word)
        if kinds := {kind} if colon else look.asked_of(space, image):
            named.setdefault(name, set()).update(kinds)
    return named


def _json(space: Workspace, rows: list[Row], sums: Totals) -> str:
    return json.dumps(
        {
            "cache": str(space.session.store.root),
            "offline": space.settings.offline,
            "images": [row.to_json() for row in rows],
            "totals": sums.to_json(),
        },
        indent=1,
    )


def _text(space: Workspace, rows: list[Row], sums: Totals) -> str:
    if not rows:
        return "nothing to do: what is asked for is current"
    table: list[tuple[str, ...]] = [("IMAGE", "RUNS", "DOWNLOAD", "CONTENT", "VIRTUAL", "RELEASED")]
    for row in rows:
        sizes = (row.download, row.content_size, row.virtual_size)
        table.append((row.image.name, " ".join(row.runs), *map(_size, sizes), " ".join(row.released)))
    lines = [*aligned(table, right={2, 3, 4}), ""]
    lines += _notes(rows)
    for row in rows:
        if row.root:
            lines.append(f"{row.image.name}: its root file system is {row.root}")
        if row.resumed:
            lines.append(f"{row.image.name}: {format_size(row.resumed)} of it are here already")
    if space.settings.offline:
        lines.append("LARDER_OFFLINE is set: upstream was not asked")
    elif space.remote and any("fetch" in row.runs for row in rows):
        lines.append(f"{space.remote.namespace} was not asked: a run pulls what it has instead of downloading it")
    if lines[-1]:
        lines.append("")
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    more = f", and {sums.unknown} of unknown size" if sums.unknown else ""
    lines.append(f"{images} for {space.settings.arch}: {format_size(sums.download)} to download{more}")
    lines.append(_room(space, sums))
    return "\n".join(lines)


def _notes(rows: list[Row]) -> list[str]:
    """Return what a person should know; of what holds for many images, as that there is no network, the first."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for note in row.notes:
            reason = _URL.sub("", note.removeprefix(f"{row.image.name}: "))
            alike.setdefault(reason, []).append((row.image.name, note))
    lines = []
    for found in alike.values():
        few = found if len(found) <= _ALIKE else found[:1]
        lines += [note for _, note in few]
        if rest := [name for name, _ in found[len(few) :]]:
            more = f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
            lines.append(f"  so it is with {', '.join(rest[:_NAMED])}{more}")
    return lines


def _size(size: int | None) -> str:
    return "?" if size is None else format_size(size)


def _room(space: Workspace, sums: Totals) -> str:
    free = f"{format_size(sums.free)} free in {space.session.store.root}"
    if sums.peak.most is None:
        least = f"{free}; at least {format_size(sums.peak.least)} needed"
        return f"{least}: not enough" if sums.suffices is False else f"{least}, how much in all is not known"
    needed = f"{format_size(sums.peak.most)} needed at most"
    if sums.kept.most is not None and sums.kept.most < sums.peak.most:
        needed += f", {format_size(sums.kept.most)} of it to stay"
    verdict = {True: "enough", False: "not enough", None: "may not be enough"}
    return f"{free}; {needed}: {verdict[sums.suffices]}"
