"""Rebuild an artifact that was found damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import engine

if TYPE_CHECKING:
    from recipes.cache.store import Entry
    from recipes.model import Identity, Image

    from .engine import Session


def distrust(entry: Entry, kind: str) -> None:
    """Make an artifact whose bytes are not the recorded ones count as missing, for every process, from now on.

    Its file stays until another takes its place. Raise StoreError where the entry is in use or cannot be written to.
    """
    with entry.hold():
        (entry.path / f"{kind}.json").unlink(missing_ok=True)


def repair(kind: str, image: Image, identity: Identity, session: Session) -> None:
    """Bring back an artifact that is distrusted: from another image with equal bytes, else from its nearest input.

    Every artifact that was found damaged must be distrusted before, inputs be repaired before what is made from them,
    and `session` not have looked at the cache before that. Errors are those of the derivation.
    """
    if not engine.ensure_current(kind, image, identity, session):
        engine.derive(kind, image, identity, session)
