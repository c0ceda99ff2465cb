from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io import blkhash
from recipes.progress import SILENT_METER
from tests.kit.machines import Machine
from tests.kit.oracles import need
from tests.kit.project import disk

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import Qcow2Compression


def machine(path: Path, data: bytes, compression: Qcow2Compression = "zstd") -> Machine:
    made = Machine(path, "registry.invalid", data=data)
    made.image = made.image._replace(derive=("qcow2",), qcow2_compression=compression)
    return made


@pytest.mark.parametrize("compression", ["zstd", "zlib"])
def test_qemu_finds_the_same_disk(compression: Qcow2Compression, tmp_path: Path) -> None:
    need("qemu-img")
    made = machine(tmp_path / "a", disk("thing"), compression)
    receipt = made.build("qcow2")
    path = made.entry.artifact("qcow2")
    # The compression type is in the header of those that QEMU before 5.1 does not read.
    assert path.read_bytes()[104] == (compression == "zstd")
    assert receipt.artifact.blkhash == blkhash.of_file(path, jobs=1, meter=SILENT_METER)
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True, timeout=60)
    assert raw.read_bytes() == disk("thing")
    assert made.entry.kinds() == ["qcow2"], "what was passed through goes"


def test_another_compression_is_another_artifact(tmp_path: Path) -> None:
    made = machine(tmp_path / "a", disk("thing"))
    first = made.build("qcow2")
    assert made.build("qcow2").made == first.made
    made.image = made.image._replace(qcow2_compression="zlib")
    assert made.build("qcow2").key != first.key
    assert made.entry.artifact("qcow2").read_bytes()[104] == 0


def test_the_same_disk_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = machine(tmp_path / "a", disk("thing")), machine(tmp_path / "b", disk("thing"))
    assert one.build("qcow2").artifact.blkhash == other.build("qcow2").artifact.blkhash
