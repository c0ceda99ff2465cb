"""What an entry has of an image, and for whom: the one look that status, plan, prune and keys share."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from recipes import declare
from recipes.cache import roots, store
from recipes.derive import engine
from recipes.errors import LarderError, StoreError
from recipes.kinds import DERIVABLE, KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Entry
    from recipes.model import Identity, Image

    from .workspace import Workspace

#: current: made from what upstream serves; stale: made from something else; changed: not as its receipt recorded it;
#: partial: a download that was begun; missing: asked for and not there.
State = Literal["current", "stale", "changed", "partial", "missing"]


class Declared(NamedTuple):
    """An image as one of the projects that share the cache declares it."""

    #: The images.toml that does.
    project: Path
    image: Image


@dataclass(frozen=True, slots=True)
class Found:
    """What an entry has of one kind."""

    path: Path
    #: None where nothing is there and nobody asks for it.
    state: State | None
    receipt: Receipt | None
    #: The projects whose `derive` asks for it, and whether a command line did.
    projects: tuple[Path, ...]
    named: bool
    #: Whether it is asked for, or lacked by an asked-for derivation that is not there yet.
    wanted: bool
    #: What an artifact that is made from what upstream serves now has for a key: one for each declaration that differs.
    keys: frozenset[str]

    @property
    def asked(self) -> bool:
        """Say whether somebody asks for it by name."""
        return self.named or bool(self.projects)


@dataclass(frozen=True, slots=True)
class Look:
    """What an entry has of an image that nobody declares, or somebody, or several do."""

    entry: Entry
    declared: tuple[Declared, ...]
    #: Whether upstream's list was seen for every declaration: what is not current may be so for the others otherwise.
    known: bool
    #: By kind, in the order of the table.
    found: Mapping[str, Found]


def look(space: Workspace, entry: Entry, declared: Sequence[Declared]) -> Look:
    """Look at `entry`, which is the image's that the projects `declared` declare; nothing is read but receipts."""
    identities, known = _identities(space, declared)
    named = entry.asked()
    receipts = {kind: entry.receipt(kind) for kind in KINDS}
    intact = {kind for kind, receipt in receipts.items() if receipt is not None and entry.matches(receipt)}
    keys: dict[str, set[str]] = {kind: set() for kind in KINDS}
    wanted: set[str] = set()
    for image, identity in identities:
        mine = {kind: engine.key_of(kind, image, identity) for kind in DERIVABLE[image.kind]}
        for kind, key in mine.items():
            keys[kind].add(key)
        current = {kind for kind in intact & mine.keys() if _key(receipts[kind]) == mine[kind]}
        wanted |= engine.needed(image, {*image.derive, *named}, current.__contains__)
    found = {}
    for kind, receipt in receipts.items():
        projects = tuple(each.project for each in declared if kind in each.image.derive)
        path = entry.artifact(kind)
        state: State | None = None
        if store.is_there(path):
            state = "changed" if kind not in intact else "current" if _key(receipt) in keys[kind] else "stale"
        elif kind == "fetch" and store.is_there(entry.part):
            path, state = entry.part, "partial"
        elif declared and (projects or kind in named):
            state = "missing"
        found[kind] = Found(path, state, receipt, projects, kind in named, kind in wanted, frozenset(keys[kind]))
    return Look(entry, tuple(declared), known, found)


def look_at(space: Workspace, image: Image) -> Look:
    """Look at what this project has of `image`; raise a LarderError where its list was never seen."""
    space.identity(image)
    return look(space, space.session.store.entry(image), (Declared(space.settings.images, image),))


def asked_of(space: Workspace, image: Image) -> set[str]:
    """Return the kinds that are asked for of `image`, here or on a command line."""
    return {*image.derive, *space.session.store.entry(image).asked()} & set(DERIVABLE[image.kind])


def everybodys(space: Workspace, *, strict: bool) -> dict[tuple[str, str], list[Declared]]:
    """Return what the projects that share the cache declare, by name and architecture; this project's comes first.

    A project that cannot be read is left out, or with `strict`, for what may delete, raises StoreError.
    """
    declarations = {space.settings.images: space.declaration}
    for file, path in roots.registered(space.session.store.root, strict=strict).items():
        if path in declarations or store.is_gone(path):
            continue
        try:
            declarations[path] = declare.load(path, validated=space.session.store.root / "validated")
        except LarderError as error:
            if strict:
                raise StoreError(
                    f"another project shares this cache, and what it declares cannot be read:\n{error}",
                    hint=f"repair it, or prune as somebody who may read it; if that project is no more, delete {file}",
                ) from error
    found: dict[tuple[str, str], list[Declared]] = {}
    for path, declaration in declarations.items():
        for by_arch in declaration.images.values():
            for image in by_arch.values():
                found.setdefault((image.name, image.arch), []).append(Declared(path, image))
    return found


def _key(receipt: Receipt | None) -> str | None:
    return receipt.key if receipt else None


def _identities(space: Workspace, declared: Sequence[Declared]) -> tuple[list[tuple[Image, Identity]], bool]:
    """Return what upstream serves for each declaration whose list was seen, and whether that is all of them."""
    found = []
    for each in declared:
        with suppress(LarderError):
            found.append((each.image, space.identity(each.image)))
    return found, len(found) == len(declared)
