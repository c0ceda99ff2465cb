"""The inodes of an XFS file system, decoded (xfs_format.h, struct xfs_dinode)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .layout import (
    BTREE,
    DEVICE,
    EXTENTS,
    FLAG2_BIGTIME,
    FLAG2_NREXT64,
    INODE,
    INODE_CRC,
    INODE_FLAGS2,
    INODE_MAGIC,
    INODE_NUMBER,
    INODE_UUID,
    INODE_V3_SIZE,
    LOCAL,
    U64,
    checksum_holds,
    unpack_time,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .volume import Volume

#: Bytes that inodes are read in: they are made 64 at a time, and mostly many of those stand in a row.
_PIECE = 64 << 10


class Fork(NamedTuple):
    """Where an inode has its data, or its attributes."""

    #: DEVICE, LOCAL, EXTENTS or BTREE.
    format: int
    #: How many extents there are, in a list or a tree.
    extents: int
    data: bytes


class Inode(NamedTuple):
    """What an inode says; what is in no archive is left out."""

    number: int
    mode: int
    uid: int
    gid: int
    #: Bytes of the file.
    size: int
    mtime_ns: int
    links: int
    flags: int
    flags2: int
    data: Fork
    #: Empty where there are no attributes.
    attributes: Fork


_NO_FORK = Fork(EXTENTS, 0, b"")


def inodes(volume: Volume, numbers: Iterable[int]) -> Iterator[Inode]:
    """Yield the inodes of these numbers, which are in ascending order.

    Errors: `CorruptImage` for one that is not there, or not as its checksum says.
    """
    superblock = volume.superblock
    per_piece = max(1, _PIECE >> superblock.blocklog) << superblock.inopblog
    first = stop = piece_at = 0
    piece = b""
    for number in numbers:
        if not first <= number < stop:
            group, inside = number >> volume.inode_bits, number & (1 << volume.inode_bits) - 1
            first = number - inside % per_piece
            block = group << superblock.agblklog | (inside - inside % per_piece) >> superblock.inopblog
            # The last group may be shorter, and of its blocks none goes on in another group.
            room = min(superblock.agblocks, volume.blocks - group * superblock.agblocks)
            count = max(1, min(per_piece >> superblock.inopblog, room - (block & (1 << superblock.agblklog) - 1)))
            piece_at = volume.offset(block, count, f"inode {number}")
            piece = volume.disk.read(piece_at, count << volume.block_log)
            stop = first + (count << superblock.inopblog)
            if number >= stop:
                raise volume.corrupt(f"inode {number} is outside of the file system")
        at = number - first << superblock.inodelog
        raw = piece[at : at + volume.inode_size]
        yield decode(volume, number, raw, piece_at + at)


def decode(volume: Volume, number: int, raw: bytes, offset: int) -> Inode:
    """Return the inode `number` in `raw`, the bytes at `offset` of the file system."""
    fields = INODE.unpack_from(raw)
    magic, mode, version, form, old_links, uid, gid, links, big_extents, mtime, size, blocks = fields[:12]
    extents, few_extents, fork_at, attribute_form, flags = fields[12:]
    if magic != INODE_MAGIC or not (version == 3 if volume.v5 else version in (1, 2)):
        raise volume.corrupt(f"expected inode {number} at byte {offset}, found {raw[:6].hex()}")
    core, flags2 = INODE.size, 0
    if version == 3:
        core = INODE_V3_SIZE
        (flags2,) = U64.unpack_from(raw, INODE_FLAGS2)
        if not checksum_holds(raw, INODE_CRC) and not volume.disk.is_replayed(offset, len(raw)):
            raise volume.corrupt(f"inode {number}, at byte {offset}, is not as its checksum says")
        if U64.unpack_from(raw, INODE_NUMBER)[0] != number or raw[INODE_UUID : INODE_UUID + 16] != volume.uuid:
            raise volume.corrupt(f"what is at byte {offset} is not inode {number} of this file system")
    if flags2 & FLAG2_NREXT64:
        extents, few_extents = big_extents, extents
    end = core + 8 * fork_at
    if end >= len(raw) or size >> 63 or extents + few_extents > blocks:
        raise volume.corrupt(
            f"inode {number} has {size} bytes in {extents} + {few_extents} extents of {blocks} blocks, and attributes "
            f"at byte {end} of it"
        )
    attributes = Fork(attribute_form, few_extents, raw[end:]) if fork_at else _NO_FORK
    if form not in (DEVICE, LOCAL, EXTENTS, BTREE) or attributes.format not in (LOCAL, EXTENTS, BTREE):
        raise volume.corrupt(f"inode {number} has forks of the formats {form} and {attribute_form}")
    data = Fork(form, extents, raw[core:end] if fork_at else raw[core:])
    return Inode(
        number,
        mode,
        uid,
        gid,
        size,
        unpack_time(mtime, bigtime=bool(flags2 & FLAG2_BIGTIME)),
        old_links if version == 1 else links,
        flags,
        flags2,
        data,
        attributes,
    )
