"""Partition tables as sfdisk makes them, and as nobody should."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.errors import CorruptImage
from recipes.formats.fs import partitions
from recipes.formats.fs.partitions import Partition
from recipes.formats.io.source import FileSource
from tests.kit.ext4_images import MiB, make, tool
from tests.kit.layouts import partition
from tests.kit.oracles import need

LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
SECTOR = 512


def sfdisk(path: Path, script: str, size: int = 64 * MiB) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    partition(path, script)
    return path


def read(path: Path) -> list[Partition]:
    with path.open("rb") as file:
        return partitions.read(FileSource(file.fileno(), str(path)))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk.raw"


def test_gpt(disk: Path) -> None:
    sfdisk(
        disk,
        f"label: gpt\n2: start=2048, size=2048, type={ROOT}, name=wurzel-ä\n5: start=8192, size=10000, type={LINUX}\n",
    )
    assert read(disk) == [
        Partition(2, MiB, MiB, ROOT, "wurzel-ä", "gpt"),
        Partition(5, 4 * MiB, 10000 * SECTOR, LINUX, "", "gpt"),
    ]


def test_what_is_to_be_left_alone(disk: Path) -> None:
    sfdisk(disk, f'label: gpt\nsize=2048, type={ROOT}, attrs="GUID:63"\nsize=2048, type={ROOT}, attrs="GUID:60"\n')
    assert [each.manual for each in read(disk)] == [True, False]


def test_a_gpt_whose_first_header_is_damaged(disk: Path) -> None:
    sfdisk(disk, f"label: gpt\nstart=2048, type={ROOT}\n")
    expected = read(disk)
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), bytes(100), 512 + 100)
        os.pwrite(file.fileno(), b"x", 512 + 20)
    assert read(disk) == expected
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), b"x", 64 * MiB - 512 + 20)
    with pytest.raises(CorruptImage, match="neither GPT header"):
        read(disk)


def test_a_gpt_whose_first_entries_are_damaged(disk: Path) -> None:
    sfdisk(disk, f"label: gpt\nstart=2048, type={ROOT}\n")
    expected = read(disk)
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), b"x", 1024 + 50)
    assert read(disk) == expected


def test_a_gpt_on_a_disk_that_became_larger(disk: Path) -> None:
    sfdisk(disk, f"label: gpt\nstart=2048, type={ROOT}\n")
    expected = read(disk)
    os.truncate(disk, 100 * MiB)
    assert read(disk) == expected


def test_a_gpt_on_a_disk_with_large_sectors(disk: Path) -> None:
    # sfdisk takes the size of the sectors from the device: no file has 4096.
    entry = struct.pack("<16s16sQQQ72s", UUID(ROOT).bytes_le, b"u" * 16, 256, 511, 0, "root".encode("utf-16-le"))
    entries = entry.ljust(16384, b"\0")

    def header(crc: int) -> bytes:
        numbers = (0x10000, 92, crc, 0, 1, 1023, 6, 1000, b"d" * 16, 2, 128, 128, zlib.crc32(entries))
        return struct.pack("<8s4I4Q16sQ3I", b"EFI PART", *numbers)

    with disk.open("wb") as file:
        file.truncate(4 * MiB)
        os.pwrite(file.fileno(), boot_record((0xEE, 1, 1023)), 0)
        os.pwrite(file.fileno(), header(zlib.crc32(header(0))), 4096)
        os.pwrite(file.fileno(), entries, 2 * 4096)
    assert read(disk) == [Partition(1, MiB, MiB, ROOT, "root", "gpt")]


def test_an_mbr_with_logical_partitions(disk: Path) -> None:
    sfdisk(
        disk,
        "label: dos\n"
        "start=2048, size=2048, type=83, bootable\n"
        "start=6144, type=5\n"
        "start=8192, size=2048, type=82\n"
        "start=12288, size=4096, type=83\n"
        "start=20480, size=100, type=8e\n",
    )
    assert read(disk) == [
        Partition(1, MiB, MiB, "0x83", "", "mbr"),
        Partition(5, 4 * MiB, MiB, "0x82", "", "mbr"),
        Partition(6, 6 * MiB, 2 * MiB, "0x83", "", "mbr"),
        Partition(7, 10 * MiB, 100 * SECTOR, "0x8e", "", "mbr"),
    ]


def boot_record(*entries: tuple[int, int, int]) -> bytes:
    """Return a boot record with these entries: type, first sector, sectors."""
    table = b"".join(struct.pack("<B3xB3xII", 0, kind, start, count) for kind, start, count in entries)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def test_an_mbr_whose_logical_partitions_go_round(disk: Path) -> None:
    with disk.open("wb") as file:
        file.truncate(MiB)
        os.pwrite(file.fileno(), boot_record((5, 100, 1000)), 0)
        os.pwrite(file.fileno(), boot_record((0x83, 10, 10), (5, 50, 100)), 100 * SECTOR)
        os.pwrite(file.fileno(), boot_record((0x83, 10, 10), (5, 0, 100)), 150 * SECTOR)
    with pytest.raises(CorruptImage, match="comes again: a loop"):
        read(disk)


def test_a_chain_of_logical_partitions_that_is_broken(disk: Path) -> None:
    with disk.open("wb") as file:
        file.truncate(MiB)
        os.pwrite(file.fileno(), boot_record((5, 100, 1000)), 0)
        os.pwrite(file.fileno(), boot_record((0x83, 10, 10), (5, 5000, 100)), 100 * SECTOR)
    with pytest.raises(CorruptImage, match="expected an extended boot record at sector 5100"):
        read(disk)


def test_an_older_gpt_below_an_mbr_is_not_looked_at(disk: Path) -> None:
    sfdisk(disk, f"label: gpt\nstart=2048, type={ROOT}\n")
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), boot_record((0x83, 4096, 4096)), 0)
    assert read(disk) == [Partition(1, 2 * MiB, 2 * MiB, "0x83", "", "mbr")]


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_disk_that_was_cut_off(disk: Path, label: str) -> None:
    sfdisk(disk, f"label: {label}\nstart=2048\n")
    os.truncate(disk, 30 * MiB)
    with pytest.raises(CorruptImage, match="the disk has 31457280") as caught:
        read(disk)
    assert str(disk) in str(caught.value)
    assert "cut off" in str(caught.value)


def test_a_file_system_without_a_table(disk: Path) -> None:
    make(disk, 8 * MiB, "-t", "ext4")
    whole = Partition(0, 0, 8 * MiB, "", "", "none")
    assert read(disk) == [whole]
    # As a boot loader leaves it that begins in the file system's first, unused kilobyte.
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), b"\x55\xaa", 510)
    assert read(disk) == [whole]


def test_fat_looks_like_an_mbr_and_is_none(disk: Path) -> None:
    need("mkfs.vfat")
    with disk.open("wb") as file:
        file.truncate(8 * MiB)
    tool("mkfs.vfat", str(disk))
    assert read(disk) == [Partition(0, 0, 8 * MiB, "", "", "none")]


@pytest.mark.parametrize("data", [b"", b"x", bytes(MiB), b"\x55\xaa" * 1000, b"QFI\xfb" + bytes(MiB)])
def test_neither_a_table_nor_a_file_system(disk: Path, data: bytes) -> None:
    disk.write_bytes(data)
    with pytest.raises(CorruptImage, match="found neither"):
        read(disk)


def test_a_table_without_partitions(disk: Path) -> None:
    assert read(sfdisk(disk, "label: gpt\n")) == []


def tables(label: str) -> bytes:
    """Return a small disk with such a table."""
    with tempfile.TemporaryDirectory() as folder:
        script = f"label: {label}\nstart=64, size=64\nstart=200, size=1000"
        disk = sfdisk(Path(folder) / "disk", script + ", type=5\nstart=300" * (label == "dos"), MiB)
        return disk.read_bytes()


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    return {label: tables(label) for label in ("dos", "gpt")}


@pytest.mark.long
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_damage_is_refused_and_nothing_else(
    whole: dict[str, bytes], tmp_path: Path, label: str, data: st.DataObject
) -> None:
    image = bytearray(whole[label])
    places = st.one_of(st.integers(440, 511), st.integers(512, 1200), st.integers(200 * SECTOR, 201 * SECTOR - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(places)
        image[at] = data.draw(st.integers(0, 255))
    if label == "gpt" and data.draw(st.booleans()):
        # Checksums that are right again let the damage through.
        image[512 + 88 : 512 + 92] = struct.pack("<I", zlib.crc32(image[1024 : 1024 + 16384]))
        image[512 + 16 : 512 + 20] = bytes(4)
        image[512 + 16 : 512 + 20] = struct.pack("<I", zlib.crc32(image[512 : 512 + 92]))
    disk = tmp_path / "disk.raw"
    disk.write_bytes(image)
    try:
        found = read(disk)
    except CorruptImage:
        return
    assert all(0 < each.start < each.start + each.size <= MiB for each in found if each.number)
