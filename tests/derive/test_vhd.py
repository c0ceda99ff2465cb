from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from recipes.formats.disk.vhd.write import disk_size
from recipes.formats.io import blkhash
from recipes.progress import SILENT_METER
from tests.kit.machines import Machine
from tests.kit.oracles import need
from tests.kit.project import disk

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20


def machine(path: Path, data: bytes) -> Machine:
    made = Machine(path, "registry.invalid", data=data)
    made.image = made.image._replace(derive=("vhd",))
    return made


def test_the_disk_is_padded_to_whole_mib_with_a_footer_behind(tmp_path: Path) -> None:
    data = disk("thing") + b"x" * 512
    made = machine(tmp_path / "a", data)
    receipt = made.build("vhd")
    path = made.entry.artifact("vhd")
    whole = path.read_bytes()
    size = disk_size(len(data))
    assert size % MiB == 0
    assert len(whole) == size + 512
    assert whole[:size] == data.ljust(size, b"\0")
    assert receipt.artifact.blkhash == blkhash.of_file(path, jobs=1, meter=SILENT_METER)
    assert made.entry.kinds() == ["vhd"], "what was passed through goes"


def test_qemu_takes_it_for_that_disk(tmp_path: Path) -> None:
    need("qemu-img")
    data = disk("thing")
    made = machine(tmp_path / "a", data)
    made.build("vhd")
    raw = tmp_path / "raw"
    subprocess.run(
        ["qemu-img", "convert", "-f", "vpc", "-O", "raw", made.entry.artifact("vhd"), raw], check=True, timeout=60
    )
    assert raw.read_bytes() == data.ljust(disk_size(len(data)), b"\0")


def test_a_raw_that_is_asked_for_stays_as_it_is(tmp_path: Path) -> None:
    made = machine(tmp_path / "a", disk("thing"))
    made.image = made.image._replace(derive=("raw", "vhd"))
    made.build("vhd")
    assert made.entry.artifact("raw").read_bytes() == disk("thing")


def test_the_same_disk_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = machine(tmp_path / "a", disk("thing")), machine(tmp_path / "b", disk("thing"))
    assert one.build("vhd").artifact.blkhash == other.build("vhd").artifact.blkhash
    another = machine(tmp_path / "c", disk("another"))
    assert another.build("vhd").artifact.blkhash != one.build("vhd").artifact.blkhash
