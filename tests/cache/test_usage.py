from __future__ import annotations

import os
from typing import TYPE_CHECKING

from recipes.cache import usage
from recipes.cache.store import Store
from tests.kit.receipts import publish

if TYPE_CHECKING:
    from pathlib import Path


def test_the_last_use_is_of_each_kind(tmp_path: Path) -> None:
    entry = Store(tmp_path).entry_of("a", "x86_64")
    with entry.hold() as held:
        publish(held, "k", b"bytes")
    usage.record(entry, "raw")
    os.utime(usage.mark(entry, "raw"), ns=(10**18, 10**18))
    assert usage.last_ns(entry, "raw") >= 10**18
    before = usage.last_ns(entry, "raw")
    usage.record(entry, "raw")
    assert usage.last_ns(entry, "raw") >= before
    assert usage.last_ns(entry, "fetch") == 0


def test_a_cache_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    entry = Store(tmp_path / "cache").entry_of("a", "x86_64")
    usage.record(entry, "raw")
    assert not (tmp_path / "cache").exists()
