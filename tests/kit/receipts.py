"""Artifacts that nobody made, and their receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.cache.receipt import Receipt, Served
from recipes.model import Artifact, Digest, Identity, Wrapper

if TYPE_CHECKING:
    from recipes.cache.store import Held

DIGEST = Digest("sha256", "a" * 64)


def receipt(key: str, kind: str = "raw") -> Receipt:
    return Receipt(
        kind=kind,
        key=key,
        recipe=f"{kind}/1",
        image="a",
        arch="x86_64",
        identity=Identity(("https://example.org/a.img",), DIGEST, 5),
        when="2026-01-01T00:00:00Z",
        served=Served("https://example.org/a.img"),
        wrapper=Wrapper(DIGEST, 5),
        artifact=Artifact(0, 0, 0, digest=DIGEST),
        made="2026-01-01T00:00:00Z",
    )


def publish(held: Held, key: str, data: bytes, kind: str = "raw") -> Receipt:
    path = held.temporary(kind)
    path.write_bytes(data)
    return held.publish(path, receipt(key, kind))
