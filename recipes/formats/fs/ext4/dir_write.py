"""The blocks of ext4 directories: linear where one block is enough, with an index of hashes where it is not.

Specification: Linux, Documentation/filesystems/ext4/directory.rst ("Hash Tree Directories"); the hash is in
fs/ext4/hash.c.

The kernel indexes a directory when it grows out of its first block and never later. So one that is written linear
stays slow for good, and its link count goes wrong where it has more than 64998 folders.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io.sparse import BLOCK

from .layout import DIR_ENTRY, FileType

if TYPE_CHECKING:
    from collections.abc import Iterable

#: s_def_hash_version, and hash_version of an index: half MD4.
HALF_MD4 = 1

_FOLDER = int(FileType.DIRECTORY)
#: reserved, hash_version, info_length, indirect_levels, unused_flags (struct dx_root_info).
_INFO = struct.Struct("<I4B")
#: limit, count, block: the first entry of a node, whose hash is known from above; hash, block: any other.
_FIRST = struct.Struct("<2HI")
_OTHER = struct.Struct("<2I")
#: Entries of the root, behind "." and ".." and `_INFO`, and of a node below it, behind an entry without a name.
_ROOT_LIMIT = (BLOCK - 24 - _INFO.size) // _OTHER.size
_NODE_LIMIT = (BLOCK - DIR_ENTRY.size) // _OTHER.size

#: Added in the second and third round of MD4 (RFC 1320).
_K2, _K3 = 0x5A827999, 0x6ED9EBA1
#: The largest hash stands for the end of a directory that is being read (EXT4_HTREE_EOF_32BIT).
_END_OF_DIRECTORY = 0xFFFFFFFE


class DirEntry(NamedTuple):
    """What a directory has of a file."""

    name: bytes
    number: int
    type: int


def directory(number: int, parent: int, entries: list[DirEntry], seed: bytes) -> tuple[bytes | bytearray, bool]:
    """Return the blocks of the directory `number` in `parent`, and whether they have an index.

    `entries` are without "." and ".."; `seed` is s_hash_seed. Names are hashed as bytes without sign.
    """
    data, starts = _packed([DirEntry(b".", number, _FOLDER), DirEntry(b"..", parent, _FOLDER), *entries])
    if len(starts) == 1:
        return data, False
    words = struct.unpack("<4I", seed)
    hashed = sorted((half_md4(entry.name, words), entry) for entry in entries)
    leaves, starts = _packed(entry for _, entry in hashed)
    nodes = -(-len(starts) // _NODE_LIMIT) if len(starts) > _ROOT_LIMIT else 0
    if nodes > _ROOT_LIMIT:
        # Two levels are not enough for a gigabyte of names.
        return data, False
    # The lowest bit says that the hash has names in the block before as well.
    index = [
        (hashed[start][0] | (start > 0 and hashed[start - 1][0] == hashed[start][0]), 1 + nodes + block)
        for block, start in enumerate(starts)
    ]
    below = [index[first : first + _NODE_LIMIT] for first in range(0, len(index), _NODE_LIMIT)] if nodes else []
    top = [(node[0][0], 1 + block) for block, node in enumerate(below)] or index
    root = (
        DIR_ENTRY.pack(number, 12, 1, _FOLDER)
        + b".\0\0\0"
        + DIR_ENTRY.pack(parent, BLOCK - 12, 2, _FOLDER)
        + b"..\0\0"
        + _INFO.pack(0, HALF_MD4, _INFO.size, bool(nodes), 0)
    )
    blocks = [root + _node(top, _ROOT_LIMIT)]
    blocks += [DIR_ENTRY.pack(0, BLOCK, 0, 0) + _node(node, _NODE_LIMIT) for node in below]
    return b"".join(block.ljust(BLOCK, b"\0") for block in blocks) + leaves, True


def half_md4(name: bytes, seed: tuple[int, ...]) -> int:
    """Return the hash of a name (ext4fs_dirhash, DX_HASH_HALF_MD4_UNSIGNED); the lowest bit is 0."""
    a, b, c, d = seed if any(seed) else (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for at in range(0, len(name), 32):
        # A word that is not full begins with the number of bytes that were left, as do those behind it.
        fill = bytes([len(name) - at])
        piece = name[at : at + 32]
        full = len(piece) // 4 * 4
        piece = (piece[:full] + (fill * (-len(piece) % 4) + piece[full:])).ljust(32, fill)
        a, b, c, d = _transform(a, b, c, d, struct.unpack(">8I", piece))
    result = b & ~1
    return result if result != _END_OF_DIRECTORY else result - 2


def _transform(a: int, b: int, c: int, d: int, x: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return half_md4_transform of fs/ext4/hash.c: the three rounds of MD4, each with half of the steps."""
    start = a, b, c, d
    for at, left in ((0, 3), (1, 7), (2, 11), (3, 19), (4, 3), (5, 7), (6, 11), (7, 19)):
        value = a + (d ^ (b & (c ^ d))) + x[at] & 0xFFFFFFFF
        a, b, c, d = d, (value << left | value >> 32 - left) & 0xFFFFFFFF, b, c
    for at, left in ((1, 3), (3, 5), (5, 9), (7, 13), (0, 3), (2, 5), (4, 9), (6, 13)):
        value = a + ((b & c) + ((b ^ c) & d)) + x[at] + _K2 & 0xFFFFFFFF
        a, b, c, d = d, (value << left | value >> 32 - left) & 0xFFFFFFFF, b, c
    for at, left in ((3, 3), (7, 9), (2, 11), (6, 15), (1, 3), (5, 9), (0, 11), (4, 15)):
        value = a + (b ^ c ^ d) + x[at] + _K3 & 0xFFFFFFFF
        a, b, c, d = d, (value << left | value >> 32 - left) & 0xFFFFFFFF, b, c
    return (
        start[0] + a & 0xFFFFFFFF,
        start[1] + b & 0xFFFFFFFF,
        start[2] + c & 0xFFFFFFFF,
        start[3] + d & 0xFFFFFFFF,
    )


def _node(entries: list[tuple[int, int]], limit: int) -> bytes:
    """Return the entries of an inner node, each a hash and the block for what is not below it."""
    first = _FIRST.pack(limit, len(entries), entries[0][1])
    return first + b"".join(_OTHER.pack(*entry) for entry in entries[1:])


def _packed(entries: Iterable[DirEntry]) -> tuple[bytearray, list[int]]:
    """Return blocks with these entries in this order, and which of them is the first in each block."""
    result = bytearray()
    starts: list[int] = []
    room = last = 0
    for index, (name, number, kind) in enumerate(entries):
        size = DIR_ENTRY.size + len(name) + 3 & ~3
        if size > room:
            _stretch(result, last, room)
            starts.append(index)
            room = BLOCK
        last = len(result)
        result += DIR_ENTRY.pack(number, size, len(name), kind)
        result += name.ljust(size - DIR_ENTRY.size, b"\0")
        room -= size
    _stretch(result, last, room)
    return result, starts


def _stretch(entries: bytearray, last: int, room: int) -> None:
    """Let the entry at `last` have the `room` bytes that its block has left."""
    if room:
        number, size, length, kind = DIR_ENTRY.unpack_from(entries, last)
        DIR_ENTRY.pack_into(entries, last, number, size + room, length, kind)
        entries += bytes(room)
