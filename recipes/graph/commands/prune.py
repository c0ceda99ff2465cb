"""`larder prune`: the cache, rid of what nobody needs."""

from __future__ import annotations

import json as jsonlib
import re
import time
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from doit.exceptions import InvalidCommand

from recipes.cache import prune, usage
from recipes.cache.prune import Policy, Standing, Verdict
from recipes.errors import InUse, LarderError
from recipes.formats.io import sparse
from recipes.project import holdings
from recipes.units import format_size, parse_size

from .command import JSON, CacheCommand, aligned, show
from .spoken import FAILED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recipes.cache.prune import Item
    from recipes.cache.store import Entry, Held
    from recipes.project.workspace import Workspace

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DRY_RUN = {
    "name": "dry_run",
    "short": "n",
    "long": "dry-run",
    "type": bool,
    "default": False,
    "help": "delete nothing, print the same list",
}
_OLDER_THAN = {
    "name": "older_than",
    "long": "older-than",
    "metavar": "AGE",
    "default": "",
    "help": "of these artifacts, only those that were not used for so long: 30d, 12h, 2w",
}
_MAX_SIZE = {
    "name": "max_size",
    "long": "max-size",
    "metavar": "SIZE",
    "default": "",
    "help": "of these artifacts, only as many, the least recently used first, as leave a cache of this size: 20GB",
}


class Prune(CacheCommand):
    """`larder prune`."""

    doc_purpose = "delete what nobody needs from the cache"
    doc_usage = ""
    doc_description = """Deletes artifacts that are not declared any more, that nobody asked for, or whose upstream has
something else by now, and what killed runs and given-up downloads left. Images of all architectures count, and those of
every project that shares the cache.

What is asked for and declared stays, whatever its age and size, and so does what is in use: what another process is
working on, or an overlay has by a hard link. Clones and Lima's cache lose nothing. Fails where something could not be
deleted.
"""
    cmd_options = (_DRY_RUN, _OLDER_THAN, _MAX_SIZE, JSON)

    def _execute(self, dry_run: bool, older_than: str, max_size: str, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        if pos_args:
            raise InvalidCommand(f"prune takes no images, and {pos_args[0]!r} is one more word than expected")
        try:
            policy = Policy(
                used_before_ns=time.time_ns() - parse_age(older_than) * 10**9 if older_than else None,
                max_size=parse_size(max_size) if max_size else None,
            )
        except ValueError as error:
            raise InvalidCommand(str(error)) from None
        items = holdings.items(space)
        verdicts = prune.decide(items, policy)
        if not dry_run:
            verdicts = _delete(space, verdicts)
        before = prune.total(items)
        show(_json(space, verdicts, before, dry_run) if json else _text(space, verdicts, before, dry_run, policy))
        return FAILED if any(verdict.failed for verdict in verdicts) else 0


def parse_age(text: str) -> int:
    """Return the seconds of an age such as ``30d``; raise ValueError where it is none."""
    match = re.fullmatch(r"(\d{1,6})(s|min|h|d|w)", text)
    if not match:
        raise ValueError(f'expected an age such as "30d", "12h" or "2w", got {text!r}')
    return int(match[1]) * _SECONDS[match[2]]


def _delete(space: Workspace, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Delete what goes, and return the verdicts as they came out."""
    done = [verdict for verdict in verdicts if verdict.kept]
    going = [verdict for verdict in verdicts if not verdict.kept]
    for (name, arch), group in groupby(going, key=lambda verdict: (verdict.item.image, verdict.item.arch)):
        some = list(group)
        if not name:
            done += map(_delete_alone, some)
            continue
        try:
            with space.session.store.entry_of(name, arch).hold() as held:
                done += _delete_from(held, some)
        except LarderError as error:
            failed = not isinstance(error, InUse)
            done += [replace(verdict, kept=error.message, failed=failed, freed=0) for verdict in some]
    return done


def _delete_alone(verdict: Verdict) -> Verdict:
    try:
        # A list that was written, or a project that came back, since it was looked at.
        if verdict.item.path.stat().st_mtime_ns != verdict.item.used_ns:
            return replace(verdict, kept="in use since a moment ago", freed=0)
        verdict.item.path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        return replace(verdict, kept=error.strerror or str(error), failed=True, freed=0)
    return verdict


def _delete_from(held: Held, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Delete what goes from an entry, and the entry with the last of it."""
    done = [_delete_one(held, verdict) for verdict in verdicts]
    # Once it is removed, whatever is at these names is of somebody who holds another lock.
    gone = any(verdict.item.path == held.entry.path or verdict.item.standing is Standing.UNDECLARED for verdict in done)
    if gone and held.entry.is_spent():
        held.remove()
    return done


def _delete_one(held: Held, verdict: Verdict) -> Verdict:
    entry, item = held.entry, verdict.item
    try:
        status = item.path.stat()
    except FileNotFoundError:
        # Whoever takes the lock removes what a dead holder left half-written.
        return verdict
    freed = sparse.allocated(status) if status.st_nlink == 1 else 0
    if item.kind:
        if _is_needed_now(entry, item) or status.st_nlink > item.links:
            return replace(verdict, kept="in use since a moment ago", freed=0)
        held.discard(item.kind)
        usage.mark(entry, item.kind).unlink(missing_ok=True)
        if item.standing is Standing.UNDECLARED:
            held.forget(item.kind)
    elif item.path == entry.part:
        if status.st_mtime_ns != item.used_ns:
            return replace(verdict, kept="in use since a moment ago", freed=0)
        held.discard_part()
    return replace(verdict, freed=freed if item.allocated else 0)


def _is_needed_now(entry: Entry, item: Item) -> bool:
    """Say whether an artifact was made, used or asked for since it was looked at."""
    asked = item.standing in (Standing.UNASKED, Standing.SUPERSEDED) and item.kind in entry.asked()
    return asked or usage.last_ns(entry, item.kind) != item.used_ns


def _json(space: Workspace, verdicts: Sequence[Verdict], before: int, dry_run: bool) -> str:
    freed = sum(verdict.freed for verdict in verdicts)
    return jsonlib.dumps(
        {
            "cache": str(space.session.store.root),
            "dry_run": dry_run,
            "pruned": [verdict.to_json() for verdict in verdicts if not verdict.kept],
            "kept": [verdict.to_json() for verdict in verdicts if verdict.kept],
            "freed": freed,
            "size": before - freed,
        },
        indent=1,
    )


def _text(space: Workspace, verdicts: Sequence[Verdict], before: int, dry_run: bool, policy: Policy) -> str:
    cache = space.session.store.root
    lines = []
    if gone := [verdict for verdict in verdicts if not verdict.kept]:
        rows = [
            (_label(verdict.item, cache), verdict.item.standing.value, format_size(verdict.freed)) for verdict in gone
        ]
        lines += [*aligned([("WHAT", "WHY", "FREED"), *rows], right={2}), ""]
    lines += [f"kept {_label(verdict.item, cache)}: {verdict.kept}" for verdict in verdicts if verdict.kept]
    freed = sum(verdict.freed for verdict in verdicts)
    verb = "would be freed" if dry_run else "freed"
    lines.append(f"{format_size(freed)} {verb}; {format_size(before - freed)} of artifacts stay in {cache}")
    if policy.max_size is not None and before - freed > policy.max_size:
        lines.append(
            f"that is more than {format_size(policy.max_size)}: what stays is asked for and declared, or in use"
        )
    return "\n".join(lines)


def _label(item: Item, cache: Path) -> str:
    if item.kind:
        return f"{item.kind}:{item.image} ({item.arch})"
    return str(item.path.relative_to(cache))
