"""XFS, which mkfs.xfs does not make as small as inputs are: they hold the sectors of a disk that are not zeros.

An input is a row of offset (u64), length (u32), both big-endian, and data. Checksums are mended after most changes, or
nothing behind them would ever be reached.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from tests.kit.xfs_images import SMALL, Writer, map_intent, mend, transaction

from .filesystems import read_rootfs
from .mutate import number
from .target import Target, made

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

_SECTOR = 512
_PIECE = struct.Struct(">QI")
#: Bytes that a disk has whose inputs name places beyond it: all of it holes.
_FARTHEST = 1 << 40
_SIZE = 2 * SMALL
#: Zeros are left out in units of so many bytes.
_UNIT = 4096
_MAGICS = frozenset({b"XFSB", b"XDB3", b"XDD3", b"XD2B", b"XD2D", b"BMA3", b"BMAP", b"XARM", b"\xfe\xed\xba\xbe"})
_DA_MAGICS = frozenset(map(bytes.fromhex, ("3bee", "3ebe", "fbee", "febe")))


def pack(disk: bytes) -> bytes:
    """Return the input that `expand` makes this disk from."""
    zeros = bytes(_UNIT)
    runs: list[tuple[int, int]] = []
    for at in range(0, len(disk), _UNIT):
        if disk[at : at + _UNIT] != zeros:
            start = runs.pop()[0] if runs and runs[-1][1] == at else at
            runs.append((start, at + _UNIT))
    pieces = (_PIECE.pack(start, stop - start) + disk[start:stop] for start, stop in runs)
    return b"".join(pieces) + _PIECE.pack(len(disk), 0)


def expand(data: bytes, path: Path) -> None:
    """Write the disk that an input stands for, as far as it can be understood."""
    at = 0
    with path.open("wb") as file:
        while at + _PIECE.size <= len(data):
            offset, length = _PIECE.unpack_from(data, at)
            at += _PIECE.size
            offset %= _FARTHEST
            os.pwrite(file.fileno(), data[at : at + length], offset)
            at += length
            file.truncate(max(offset, file.seek(0, os.SEEK_END)))


def _read(source: Path, out: Path) -> None:
    disk = out.with_name("disk")
    try:
        expand(source.read_bytes(), disk)
        read_rootfs("disk", disk, out)
    finally:
        disk.unlink(missing_ok=True)


def _prototype(folder: Path, link: int) -> Path:
    """Return a prototype with everything in it that takes no mount, and a symbolic link of so many bytes."""
    data = folder / "data"
    data.write_bytes(bytes(range(250)) * 100)
    lines = ["/dev/null", "0 0", "d--755 0 0"]
    lines += ["etc d--755 0 0", f"os-release ---644 0 0 {data}", "$"]
    for name, count in (("few", 5), ("block", 40), ("many", 400)):
        lines += [f"{name} d--755 0 0", *(f"name-{each:05} ---644 0 0 /dev/null" for each in range(count)), "$"]
    lines += [f"short l--777 0 0 {'s' * 30}", f"long l--777 0 0 {'l' * link}", "null c--666 0 0 1 3", "fifo p--600 0 0"]
    path = folder / "prototype"
    path.write_text("\n".join([*lines, "$", ""]))
    return path


def _image(folder: Path, *options: str) -> Path:
    path = folder / "xfs"
    path.write_bytes(b"")
    os.truncate(path, _SIZE)
    # In version 5 mkfs.xfs leaves out what the blocks of a longer one have to begin with.
    prototype = _prototype(folder, 900 if "crc=0,finobt=0" in options else 300)
    made("mkfs.xfs", "--unsupported", "-q", "-f", *options, "-p", prototype, path)
    root = int(made("xfs_db", "-c", "sb 0", "-c", "print rootino", path).split()[-1])
    sizes = {root + 3: (), root + 4: (3, 30), root + 5: tuple(range(40, 90)), root + 6: (1, 3000)}
    requests = []
    for inode, lengths in sizes.items():
        requests += [f"inode {inode}", *(f"attr_set -u -v {length} name-{length}" for length in lengths)]
    words = [word for request in requests for word in ("-c", request)]
    made("xfs_db", "-x", *words, path)
    return path


def _seeds(folder: Path) -> list[bytes]:
    found = []
    for options in (
        ("-b", "size=1024"),
        ("-m", "crc=0,finobt=0", "-b", "size=512"),
        ("-i", "size=1024,nrext64=1"),
    ):
        found.append(pack(_image(folder, *options).read_bytes()))
    # The log of a disk that is in use: an intent, a buffer, new inodes.
    path = _image(folder)
    form = struct.pack("<HHHHqIQ", 0x123C, 2, 0, 8, 8000, 2, 1)
    inodes = struct.pack("<HH", 0x123F, 1) + struct.pack(">6I", 0, 1200, 64, 512, 8, 5)
    writer = Writer(path)
    for tid, items in enumerate(([map_intent(131, 100, 0, 1, 1)], [[form, b"x" * 128], [inodes]]), 1):
        writer.record(transaction(*items, tid=tid))
    return [*found, pack(path.read_bytes())]


def _damage(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    """Change numbers wherever there is something; mostly mend the checksums around them."""
    ranges: list[tuple[int, int]] = []
    disk = bytearray(2 * _SIZE)
    at = 0
    while at + _PIECE.size <= len(data):
        offset, length = _PIECE.unpack_from(data, at)
        if offset + length > len(disk) or at + _PIECE.size + length > len(data):
            break
        at += _PIECE.size
        disk[offset : offset + length] = data[at : at + length]
        ranges.append((offset, length))
        at += length
    # As many of one kind as of another: most sectors are inodes or hold names.
    kinds: dict[bytes, list[int]] = {}
    for offset, length in ranges:
        for sector in range(offset, offset + length, _SECTOR):
            if any(disk[sector : sector + 64]):
                kinds.setdefault(_kind(disk, sector), []).append(sector)
    sound = rng.random() < 0.9
    for _change in range(rng.choice((1, 1, 2, 3, 6)) if kinds else 0):
        sector = rng.choice(kinds[rng.choice(sorted(kinds))])
        width = rng.choice((1, 1, 2, 4, 8))
        # Half of what is worth changing is in the heads of blocks and inodes.
        place = sector + rng.randrange(0, rng.choice((200, _SECTOR)), width)
        old = int.from_bytes(disk[place : place + width], "big")
        new = old ^ 1 << rng.randrange(8 * width) if rng.random() < 0.4 else number(rng, width, (old, _SIZE))
        disk[place : place + width] = new.to_bytes(width, "big")
        if sound:
            mend(disk, place - place % 65536, place - place % 65536 + 65536)
    return b"".join(_PIECE.pack(start, length) + disk[start : start + length] for start, length in ranges)


def _kind(disk: bytearray, at: int) -> bytes:
    """Return what tells the kind of what a sector begins with; nothing for most."""
    magic = bytes(disk[at : at + 4])
    if magic[:2] == b"IN":
        # Those with a directory, a link, a tree, a list, and those that are free.
        return magic[:2] + bytes([magic[2] & 0xF0, disk[at + 5], disk[at + 83]])
    if magic in _MAGICS:
        return magic
    inner = bytes(disk[at + 8 : at + 10])
    return inner if inner in _DA_MAGICS else b""


TARGETS = (Target("xfs", _seeds, _damage, _read, None, ("mkfs.xfs", "xfs_db")),)
