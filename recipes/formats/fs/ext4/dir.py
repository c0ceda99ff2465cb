"""The directories of an ext4 file system.

Specification: Linux, Documentation/filesystems/ext4/directory.rst and, where that is silent, fs/ext4/dir.c and
fs/ext4/namei.c. Hash trees are read as the linear directories that they are as well: their inner nodes look like
blocks without entries.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from recipes.formats.tree.tree import show

from .layout import DIR_ENTRY, InodeFlag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.errors import CorruptImage

    from .inode import Inode
    from .volume import Volume

_DOTS = (b".", b"..")
#: Blocks of 64 KiB have no room for their own length in 16 bits; the lower 2, always 0, stand for bits 16 and 17.
_WIDE_BLOCK = 1 << 16
_WHOLE_BLOCK = (0, 0xFFFF)

#: What an entry at the end of a block begins with that holds its checksum (struct ext4_dir_entry_tail): inode 0,
#: length, no name, type 0xDE. The checksum is in its last 4 bytes.
_TAIL_SIZE = 12
_TAIL_BEGIN = struct.pack("<IHBB", 0, _TAIL_SIZE, 0, 0xDE)
#: limit and count, the head of a node's hashes; where it is in a root and in the others (struct dx_root, dx_node).
_LIMIT = struct.Struct("<2H")
_ROOT_LIMIT, _NODE_LIMIT = 0x20, 0x8
#: Bytes of a hash with its block, and of what is behind the last: 4 reserved, the checksum (struct dx_tail).
_DX_ENTRY = _DX_TAIL = 8
_CHECKSUM = struct.Struct("<I")


def entries(volume: Volume, inode: Inode, areas: Iterable[bytes]) -> dict[bytes, int]:
    """Return the names in a directory with their inodes, without ``.`` and ``..``.

    `areas` are its blocks, or the pieces of its inline data. Raise CorruptImage for what no directory has.
    """
    found: dict[bytes, int] = {}
    wide = volume.block_size == _WIDE_BLOCK
    unpack = DIR_ENTRY.unpack_from
    for area in areas:
        at, end = 0, len(area)
        while at < end:
            if at + DIR_ENTRY.size > end:
                raise _damaged(volume, inode, f"an entry at byte {at} of {end}")
            number, length, name_length, _type = unpack(area, at)
            if wide:
                length = end if length in _WHOLE_BLOCK else length & 0xFFFC | (length & 3) << 16
            if length % 4 or length < DIR_ENTRY.size + name_length or at + length > end or length < 12:
                raise _damaged(volume, inode, f"an entry of {length} bytes at byte {at} of {end}")
            if number:
                name = area[at + 8 : at + 8 + name_length]
                if name not in _DOTS:
                    if name in found or not name or b"/" in name or b"\0" in name:
                        raise _damaged(volume, inode, f"the name {show(name)}, twice, or not allowed")
                    found[name] = number
            at += length
    return found


def verify(volume: Volume, inode: Inode, block: bytes) -> None:
    """Raise CorruptImage unless `block` of a directory is as its checksum says (checksums.rst)."""
    limit = _limit(block) if inode.has(InodeFlag.INDEX) else 0
    if limit:
        # The checksum is behind the last hash that could be there, and only those count that are.
        most, count = _LIMIT.unpack_from(block, limit)
        tail = limit + most * _DX_ENTRY
        at = tail + _CHECKSUM.size
        if count > most or tail + _DX_TAIL > len(block):
            raise _damaged(volume, inode, f"{count} of {most} hashes in a block")
        covered = [block[: limit + count * _DX_ENTRY], block[tail:at], bytes(_CHECKSUM.size)]
    else:
        tail = len(block) - _TAIL_SIZE
        at = len(block) - _CHECKSUM.size
        if not block.startswith(_TAIL_BEGIN, tail):
            raise _damaged(volume, inode, "a block without a checksum")
        covered = [block[:tail]]
    (expected,) = _CHECKSUM.unpack_from(block, at)
    if (found := volume.checksum(inode.salt, *covered)) != expected:
        raise _damaged(volume, inode, f"a block with the checksum {found:#010x}, not the expected {expected:#010x}")


def _limit(block: bytes) -> int:
    """Return where limit and count are in an inner node of a hash tree; 0 in a leaf (namei.c, get_dx_countlimit)."""
    _number, length, _name_length, _type = DIR_ENTRY.unpack_from(block)
    if length in (len(block), *_WHOLE_BLOCK):
        return _NODE_LIMIT
    # The root begins with "." of 12 bytes, and ".." has the rest.
    if length == 12 and DIR_ENTRY.unpack_from(block, 12)[1] in (len(block) - 12, *_WHOLE_BLOCK):
        return _ROOT_LIMIT
    return 0


def _damaged(volume: Volume, inode: Inode, message: str) -> CorruptImage:
    return volume.corrupt(f"directory inode {inode.number} has {message}")
