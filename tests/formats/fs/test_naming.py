"""What devices and subvolumes are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from recipes.formats.fs import naming
from recipes.formats.fs.devices import Device
from recipes.formats.fs.partitions import Partition

if TYPE_CHECKING:
    from recipes.formats.fs.btrfs import Btrfs

GUID = "11111111-0000-4000-8000-00000000000a"
THIRD = Device("xfs", None, Partition(3, 512, 512, "", "My part", "gpt", GUID))
VOLUME = Device("xfs", None, None, "my-vg/ro-ot")
TWIN = Device("ext4", None, Partition(4, 512, 512, "", "My part", "gpt", ""))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/dev/sda3", [THIRD]),
        ("/dev/nvme0n1p3", [THIRD]),
        ("/dev/mmcblk0p03", [THIRD]),
        (f"PARTUUID={GUID.upper()}", [THIRD]),
        (f"/dev/disk/by-partuuid/{GUID}", [THIRD]),
        ("PARTLABEL=My part", [THIRD, TWIN]),
        ("/dev/disk/by-partlabel/My\\x20part", [THIRD, TWIN]),
        ("/dev/my-vg/ro-ot", [VOLUME]),
        ("/dev/mapper/my--vg-ro--ot", [VOLUME]),
        ("/dev/disk/by-path/pci-0", []),
        ("/dev/sda9", []),
        ("PARTLABEL=my part", []),
        ("UUID=", []),
        ("", []),
    ],
)
def test_devices(name: str, expected: list[Device]) -> None:
    assert naming.Names([THIRD, VOLUME, TWIN]).find(name) == expected


class _System:
    default = "the default"

    def subvolume(self, which: int | bytes) -> str:
        return f"{which!r}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "the default"),
        ({"subvol": "/@"}, "b'/@'"),
        ({"subvolid": "257"}, "257"),
        ({"subvolid": "257", "subvol": "@"}, "257"),
        ({"subvolid": "x", "subvol": "@"}, "b'@'"),
        ({"subvolid": "9" * 20}, "the default"),
        ({"subvol": "\udcff"}, "b'\\xff'"),
    ],
)
def test_subvolumes(options: dict[str, str], expected: str) -> None:
    assert str(naming.subvolume(cast("Btrfs", _System()), options)) == expected


@pytest.mark.parametrize(
    ("name", "disk"),
    [("/dev/sda3", "/dev/sda"), ("/dev/nvme0n1p3", "/dev/nvme0n1p"), ("/dev/sda", None), ("UUID=1", None)],
)
def test_the_disk_in_a_name(name: str, disk: str | None) -> None:
    assert naming.disk_of(name) == disk
