from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.derive.verify import damage
from recipes.progress import SILENCE
from tests.kit.disks import damage as spoil
from tests.kit.machines import Machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("kind", "what"), [("raw", "blkhash"), ("fetch", "digest")])
def test_what_is_wrong_is_said_in_digests(tmp_path: Path, kind: str, what: str) -> None:
    machine = Machine(tmp_path / "a", "localhost:1")
    receipt = machine.build(kind)
    path = machine.entry.artifact(kind)
    assert damage(machine.entry, receipt, jobs=1, progress=SILENCE) is None
    spoil(path)
    said = damage(machine.entry, receipt, jobs=1, progress=SILENCE)
    assert said is not None
    assert said.startswith(f"expected {what} {'blake3' if kind == 'raw' else 'sha256'}:")
    assert "BlockHash" not in said
    path.chmod(0o644)
    path.write_bytes(b"short")
    assert "bytes, found 5" in str(damage(machine.entry, receipt, jobs=1, progress=SILENCE))
    path.unlink()
    assert damage(machine.entry, receipt, jobs=1, progress=SILENCE) == "the file is missing"
