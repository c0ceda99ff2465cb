"""What the tests of downloads have in common: bytes, a download of them, and what may be left of it."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import Interrupted
from recipes.model import Digest
from recipes.sources.access import Access
from recipes.sources.download import Downloaded, Wanted, download

from .watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

DATA = random.Random(1).randbytes(1_000_000)
OTHER = random.Random(2).randbytes(1_000_000)
OLD = "Thu, 01 Jan 2026 00:00:00 GMT"


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def sidecar(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def fetch(
    url: str | list[str],
    part: Path,
    *,
    data: bytes = DATA,
    digest: Digest | None = None,
    size: int | None = None,
    offline: bool = False,
    watch: Watch | None = None,
) -> Downloaded:
    return download(
        [url] if isinstance(url, str) else url,
        part,
        Access(offline=offline, progress=watch or Watch()),
        wanted=Wanted(digest or digest_of(data), size),
        label="debian-13",
    )


def assert_arrived(part: Path, data: bytes = DATA) -> None:
    assert part.read_bytes() == data
    assert list(part.parent.iterdir()) == [part], "the sidecar and everything else is gone"


def assert_nothing_kept(part: Path) -> None:
    assert not list(part.parent.iterdir())


def interrupted(url: str, part: Path, **arguments: Any) -> int:
    """Interrupt a download, which leaves what a kill leaves; return how much of it is there."""
    with pytest.raises(Interrupted):
        fetch(url, part, watch=Watch(interrupt_at=100_000), **arguments)
    return part.stat().st_size
