from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.derive.vhdx import parameters
from recipes.errors import ImageError
from tests.kit.machines import Machine
from tests.kit.oci_images import file, folder, tar

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
ROOT = tar(folder("etc"), file("etc/data", bytes(range(256)) * 400))


def machine(path: Path, size: int = 64 * MiB, data: bytes = ROOT) -> Machine:
    made = Machine(path, "registry.invalid", data=data)
    made.image = made.image._replace(kind="rootfs", derive=("vhdx",), vhdx_size=size)
    return made


def test_a_disk_of_the_declared_size(tmp_path: Path) -> None:
    made = machine(tmp_path / "a")
    receipt = made.build("vhdx")
    path = made.entry.artifact("vhdx")
    assert path.read_bytes().startswith(b"vhdxfile")
    assert (64 * MiB).to_bytes(8, "little") in path.read_bytes()[: 4 * MiB]
    assert receipt.artifact.blkhash is not None
    assert made.entry.kinds() == ["vhdx"], "what was passed through goes"


def test_the_same_root_gives_the_same_disk(tmp_path: Path) -> None:
    one, other = machine(tmp_path / "a"), machine(tmp_path / "b")
    assert one.build("vhdx").artifact.blkhash == other.build("vhdx").artifact.blkhash
    larger = machine(tmp_path / "c", 128 * MiB)
    assert larger.build("vhdx").artifact.blkhash != one.build("vhdx").artifact.blkhash


def test_the_size_is_part_of_the_key(tmp_path: Path) -> None:
    made = machine(tmp_path / "a")
    assert parameters(made.image, made.identity) == {"size": 64 * MiB}
    assert machine(tmp_path / "b", 128 * MiB).key("vhdx") != made.key("vhdx")
    assert machine(tmp_path / "b", 128 * MiB).key("rootfs") == made.key("rootfs")


def test_a_root_that_does_not_fit(tmp_path: Path) -> None:
    made = machine(tmp_path / "a", 64 * MiB, tar(folder("etc"), file("etc/data", b"x" * (70 * MiB))))
    with pytest.raises(ImageError, match="MiB"):
        made.build("vhdx")
    assert made.entry.receipt("vhdx") is None
    assert not made.entry.artifact("vhdx").exists()
