"""Disk images, held against qemu-img, and partition tables."""

from __future__ import annotations

import os
import re
import struct
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from recipes.formats.disk import to_raw as disk
from recipes.formats.disk.qcow2.header import MAGIC, V2, Fields
from recipes.formats.disk.vhdx.layout import checksummed
from recipes.formats.io.context import Context
from recipes.formats.io.probe import RAW_FORMATS, probe
from recipes.formats.io.sparse import CHUNK, data_extents
from tests.kit import qcow2_images
from tests.kit.layouts import partition
from tests.kit.qcow2_images import COMPRESSED, COPIED

from .filesystems import ext4, read_rootfs
from .mutate import Spot, damage
from .target import MAX_VIRTUAL_SIZE, Target, Wrong, made, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from .sandbox import Outcome

# QCOW2.

#: Where larder refuses what QEMU reads, on purpose; README and recipes/formats/disk/qcow2/header.py say why.
_STRICTER = re.compile(
    r"truncated QCOW2 image|marked corrupt|more L2 tables than the file has room for|a backing file|"
    r"an external data file|encryption|are allowed|snapshot|is not a deflate stream|is not a zstd frame|"
    r"claims .* instead|more data than the file has room for|its compressed units hold more"
)


def _qcow2_seeds(folder: Path) -> list[bytes]:
    def image(size: int, *options: str, compress: bool = False) -> bytes:
        raw, path = folder / "raw", folder / "qcow2"
        raw.write_bytes(qcow2_images.content(size, size))
        flags = ["-c"] if compress else []
        made("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *flags, "-o", ",".join(options), raw, path)
        return path.read_bytes()

    snapshot = folder / "snapshot"
    snapshot.write_bytes(image(64 << 10, "cluster_size=4096"))
    made("qemu-img", "snapshot", "-c", "one", snapshot)
    made("qemu-io", "-c", "write -P 7 0 9000", "-c", "write -z 16384 8192", snapshot)
    cluster = 512
    entries = {0: 4 * cluster | COPIED, 1: 5 * cluster | COPIED, 3: 1, 4: COMPRESSED | 6 * cluster + 17}
    deflate = zlib.compressobj(wbits=-12)
    packed = deflate.compress(b"larder  " * 64) + deflate.flush()
    return [
        image(100_000, "cluster_size=512"),
        image(300_000, "cluster_size=4096", compress=True),
        image(300_000, "cluster_size=65536"),
        image(200_000, "cluster_size=4096", "compression_type=zstd", compress=True),
        image(400_000, "cluster_size=16384", "extended_l2=on"),
        image(100_000, "cluster_size=4096", "compat=0.10", compress=True),
        snapshot.read_bytes(),
        qcow2_images.build(
            cluster_bits=9, size=20_000, l2=entries, data=(b"larder " * 147)[: 2 * cluster] + bytes(17) + packed
        ),
    ]


def _qcow2_spots(data: bytes) -> list[Spot]:
    """Return where the numbers of an image are: in its header, in its L1 table, in the L2 tables that this names."""
    fields = (4, 4), (8, 8), (16, 4), (20, 4), (24, 8), (32, 4), (36, 4), (40, 8), (48, 8), (56, 4), (60, 4), (64, 8)
    later = (72, 8), (80, 8), (88, 8), (96, 4), (100, 4), (104, 1), (112, 4), (116, 4)
    spots = [Spot(at, size, "big") for at, size in fields + later]
    if len(data) < V2.size or not data.startswith(MAGIC):
        return spots
    header = Fields(*V2.unpack_from(data))
    tables = []
    for at in range(header.l1_table_offset, header.l1_table_offset + 8 * min(64, header.l1_size), 8):
        entry = data[at : at + 8]
        if len(entry) == 8 and any(entry):
            tables.append(int.from_bytes(entry, "big") & 0x00FF_FFFF_FFFF_FE00)
            spots.append(Spot(at, 8, "big"))
    for table in tables[:8]:
        spots += [Spot(at, 8, "big") for at in range(table, table + 512, 8) if any(data[at : at + 8])]
    snapshots = header.snapshots_offset
    if header.nb_snapshots:
        spots += [
            Spot(snapshots + at, size, "big") for at, size in ((0, 8), (8, 4), (12, 2), (14, 2), (32, 4), (36, 4))
        ]
    return spots


def _damage_qcow2(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    return damage(rng, data, others, _qcow2_spots(data))


def _read_disk(path: Path, out: Path) -> object:
    return disk.to_raw(path, out, Context(jobs=2, limit=MAX_VIRTUAL_SIZE, durable=False))


@contextmanager
def _qemu_raw(path: Path, form: str) -> Iterator[Path | None]:
    """Return what qemu-img makes of an image, None where it refuses it or is not done in time."""
    raw = path.with_name("qemu")
    try:
        done = tool("qemu-img", "convert", "-f", form, "-O", "raw", path, raw)
        yield None if done is None else raw
    finally:
        raw.unlink(missing_ok=True)


def _equal(one: Path, other: Path) -> bool:
    """Say whether two files have the same bytes; only what is data in either is looked at."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
        for file in (first, second):
            for start, stop in data_extents(file.fileno(), one.stat().st_size):
                for at in range(start, stop, CHUNK):
                    count = min(CHUNK, stop - at)
                    if os.pread(first.fileno(), count, at) != os.pread(second.fileno(), count, at):
                        return False
    return True


def _judge_qcow2(path: Path, outcome: Outcome, out: Path, thorough: bool) -> bool:
    with path.open("rb") as file:
        if file.read(4) != MAGIC or file.read(4) == b"\0\0\0\1":
            # RAW, or QEMU's first format.
            return False
    if outcome.accepted:
        with _qemu_raw(path, "qcow2") as expected:
            if expected is None:
                raise Wrong("qemu-img refuses what larder accepts")
            if not _equal(expected, out):
                raise Wrong("the RAW is not qemu-img's")
        return True
    if thorough and not _STRICTER.search(outcome.message):
        with _qemu_raw(path, "qcow2") as made_of_it:
            if made_of_it is not None:
                raise Wrong(f"qemu-img reads what larder refuses: {outcome.message}")
    return False


# What QEMU reads more of than is there: only what larder accepts is compared, if QEMU accepts it too.


def _judge_accepted(form: str, path: Path, outcome: Outcome, out: Path, _: bool) -> bool:
    if not outcome.accepted or probe(path) in RAW_FORMATS:
        return False
    with _qemu_raw(path, form) as expected:
        # Of a VHD, QEMU has its own idea of the size.
        if expected is None or expected.stat().st_size != out.stat().st_size:
            return False
        if not _equal(expected, out):
            raise Wrong("the RAW is not qemu-img's")
    return True


def _made_of(folder: Path, size: int, form: str, *options: str) -> bytes:
    raw, path = folder / "raw", folder / form
    raw.write_bytes(qcow2_images.content(size, size).ljust(size + 90_000, b"\0"))
    made("qemu-img", "convert", "-f", "raw", "-O", form, *(f"-o{each}" for each in options), raw, path)
    return path.read_bytes()


# VHD.


def _vhd_seeds(folder: Path) -> list[bytes]:
    image = partial(_made_of, folder)
    return [
        image(100_000, "vpc"),
        image(3_000_000, "vpc", "force_size=on"),
        image(50_000, "vpc", "subformat=fixed"),
        image(50_000, "vpc", "subformat=fixed,force_size=on"),
    ]


def _damage_vhd(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    footer = ((12, 4), (16, 8), (40, 8), (48, 8), (56, 2), (60, 4), (64, 4))
    header = ((16, 8), (24, 4), (28, 4), (32, 4), (36, 4))
    ends = [0] if data.startswith(b"conectix") else []
    spots = [Spot(at + field, size, "big") for at in (*ends, len(data) - 512) for field, size in footer]
    if ends:
        spots += [Spot(512 + field, size, "big") for field, size in header]
        spots += [Spot(1536 + 4 * index, 4, "big") for index in range(3)] * 3
    changed = bytearray(damage(rng, data, others, spots))
    if rng.random() < 0.8:
        if ends and rng.random() < 0.7:
            # Footers that contradict each other are refused before anything else is looked at.
            changed[-512:] = changed[:512]
        for at, size, field in ((0, 512, 64), (512, 1024, 36), (len(changed) - 512, 512, 64)):
            piece = bytes(changed[at : at + size]) if at >= 0 else b""
            if piece[:8] in (b"conectix", b"cxsparse") and len(piece) == size:
                total = ~(sum(piece) - sum(piece[field : field + 4])) & 0xFFFF_FFFF
                changed[at + field : at + field + 4] = total.to_bytes(4, "big")
    return bytes(changed)


# VDI.


def _vdi_seeds(folder: Path) -> list[bytes]:
    image = partial(_made_of, folder)
    return [image(100_000, "vdi"), image(3_000_000, "vdi"), image(50_000, "vdi", "static=on")]


def _damage_vdi(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    fields = ((64, 4), (68, 4), (76, 4), (340, 4), (344, 4), (360, 4), (368, 8), (376, 4), (380, 4), (384, 4))
    spots = [Spot(at, size, "little") for at, size in (*fields, (424, 16), (440, 16))]
    spots += [Spot(512 + 4 * index, 4, "little") for index in range(4)] * 3
    return damage(rng, data, others, spots)


# VMDK.


def _vmdk_seeds(folder: Path) -> list[bytes]:
    image = partial(_made_of, folder)
    return [
        image(100_000, "vmdk"),
        image(3_000_000, "vmdk", "zeroed_grain=on"),
        image(100_000, "vmdk", "subformat=streamOptimized"),
        image(3_000_000, "vmdk", "subformat=streamOptimized"),
    ]


def _damage_vmdk(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    fields = ((4, 4), (8, 4), (12, 8), (20, 8), (28, 8), (36, 8), (44, 4), (48, 8), (56, 8), (64, 8), (73, 4), (77, 2))
    spots = [Spot(at, size, "little") for at, size in fields]
    directory = int.from_bytes(data[56:64], "little") * _SECTOR
    if directory + 4 <= len(data):
        table = int.from_bytes(data[directory : directory + 4], "little") * _SECTOR
        spots += [Spot(directory, 4, "little")] * 3
        spots += [Spot(table + 4 * index, 4, "little") for index in range(4)] * 3
        if table + 4 <= len(data):
            grain = int.from_bytes(data[table : table + 4], "little") * _SECTOR
            spots += [Spot(grain, 8, "little"), Spot(grain + 8, 4, "little")] * 2
    return damage(rng, data, others, spots)


# VHDX.


def _vhdx_seeds(folder: Path) -> list[bytes]:
    image = partial(_made_of, folder)
    return [image(100_000, "vhdx", "block_size=1M"), image(3_000_000, "vhdx", "block_size=1M,block_state_zero=off")]


def _damage_vhdx(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    kib = 1 << 10
    headers = [Spot(at + field, size, "little") for at in (64 * kib, 128 * kib) for field, size in _VHDX_HEADER]
    regions = [
        Spot(192 * kib + field, size, "little") for field, size in ((8, 4), (16, 16), (32, 8), (40, 4), (48, 16))
    ]
    spots = headers + regions
    table = data[192 * kib : 256 * kib]
    for place in {int.from_bytes(table[at : at + 8], "little") for at in (32, 64)}:
        spots += [Spot(place + 8 * index, 8, "little") for index in range(5)] * 2
        spots += [Spot(place + 64 * kib + 4 * index, 4, "little") for index in range(10)]
    changed = bytearray(damage(rng, data, others, spots))
    if rng.random() < 0.8:
        for at, size in ((64 * kib, 4 * kib), (128 * kib, 4 * kib), (192 * kib, 64 * kib), (256 * kib, 64 * kib)):
            piece = bytes(changed[at : at + size])
            if len(piece) == size:
                changed[at : at + size] = checksummed(piece[:4] + bytes(4) + piece[8:], size)
    return bytes(changed)


_VHDX_HEADER = ((8, 8), (16, 16), (48, 16), (64, 2), (66, 2), (68, 4), (72, 8))


# Partition tables.

_SECTOR = 512
_GPT_HEADERS = 1, -1


def _partition_seeds(folder: Path) -> list[bytes]:
    root = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    linux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    filesystem = ext4(folder, 256)
    scripts = (
        f"label: gpt\nstart=64, size=512, type={root}, name=root\nstart=640, size=100, type={linux}\n",
        f"label: gpt\nstart=64, size=512, type={linux}\nstart=600, size=64, type={linux}\n",
        "label: dos\nstart=64, size=512, type=83\nstart=600, type=5\nstart=610, size=20, type=83\n"
        "start=640, size=20, type=83\n",
    )
    seeds = []
    for script in scripts:
        path = folder / "disk"
        path.write_bytes(bytes(1000 * _SECTOR))
        partition(path, script)
        data = bytearray(path.read_bytes())
        data[64 * _SECTOR : 64 * _SECTOR + len(filesystem)] = filesystem
        seeds.append(bytes(data))
    return seeds


def _damage_partitions(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    if data[_SECTOR : _SECTOR + 8] != b"EFI PART":
        records = [446 + 16 * index for index in range(4)]
        boot = [0, *(512 * (600 + index) for index in range(0, 60, 10))]
        spots = [Spot(at + record + 4, 1, "little") for at in boot for record in records]
        spots += [Spot(at + record + field, 4, "little") for at in boot for record in records for field in (8, 12)]
        return damage(rng, data, others, spots)
    header = [(8, 4), (12, 4), (24, 8), (32, 8), (40, 8), (48, 8), (72, 8), (80, 4), (84, 4)]
    spots = [Spot(_SECTOR + at, size, "little") for at, size in header]
    entries = range(2 * _SECTOR, 2 * _SECTOR + 4 * 128, 128)
    spots += [Spot(at + field, 8, "little") for at in entries for field in (0, 8, 32, 40, 48)]
    changed = bytearray(damage(rng, data, others, spots))
    if rng.random() < 0.8:
        for sector in _GPT_HEADERS:
            _mend_gpt(changed, (sector % max(1, len(changed) // _SECTOR)) * _SECTOR)
    return bytes(changed)


def _mend_gpt(data: bytearray, at: int) -> None:
    """Give a GPT header the checksums of what is there."""
    if data[at : at + 8] != b"EFI PART" or len(data) < at + 92:
        return
    entries, number, size = struct.unpack_from("<QII", data, at + 72)
    if number * size <= 1 << 21:
        struct.pack_into("<I", data, at + 88, zlib.crc32(data[entries * _SECTOR :][: number * size]))
    length = min(_SECTOR, int.from_bytes(data[at + 12 : at + 16], "little"))
    data[at + 16 : at + 20] = bytes(4)
    struct.pack_into("<I", data, at + 16, zlib.crc32(data[at : at + length]))


TARGETS = (
    Target("qcow2", _qcow2_seeds, _damage_qcow2, _read_disk, _judge_qcow2, ("qemu-img", "qemu-io")),
    Target("vhd", _vhd_seeds, _damage_vhd, _read_disk, partial(_judge_accepted, "vpc"), ("qemu-img",)),
    Target("vmdk", _vmdk_seeds, _damage_vmdk, _read_disk, partial(_judge_accepted, "vmdk"), ("qemu-img",)),
    Target("vhdx-disk", _vhdx_seeds, _damage_vhdx, _read_disk, partial(_judge_accepted, "vhdx"), ("qemu-img",)),
    Target("vdi", _vdi_seeds, _damage_vdi, _read_disk, partial(_judge_accepted, "vdi"), ("qemu-img",)),
    Target(
        "partitions", _partition_seeds, _damage_partitions, partial(read_rootfs, "disk"), None, ("sfdisk", "mke2fs")
    ),
)
