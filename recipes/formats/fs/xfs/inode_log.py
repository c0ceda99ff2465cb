"""Inodes as the log has them, put into the bytes that the disk has of them.

Specification: Linux, fs/xfs/xfs_inode_item_recover.c, xfs_icreate_item.c, libxfs/xfs_log_format.h (xfs_log_dinode).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from .layout import (
    BTREE_HEAD,
    FLAG2_BIGTIME,
    FLAG2_NREXT64,
    INODE,
    INODE_LSN,
    INODE_MAGIC,
    INODE_NUMBER,
    INODE_UUID,
    INODE_V3_SIZE,
    U16,
    U32,
    U64,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .volume import Volume

#: The core up to di_gen: what is numbers is little-endian in the log. 10 is di_big_nextents or padding with
#: di_flushiter, 11 to 13 are times.
_CORE = "HHBBHIIIHH8s5QIIHBBIHHI"
_LOGGED, _ON_DISK = struct.Struct(f"<{_CORE}"), struct.Struct(f">{_CORE}")
_MODE_MAGIC, _VERSION_FIELD, _BIG_EXTENTS, _TIMES = 0, 2, 10, slice(11, 14)
#: Of version 3: changecount, (LSN), flags2, cowextsize, padding, crtime.
_V3 = "Q8xQI12sQ"
_LOGGED_V3, _ON_DISK_V3, _V3_AT = struct.Struct(f"<{_V3}"), struct.Struct(f">{_V3}"), 104
_FLUSHITER_AT, _FLUSHITER_MAX = 30, 0xFFFF
_FORK_AT = 82
#: What is in the pieces of an item behind the core: local data, extents, a tree's root; of data and of attributes.
_DATA, _DATA_ROOT, _DEVICE, _ATTRIBUTES, _ATTRIBUTES_ROOT = 0xE, 0x8, 0x10, 0x1C0, 0x100
#: level and number of records of a root, which has a whole block's head in the log.
_ROOT = struct.Struct(">HH")

#: group, block in it, inodes, bytes of one, blocks, generation; of a chunk of inodes (struct xfs_icreate_log).
_ICREATE = struct.Struct(">4x6I")
#: Inodes that are made at once: 64, or a block of 64 KiB full.
_MAX_INODES = 256
#: Bytes that inodes are written in at least (XFS_INODE_BIG_CLUSTER_SIZE), with inodes of 256 bytes.
_CLUSTER, _CLUSTER_INODE = 8192, 256


class Logged(NamedTuple):
    """What the log says of an inode."""

    number: int
    #: Which parts of it there are.
    fields: int
    device: int
    #: The core, the data fork, the attribute fork, as far as they are there.
    pieces: Sequence[bytes | bytearray]
    #: Of the transaction.
    lsn: int


def recovered(volume: Volume, raw: bytes, logged: Logged) -> bytes | None:
    """Return what the bytes `raw` of an inode become; None if what is on the disk is from later.

    Errors: `CorruptImage`.
    """
    what = f"the log: inode {logged.number}"
    core = bytes(logged.pieces[0]) if logged.pieces else b""
    if not raw.startswith(INODE_MAGIC) or len(core) < (INODE_V3_SIZE if volume.v5 else _LOGGED.size):
        raise volume.corrupt(f"{what}: expected an inode on the disk and in the log, found {raw[:2].hex()}")
    if volume.v5:
        (found,) = U64.unpack_from(raw, INODE_LSN)
        if found not in (0, (1 << 64) - 1) and found > logged.lsn:
            return None
    else:
        (there,), (here,) = U16.unpack_from(raw, _FLUSHITER_AT), struct.unpack_from("<H", core, _FLUSHITER_AT)
        if here < there and not (there == _FLUSHITER_MAX and here < _FLUSHITER_MAX >> 1):
            return None
    result = bytearray(raw)
    _put_core(volume, result, core, logged)
    size = INODE_V3_SIZE if volume.v5 else INODE.size
    middle = size + 8 * result[_FORK_AT]
    data_end = middle if result[_FORK_AT] else len(raw)
    if middle >= len(raw):
        raise volume.corrupt(f"{what} has attributes at byte {middle} of it")
    rest = list(logged.pieces[1:])
    if logged.fields & _DEVICE:
        U32.pack_into(result, size, logged.device)
    for mask, root, start, end in (
        (_DATA, _DATA_ROOT, size, data_end),
        (_ATTRIBUTES, _ATTRIBUTES_ROOT, middle, len(raw)),
    ):
        if logged.fields & mask and rest:
            piece = bytes(rest.pop(0))
            if logged.fields & root:
                piece = _root(volume, piece, end - start, what)
            if len(piece) > end - start:
                raise volume.corrupt(f"{what} has {len(piece)} bytes for a fork of {end - start}")
            result[start : start + len(piece)] = piece
    return bytes(result)


def _put_core(volume: Volume, result: bytearray, core: bytes, logged: Logged) -> None:
    fields = list(_LOGGED.unpack_from(core))
    if fields[_MODE_MAGIC].to_bytes(2, "big") != INODE_MAGIC or (fields[_VERSION_FIELD] == 3) != volume.v5:
        raise volume.corrupt(f"the log: expected inode {logged.number}, found {core[:6].hex()}")
    flags2 = 0
    if volume.v5:
        later = _LOGGED_V3.unpack_from(core, _V3_AT)
        flags2 = later[1]
        *_, created = later
        _ON_DISK_V3.pack_into(result, _V3_AT, *later[:-1], _time(created, flags2))
        U64.pack_into(result, INODE_LSN, logged.lsn)
        U64.pack_into(result, INODE_NUMBER, int.from_bytes(core[INODE_NUMBER : INODE_NUMBER + 8], "little"))
        result[INODE_UUID : INODE_UUID + 16] = core[INODE_UUID : INODE_UUID + 16]
    # di_flushiter becomes 0 in the end.
    fields[_BIG_EXTENTS] = fields[_BIG_EXTENTS][::-1] if flags2 & FLAG2_NREXT64 else bytes(8)
    fields[_TIMES] = [_time(value, flags2) for value in fields[_TIMES]]
    _ON_DISK.pack_into(result, 0, *fields)


def _time(value: int, flags2: int) -> int:
    """Return a time as the disk has it: one number, or seconds and then nanoseconds, whose order is not the log's."""
    return value if flags2 & FLAG2_BIGTIME else (value & 0xFFFFFFFF) << 32 | value >> 32


def _root(volume: Volume, block: bytes, size: int, what: str) -> bytes:
    """Return a tree's root as a fork of `size` bytes has it (xfs_bmbt_to_bmdr)."""
    head = BTREE_HEAD[volume.v5]
    here, there = max(len(block) - head, 0) // 16, max(size - _ROOT.size, 0) // 16
    level, count = _ROOT.unpack_from(block, 4) if here else (0, 0)
    if not 0 < count <= min(here, there):
        raise volume.corrupt(f"{what} has a tree's root with {count} entries")
    keys = block[head : head + 8 * count]
    pointers = block[head + 8 * here : head + 8 * here + 8 * count]
    return _ROOT.pack(level, count) + keys.ljust(8 * there, b"\0") + pointers


def icreated(volume: Volume, item: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of the buffers of new inodes, none of them in use. Errors: `CorruptImage`."""
    superblock = volume.superblock
    if len(item) != _ICREATE.size:
        raise volume.corrupt(f"the log: new inodes in {len(item)} bytes")
    group, block, count, size, blocks, generation = _ICREATE.unpack(item)
    if size != volume.inode_size or count * size != blocks << volume.block_log or not 0 < count <= _MAX_INODES:
        raise volume.corrupt(f"the log: {count} new inodes of {size} bytes in {blocks} blocks")
    first = group << superblock.agblklog | block
    start = volume.offset(first, blocks, "the log: a chunk of new inodes")
    cluster = _CLUSTER
    if volume.v5 and superblock.inoalignmt >= _CLUSTER * size // _CLUSTER_INODE >> volume.block_log:
        cluster = _CLUSTER * size // _CLUSTER_INODE
    cluster = max(cluster, volume.block_size)
    number = first << superblock.inopblog
    data = b"".join(_new(volume, number + index, generation) for index in range(count))
    for at in range(0, len(data), cluster):
        yield start + at, data[at : at + cluster]


def _new(volume: Volume, number: int, generation: int) -> bytes:
    """Return an inode that is not in use (xfs_ialloc_inode_init)."""
    raw = bytearray(volume.inode_size)
    raw[:5] = INODE_MAGIC + bytes(2) + bytes([3 if volume.v5 else 2])
    raw[92:100] = generation.to_bytes(4, "big") + b"\xff" * 4
    if volume.v5:
        U64.pack_into(raw, INODE_NUMBER, number)
        raw[INODE_UUID : INODE_UUID + 16] = volume.uuid
    return bytes(raw)
