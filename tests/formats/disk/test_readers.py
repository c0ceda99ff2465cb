"""What larder writes, by the readers of others; and what others write, by those and by larder's own."""

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from recipes.formats.disk.vmdk.write import GRAIN
from recipes.steps import disks
from recipes.steps.step import Request
from tests.kit.disk_images import disk, made, read_all
from tests.kit.disk_readers import by_dissect, by_libyal
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import Qcow2Compression

MiB = 1 << 20
#: Sectors that fill no cluster, grain or block, and one disk of whole ones.
SIZES = (512, 4 * MiB, 37 * MiB + 1536)
#: What each target pads the disk to.
UNITS = {"qcow2": 512, "vmdk": GRAIN, "vhd": MiB, "vhdx": 512}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("target", "compression"), [(each, "zlib") for each in UNITS] + [("qcow2", "zstd")])
def test_others_find_the_disk_that_is_written(
    target: str, compression: Qcow2Compression, size: int, tmp_path: Path
) -> None:
    # Of a VMDK libvmdk opens the file that the descriptor names, even if it is in that file.
    raw, path = disk(tmp_path / "raw", size), tmp_path / f"disk.{target}"
    disks.convert(Request(raw, path, 2, 1 << 40, False, False, threading.Event()), disks.Wish(target, compression))
    wanted = raw.read_bytes().ljust(-(-size // UNITS[target]) * UNITS[target], b"\0")
    assert by_dissect(path, target) == wanted
    if target != "qcow2":
        assert by_libyal(path, target) == wanted


def test_vmdkinfo_says_what_it_is(tmp_path: Path) -> None:
    need("vmdkinfo")
    raw, path = disk(tmp_path / "raw", 4 * MiB), tmp_path / "disk.vmdk"
    disks.convert(Request(raw, path, 2, 1 << 40, False, False, threading.Event()), disks.Wish("vmdk"))
    said = subprocess.run(["vmdkinfo", path], capture_output=True, text=True, check=True).stdout
    assert "Stream optimized" in said
    assert f"({4 * MiB} bytes)" in said


#: What QEMU writes, by its words for it: the format as larder calls it, and options.
WRITTEN = {
    "qcow2": ("qcow2", ("cluster_size=4k",)),
    "vdi": ("vdi", ()),
    "vmdk": ("vmdk", ("subformat=monolithicSparse",)),
    "vmdk stream": ("vmdk", ("subformat=streamOptimized",)),
    "vpc": ("vhd", ("subformat=dynamic", "force_size=on")),
    "vpc fixed": ("vhd", ("subformat=fixed", "force_size=on")),
    "vhdx": ("vhdx", ("block_size=2M",)),
    "vhdx fixed": ("vhdx", ("subformat=fixed",)),
}


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("written", WRITTEN)
def test_others_find_what_larder_finds(written: str, size: int, tmp_path: Path) -> None:
    need("qemu-img")
    form, options = WRITTEN[written]
    raw = disk(tmp_path / "raw", size)
    path = made(raw, written.split()[0], *options)
    found = read_all(path, form)
    assert found == raw.read_bytes().ljust(len(found), b"\0")
    # dissect fails at the end of a VMDK that ends within a grain.
    if form != "vmdk" or size % GRAIN == 0:
        assert by_dissect(path, form) == found
    if form in ("vmdk", "vhd", "vhdx"):
        assert by_libyal(path, form) == found
