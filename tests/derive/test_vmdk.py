from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from recipes.formats.io import blkhash
from recipes.progress import SILENT_METER
from tests.kit.machines import Machine
from tests.kit.oracles import need
from tests.kit.project import disk

if TYPE_CHECKING:
    from pathlib import Path


def machine(path: Path, data: bytes) -> Machine:
    made = Machine(path, "registry.invalid", data=data)
    made.image = made.image._replace(derive=("vmdk",))
    return made


def test_qemu_finds_the_same_disk(tmp_path: Path) -> None:
    need("qemu-img")
    made = machine(tmp_path / "a", disk("thing"))
    receipt = made.build("vmdk")
    path = made.entry.artifact("vmdk")
    assert path.read_bytes().startswith(b"KDMV")
    assert receipt.artifact.blkhash == blkhash.of_file(path, jobs=1, meter=SILENT_METER)
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, raw], check=True, timeout=60)
    assert raw.read_bytes() == disk("thing")
    assert made.entry.kinds() == ["vmdk"], "what was passed through goes"


def test_the_same_disk_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = machine(tmp_path / "a", disk("thing")), machine(tmp_path / "b", disk("thing"))
    assert one.build("vmdk").artifact.blkhash == other.build("vmdk").artifact.blkhash
    assert machine(tmp_path / "c", disk("another")).build("vmdk").artifact.blkhash != one.build("vmdk").artifact.blkhash
