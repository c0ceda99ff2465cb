"""What goes when the cache is pruned, and why: a decision over facts, which does nothing itself.

What nobody asked for, or nobody declares any more, goes; so does what killed runs and given-up downloads left. Age and
total size only choose among that: an artifact that is asked for and declared is never pruned, however old it is, nor
one that is in use.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from recipes.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class Standing(Enum):
    """What a file is to the projects that use the cache."""

    #: An artifact that is asked for, or that an asked-for derivation lacks; a list that an image follows.
    WANTED = "wanted"
    #: Nothing tells whether it is wanted: its checksum list was never seen.
    UNKNOWN = "unknown"
    UNDECLARED = "not declared any more"
    SUPERSEDED = "superseded: upstream serves something else"
    UNASKED = "nobody asked for it"
    ABANDONED = "a download that was given up"
    #: What no run can use: left by one that was killed, or kept for a declaration that is no more.
    LEFTOVER = "left over"


_STAYS = frozenset({Standing.WANTED, Standing.UNKNOWN})


class Inode(NamedTuple):
    """A file, whatever its names."""

    device: int
    number: int


@dataclass(frozen=True, slots=True)
class Item:
    """A file of the cache, by one of its names. Sizes are bytes, times nanoseconds since the epoch."""

    path: Path
    standing: Standing
    inode: Inode
    #: The names that the file has, in the cache and elsewhere.
    links: int
    allocated: int
    #: When it was last used, or made.
    used_ns: int = 0
    #: Another process is working on its entry.
    busy: bool = False
    #: Where it is part of an entry.
    image: str = ""
    arch: str = ""
    #: The kind of an artifact; empty for everything else.
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What was asked for on the command line; None is no restriction."""

    #: Artifacts that were used since then stay, in nanoseconds since the epoch.
    used_before_ns: int | None = None
    #: Only so much goes that the cache has this many bytes, the least recently used first.
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a file that might go."""

    item: Item
    #: Why it stays; None where it goes.
    kept: str | None = None
    #: Whether it should have gone, and could not be deleted.
    failed: bool = False
    #: Bytes that the file system gets back; those of a file with several names go with the last of them.
    freed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the verdict for scripts."""
        item = self.item
        return {
            "path": str(item.path),
            "image": item.image or None,
            "arch": item.arch or None,
            "kind": item.kind or None,
            "why": item.standing.value,
            "kept": self.kept,
            "failed": self.failed,
            "freed": self.freed,
        }


def decide(items: Sequence[Item], policy: Policy) -> list[Verdict]:
    """Return a verdict on each of `items`, all files of the cache, that nobody needs; those that go in their order.

    Raise StoreError where no artifact would be left, and that for want of a declaration: then it is the declarations
    that are missing.
    """
    here = Counter(item.inode for item in items)
    chosen, kept = [], []
    for item in items:
        if item.standing in _STAYS:
            continue
        reason = _in_use(item, here[item.inode])
        if reason is None and item.kind and policy.used_before_ns is not None and item.used_ns >= policy.used_before_ns:
            continue
        if reason is None:
            chosen.append(item)
        else:
            kept.append(Verdict(item, reason))
    # What is no artifact is of no use to anybody, and goes first.
    chosen.sort(key=lambda item: (bool(item.kind), item.used_ns))
    if policy.max_size is not None:
        chosen = _until(chosen, total(items), policy.max_size)
    _require_some_left(items, chosen)
    return [*_with_gains(chosen), *kept]


def total(items: Iterable[Item]) -> int:
    """Return the bytes that `items` have on the disk; a file with several names counts once."""
    return sum({item.inode: item.allocated for item in items}.values())


def _in_use(item: Item, names: int) -> str | None:
    if item.busy:
        return "in use by another process"
    # Of a leftover nobody keeps a link, and what killed runs left of a publication may have two names in the cache.
    if item.kind and item.links > names:
        return "in use: an overlay or another program has it by a hard link"
    return None


def _with_gains(chosen: Iterable[Item]) -> list[Verdict]:
    gone: Counter[Inode] = Counter()
    verdicts = []
    for item in chosen:
        gone[item.inode] += 1
        verdicts.append(Verdict(item, freed=item.allocated if gone[item.inode] == item.links else 0))
    return verdicts


def _until(chosen: list[Item], size: int, limit: int) -> list[Item]:
    """Return as many of `chosen` as are needed to come from `size` to `limit`; leftovers in any case."""
    needed = []
    for verdict in _with_gains(chosen):
        if verdict.item.kind and size <= limit:
            break
        size -= verdict.freed
        needed.append(verdict.item)
    return needed


def _require_some_left(items: Iterable[Item], chosen: Sequence[Item]) -> None:
    going = {item.path for item in chosen}
    left = any(item.kind and item.path not in going for item in items)
    if not left and any(item.kind and item.standing is Standing.UNDECLARED for item in chosen):
        raise StoreError(
            "nothing was deleted: it would be every artifact in the cache, since none of them is declared",
            hint="LARDER_IMAGES names the declarations, LARDER_CACHE the cache; to empty it, delete its folder",
        )
