"""XFS as mkfs.xfs and Linux make it, small; xfs_db for what they do not make; checksums mended after a change."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

from recipes.formats.fs import xfs
from recipes.formats.io.source import FileSource
from recipes.formats.tree.tree import Tree
from tests.kit import ext4_images, mounts
from tests.kit.ext4_images import MiB, copy, tool
from tests.kit.oracles import need
from tests.kit.trees import Facts, differences, of_folder, of_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.formats.io.source import Source

#: What the kernel shows of an ACL beside the ACL itself.
SHOWN_TWICE = (b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT")
#: The smallest that mkfs.xfs makes, with a log of 5 MiB.
SMALL = 16 * MiB


def make(image: Path, size: int, *options: str, populated: Path | None = None) -> Path:
    """Make the file system that mkfs.xfs with these options makes in `size` bytes, `populated` from a prototype."""
    need("mkfs.xfs")
    with image.open("wb") as file:
        file.truncate(size)
    prototype = ("-p", str(populated)) if populated else ()
    # Smaller ones than 300 MiB are for tests only, says mkfs.xfs.
    tool("mkfs.xfs", "--unsupported", "-q", "-f", *options, *prototype, str(image))
    return image


@contextmanager
def mounted(image: Path, *options: str) -> Iterator[Path]:
    """Have the kernel show what is in `image`; copies have one UUID."""
    with mounts.mounted(image, ",".join(("nouuid", *options))) as folder:
        yield folder


@contextmanager
def opened(image: Path) -> Iterator[Source]:
    """Give the bytes of the image."""
    with image.open("rb") as file:
        yield FileSource(file.fileno(), str(image))


def facts(image: Path) -> dict[bytes, Facts]:
    """Return what we read in the image."""
    with opened(image) as source, Tree() as tree:
        xfs.open(source).fill(tree)
        return of_tree(tree)


def kernel_facts(image: Path, *options: str) -> dict[bytes, Facts]:
    """Return what Linux shows of the image; of ACLs what ext4 shows, and no sockets, which no archive holds."""
    with mounted(image, *(options or ("ro",))) as folder:
        found = of_folder(folder, skip=frozenset())
    return {
        path: each._replace(xattrs=tuple((name, value) for name, value in each.xattrs if name not in SHOWN_TWICE))
        for path, each in found.items()
        if not stat.S_ISSOCK(each.mode)
    }


def agrees_with_the_kernel(image: Path, *options: str) -> None:
    """Assert that we read what Linux shows, and change nothing of it."""
    found = facts(image)
    expected = kernel_facts(image, *options)
    assert len(expected) > 1
    assert differences(found, expected) == []


def populate(folder: Path) -> None:
    """Fill `folder` with what there is, and with what only XFS has."""
    ext4_images.populate(folder)
    xattrs = folder / "xattrs"
    xattrs.mkdir()
    # In the inode, in a leaf, in a tree of leaves.
    for name, count in (("inline", 3), ("leaf", 30), ("node", 700)):
        (xattrs / name).touch()
        for number in range(count):
            os.setxattr(xattrs / name, f"user.{number}-{'n' * (number % 50)}", b"v" * (number % 200))
    # In blocks of their own.
    (xattrs / "remote").touch()
    for size in (0, 1, 900, 3000, 5000, 20_000, 65_535, 65_536):
        os.setxattr(xattrs / "remote", f"user.of-{size}", bytes(range(256)) * 256 if size > 65_535 else b"r" * size)
    os.setxattr(xattrs / "remote", "trusted.t", b"")
    os.setxattr(xattrs / "remote", "security.s", b"s")
    # A tree of extents: in the inode there is room for a dozen.
    with (folder / "pieces").open("wb") as file:
        for number in range(1500):
            os.pwrite(file.fileno(), b"%d" % number, number * 8192)
    for size in (1, 300, 400, 900, 1000, 1023):
        (folder / f"link-of-{size}").symlink_to("s" * size)
    (folder / "late").touch()
    os.utime(folder / "late", ns=(1, 2**33 * 10**9 + 5))


def reflink(folder: Path) -> None:
    """Have files share their blocks, in part."""
    for name in ("pieces", "file-600000"):
        tool("cp", "--reflink=always", str(folder / name), str(folder / f"{name}-again"))
    with (folder / "file-600000-again").open("r+b") as file:
        os.pwrite(file.fileno(), b"changed", 200_000)


def xfs_db(image: Path, *requests: str) -> str:
    """Have xfs_db do something to the image, checksums included."""
    need("xfs_db")
    words = [word for request in requests for word in ("-c", request)]
    return tool("xfs_db", "-x", *words, str(image))


# Checksums.

_CRC = 4
#: magic -> where its checksum is; of blocks of a file system, of directories, and of inodes and superblocks.
_IN_BLOCKS = {b"BMA3": 64, b"XARM": 12}
_IN_DIRECTORIES = {b"XDB3": 4, b"XDD3": 4}
_IN_DA = {0x3BEE: 12, 0x3EBE: 12}
_SUPERBLOCK_CRC, _INODE_CRC, _SYMLINK_CRC, _RECORD_CRC = 224, 100, 12, 32


def mend(data: bytearray, start: int, end: int) -> None:
    """Mend the checksums of whatever version 5 has from byte `start` to byte `end` of `data`, an image."""
    block, inode_size = 1 << min(data[120], 16), 1 << min(data[122], 11)
    folder = block << (data[192] & 7)
    for at in range(start - start % 512, min(end, len(data)), 512):
        magic = bytes(data[at : at + 4])
        if magic == b"XFSB":
            _sum(data, at, 1 << min(data[121], 15), _SUPERBLOCK_CRC)
        elif magic[:2] == b"IN":
            _sum(data, at, inode_size, _INODE_CRC)
        elif magic in _IN_BLOCKS:
            _sum(data, at, block, _IN_BLOCKS[magic])
        elif magic in _IN_DIRECTORIES:
            _sum(data, at, folder, _IN_DIRECTORIES[magic])
        elif magic == b"XSLM":
            size = 56 + int.from_bytes(data[at + 8 : at + 12], "big") % 2048
            _sum(data, at, -(-size // block) * block, _SYMLINK_CRC)
        elif magic == b"\xfe\xed\xba\xbe":
            _sum_record(data, at)
        elif int.from_bytes(data[at + 8 : at + 10], "big") in _IN_DA:
            _sum(data, at, block, 12)


def _sum(data: bytearray, at: int, size: int, where: int) -> None:
    if at + size <= len(data):
        data[at + where : at + where + _CRC] = bytes(_CRC)
        data[at + where : at + where + _CRC] = crc32c(bytes(data[at : at + size])).to_bytes(_CRC, "little")


def _sum_record(data: bytearray, at: int) -> None:
    """Mend the checksum of a record of the log that has one header and does not go on at the log's beginning."""
    length = int.from_bytes(data[at + 12 : at + 16], "big")
    data[at + _RECORD_CRC : at + _RECORD_CRC + _CRC] = bytes(_CRC)
    covered = bytes(data[at : at + 328]) + bytes(data[at + 512 : at + 512 + length])
    data[at + _RECORD_CRC : at + _RECORD_CRC + _CRC] = crc32c(covered).to_bytes(_CRC, "little")


def mended(image: Path, changes: dict[int, bytes]) -> Path:
    """Write `changes`, by their offset, and mend the checksums of the 64 KiB blocks that they are in."""
    data = bytearray(image.read_bytes())
    for at, piece in changes.items():
        data[at : at + len(piece)] = piece
        mend(data, at - at % 65536, at - at % 65536 + 65536)
    image.write_bytes(data)
    return image


# The log, written by hand.

_WORD = struct.Struct(">I")


class Writer:
    """Puts records behind the last one of the log in the image of a file system that was unmounted."""

    def __init__(self, image: Path) -> None:
        self._image = image
        data = image.read_bytes()
        self.block_size = int.from_bytes(data[4:8], "big")
        group_blocks = int.from_bytes(data[84:88], "big")
        first = int.from_bytes(data[48:56], "big")
        group, inside = first >> data[124], first & (1 << data[124]) - 1
        #: Where the log is in the image.
        self.start = (group * group_blocks + inside) * self.block_size
        self._uuid = data[32:48]
        size = int.from_bytes(data[96:100], "big") * self.block_size
        log = data[self.start : self.start + size]
        places = (at for at in range(0, size, 512) if log.startswith(b"\xfe\xed\xba\xbe", at))
        # Linux clears what is ahead with records of the lap before.
        last = max(places, key=lambda at: log[at + 16 : at + 24])
        (self._cycle,) = _WORD.unpack_from(log, last + 4)
        self._head = last // 512 + 1 - -int.from_bytes(log[last + 12 : last + 16], "big") // 512
        self.tail = self._head
        self.lsn = self._cycle << 32 | self._head

    def record(self, operations: list[tuple[int, int, bytes]], *, tail: int | None = None, broken: bool = False) -> int:
        """Write the operations (transaction, flags, data) as one record; return the byte of the image it begins at."""
        body = b"".join(struct.pack(">IIBB2x", tid, len(data), 0x69, flags) + data for tid, flags, data in operations)
        length = -(-len(body) // 512) * 512
        packed = bytearray(body.ljust(length, b"\0"))
        words = bytearray(256)
        for index in range(length // 512):
            words[4 * index : 4 * index + 4] = packed[512 * index : 512 * index + 4]
            _WORD.pack_into(packed, 512 * index, self._cycle)
        tail = self.tail if tail is None else tail
        header = bytearray(512)
        _HEADER.pack_into(
            header,
            0,
            0xFEEDBABE,
            self._cycle,
            2,
            length,
            self._cycle << 32 | self._head,
            self._cycle << 32 | tail,
            0,
            0,
            len(operations),
            bytes(words),
            1,
            self._uuid,
            32 << 10,
        )
        crc = crc32c(bytes(header[:328]) + bytes(packed))
        header[_RECORD_CRC : _RECORD_CRC + _CRC] = (crc ^ broken).to_bytes(_CRC, "little")
        at = self.start + 512 * self._head
        with self._image.open("r+b") as file:
            os.pwrite(file.fileno(), header + packed, at)
        self._head += 1 + length // 512
        return at


#: magic, cycle, version, length, LSN, tail's LSN, checksum, record before, operations, words, format, UUID, size.
_HEADER = struct.Struct(">4I2Q3I256sI16sI")
START, COMMIT, CONTINUE, CONTINUED, END = 1, 2, 4, 8, 16


def transaction(*items: list[bytes], tid: int = 7) -> list[tuple[int, int, bytes]]:
    """Return the operations of a transaction with these items."""
    pieces = [piece for item in items for piece in item]
    header = struct.pack("<4sIII", b"NART", 42, tid, len(pieces))
    return [(tid, START, b""), (tid, 0, header), *((tid, 0, piece) for piece in pieces), (tid, COMMIT, b"")]


def map_intent(owner: int, block: int, at: int, count: int, flags: int, identity: int = 1) -> list[bytes]:
    """Return an item that says that `count` blocks of a file are to be mapped (1) or unmapped (2)."""
    return [struct.pack("<HHIQQQQII", 0x1244, 1, 1, identity, owner, block, at, count, flags)]


def map_done(identity: int = 1) -> list[bytes]:
    """Return an item that says that this was done."""
    return [struct.pack("<HHIQ", 0x1245, 1, 0, identity)]


#: The core of an inode, whose numbers are little-endian in the log: 10 is no number, 11 to 13 are times.
_CORE = "HHBBHIIIHH8s5QIIHBBIHHI"
#: Of version 5, behind a field that is the disk's alone: the checksum, …, flags2, …, its number, UUID.
_CORE_V5 = "4x4sQQQI12sQQ16s"
USER, SIZE = 5, 14


def inode_item(image: Path, number: int, changes: dict[int, int]) -> list[bytes]:
    """Return an item with the core of an inode, in which the fields with these indices have other values."""
    data = image.read_bytes()
    group, inside = number >> data[124] + data[123], number & (1 << data[124] + data[123]) - 1
    at = group * int.from_bytes(data[84:88], "big") * int.from_bytes(data[4:8], "big") + (inside << data[122])
    fields = list(struct.unpack_from(f">{_CORE}", data, at))
    for index, value in changes.items():
        fields[index] = value
    rest = b""
    bigtime = False
    if fields[2] == 3:
        later = struct.unpack_from(f">{_CORE_V5}", data, at + 96)
        bigtime = bool(later[3] & 8)
        rest = struct.pack(f"<{_CORE_V5}", *later)
    if not bigtime:
        fields[11:14] = [value >> 32 | (value & 0xFFFFFFFF) << 32 for value in fields[11:14]]
    form = struct.pack("<HHIHHIQ16xqii", 0x123B, 2, 1, 0, 0, 0, number, at >> 12 << 3, 8, at % 4096)
    return [form, struct.pack(f"<{_CORE}", *fields) + rest]


def with_parent_pointers(image: Path) -> Path:
    """Turn on parent pointers and exchange of ranges in a new file system, which mkfs.xfs may be too old for."""
    data = bytearray(image.read_bytes())
    group = int.from_bytes(data[84:88], "big") * int.from_bytes(data[4:8], "big")
    for at in range(0, len(data), group):
        if data.startswith(b"XFSB", at):
            (features,) = _WORD.unpack_from(data, at + 216)
            _WORD.pack_into(data, at + 216, features | 0xC0)
            mend(data, at, at + 1)
    image.write_bytes(data)
    return image


def shutdown(folder: Path, *options: str) -> None:
    """Have the file system stop as if the machine had; with ``-f`` its log is written first."""
    need("xfs_io")
    tool("xfs_io", "-x", "-c", " ".join(("shutdown", *options)), str(folder))


__all__ = [
    "COMMIT",
    "CONTINUE",
    "CONTINUED",
    "END",
    "SIZE",
    "SMALL",
    "START",
    "USER",
    "Writer",
    "agrees_with_the_kernel",
    "copy",
    "facts",
    "inode_item",
    "kernel_facts",
    "make",
    "map_done",
    "map_intent",
    "mend",
    "mended",
    "mounted",
    "opened",
    "populate",
    "reflink",
    "shutdown",
    "tool",
    "transaction",
    "with_parent_pointers",
    "xfs_db",
]
