from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from recipes.derive.restored import adopt
from recipes.formats.io import sparse
from recipes.progress import SILENCE
from tests.kit.disks import damage
from tests.kit.machines import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.receipt import Receipt


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "a", "localhost:1")


def adopted(machine: Machine, receipt: Receipt) -> bool:
    return adopt(machine.entry, receipt, jobs=1, progress=SILENCE)


def test_another_mtime_is_put_right_if_the_bytes_are(machine: Machine) -> None:
    receipt = machine.build()
    path = machine.entry.artifact("raw")
    os.utime(path, ns=(0, receipt.artifact.mtime_ns // 10**9 * 10**9))
    assert not machine.entry.matches(receipt)
    assert adopted(machine, receipt)
    assert machine.entry.matches(receipt)


def test_other_bytes_are_not_taken(machine: Machine) -> None:
    receipt = machine.build()
    path = machine.entry.artifact("raw")
    damage(path)
    os.utime(path, ns=(0, 0))
    assert not adopted(machine, receipt)
    assert path.stat().st_mtime_ns == 0


def test_what_lost_its_holes_gets_them_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", "localhost:1", data=b"MBR".ljust(510, b"\0") + b"\x55\xaa" + bytes(8 << 20))
    receipt = machine.build()
    path = machine.entry.artifact("raw")
    small = sparse.allocated(path)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole)
    os.utime(path, ns=(0, receipt.artifact.mtime_ns))
    if sparse.allocated(path) < len(whole):
        pytest.skip("the file system makes holes by itself")
    assert adopted(machine, receipt)
    assert sparse.allocated(path) <= small + (1 << 20)
    assert path.read_bytes() == whole
