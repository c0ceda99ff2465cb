from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.derive.ext4 import parameters
from recipes.errors import ImageError
from tests.kit.debian import run
from tests.kit.machines import Machine
from tests.kit.oci_images import file, folder, tar
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
ROOT = tar(folder("etc"), file("etc/fstab", b"/dev/vda / ext4\n"), file("etc/data", bytes(range(256)) * 400))


def machine(path: Path, size: int = 64 * MiB, data: bytes = ROOT, *, journal: bool = True) -> Machine:
    made = Machine(path, "registry.invalid", data=data)
    made.image = made.image._replace(kind="rootfs", derive=("ext4",), ext4_size=size, ext4_journal=journal)
    return made


@pytest.mark.parametrize("journal", [True, False])
def test_a_file_system_of_the_declared_size(journal: bool, tmp_path: Path) -> None:
    need("e2fsck", "debugfs")
    made = machine(tmp_path / "a", journal=journal)
    receipt = made.build("ext4")
    path = made.entry.artifact("ext4")
    assert path.stat().st_size == receipt.artifact.size == 64 * MiB
    assert receipt.artifact.blkhash is not None
    run("e2fsck", "-fn", path)
    assert made.entry.kinds() == ["ext4"], "what was passed through goes"


def test_what_a_machine_will_miss_is_said_once(tmp_path: Path) -> None:
    made = machine(tmp_path / "a")
    made.build("ext4")
    assert [note.partition(": it has ")[2].split(":")[0] for note in made.progress.notes] == [
        "no init",
        "no /etc/resolv.conf",
    ]


def test_the_same_root_gives_the_same_file_system(tmp_path: Path) -> None:
    one, other = machine(tmp_path / "a"), machine(tmp_path / "b")
    assert one.build("ext4").artifact.blkhash == other.build("ext4").artifact.blkhash


def test_size_journal_and_label_are_part_of_the_key(tmp_path: Path) -> None:
    made = machine(tmp_path / "a")
    assert parameters(made.image, made.identity) == {"size": 64 * MiB, "journal": True, "label": "thing"}
    others = [machine(tmp_path / "b", 128 * MiB), machine(tmp_path / "c", journal=False)]
    assert len({made.key("ext4"), *(other.key("ext4") for other in others)}) == 3
    assert {other.key("rootfs") for other in others} == {made.key("rootfs")}


def test_a_root_that_does_not_fit(tmp_path: Path) -> None:
    made = machine(tmp_path / "a", 64 * MiB, tar(folder("etc"), file("etc/data", b"x" * (70 * MiB))))
    with pytest.raises(ImageError, match="MiB"):
        made.build("ext4")
    assert not made.entry.artifact("ext4").exists()
