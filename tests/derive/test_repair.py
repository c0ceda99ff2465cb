from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.derive.repair import distrust, repair
from recipes.errors import StoreError
from tests.kit.disks import damage
from tests.kit.machines import Machine

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_distrusted_is_made_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", "localhost:1")
    machine.build()
    path = machine.entry.artifact("raw")
    good = path.read_bytes()
    damage(path)
    distrust(machine.entry, "raw")
    assert machine.entry.current("raw", machine.key()) is None
    # It stays until another takes its place.
    assert path.read_bytes() != good
    repair("raw", machine.image, machine.identity, machine.session)
    assert path.read_bytes() == good


def test_an_entry_in_use_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", "localhost:1")
    machine.build()
    with machine.entry.hold(), pytest.raises(StoreError, match="in use"):
        distrust(machine.entry, "raw")
    assert machine.entry.current("raw", machine.key()) is not None
