"""The extended attributes of ext4's inodes, and the data of files that are small enough to be among them.

Specification: Linux, Documentation/filesystems/ext4 (attributes.rst, inlinedata.rst) and, where that is silent,
fs/ext4/xattr.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import CorruptImage
from recipes.formats.tree import posix_acl

from .inode import inodes
from .layout import (
    XATTR_ACLS,
    XATTR_BLOCK_HEADER,
    XATTR_ENTRY,
    XATTR_INODE_HEADER,
    XATTR_MAGIC,
    XATTR_PREFIXES,
    InodeFlag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .inode import Inode
    from .volume import Volume

_NAMES = {index: prefix for prefix, index in XATTR_PREFIXES.items()}
#: ``system.``: nothing that getxattr(2) shows, and among it what inline data goes on in.
_SYSTEM = 7
_RICHACL = 8
_INLINE_DATA = b"data"
#: Bytes of the largest value (linux/limits.h: XATTR_SIZE_MAX).
_MAX_VALUE = 65536
#: Where h_checksum is in the head of a block.
_BLOCK_CHECKSUM = slice(0x10, 0x14)
_END = bytes(4)


class Attributes(NamedTuple):
    """What the extended attributes of a file are."""

    #: As `recipes.formats.tree.tree.Node` has them.
    xattrs: dict[bytes, bytes]
    #: Where inline data goes on behind the inode's own 60 bytes; empty where it does not.
    inline: bytes


class AttributeReader:
    """Reads extended attributes; blocks and inodes that several files share are read once.

    `content` returns the bytes of the inode that holds a large value. What the kernel does not show (namespaces that
    it has no handler for) is left out. Errors: `CorruptImage`.
    """

    def __init__(self, volume: Volume, content: Callable[[Inode], bytes]) -> None:
        self._volume = volume
        self._content = content
        self._blocks: dict[int, dict[bytes, bytes]] = {}
        self._values: dict[int, bytes] = {}

    def read(self, inode: Inode) -> Attributes:
        """Return the extended attributes of `inode`, those in it and those in its block."""
        xattrs: dict[bytes, bytes] = {}
        inline = b""
        if len(inode.body) >= XATTR_INODE_HEADER.size + len(_END):
            (magic,) = XATTR_INODE_HEADER.unpack_from(inode.body)
            if magic == XATTR_MAGIC:
                area = inode.body[XATTR_INODE_HEADER.size :]
                for index, name, value in self._entries(area, 0, f"inode {inode.number}"):
                    if index == _SYSTEM and name == _INLINE_DATA:
                        inline = value
                    else:
                        self._put(xattrs, index, name, value, inode)
        if inode.acl:
            if inode.acl not in self._blocks:
                self._blocks[inode.acl] = self._block(inode)
            for name, value in self._blocks[inode.acl].items():
                # The kernel looks into the inode first.
                xattrs.setdefault(name, value)
        return Attributes(xattrs, inline)

    def _block(self, inode: Inode) -> dict[bytes, bytes]:
        volume, number = self._volume, inode.acl
        what = f"block {number} of extended attributes, of inode {inode.number}"
        block = volume.read(number, 1, what)
        magic, _references, blocks, _hash = XATTR_BLOCK_HEADER.unpack_from(block)
        if magic != XATTR_MAGIC or blocks != 1:
            raise volume.corrupt(f"{what}: expected the magic {XATTR_MAGIC:#x} and 1 block, found {magic:#x}, {blocks}")
        if volume.seed is not None:
            expected = int.from_bytes(block[_BLOCK_CHECKSUM], "little")
            clean = block[: _BLOCK_CHECKSUM.start], _END, block[_BLOCK_CHECKSUM.stop :]
            if (found := volume.checksum(struct.pack("<Q", number), *clean)) != expected:
                raise volume.corrupt(f"{what}: expected the checksum {expected:#x}, found {found:#x}")
        xattrs: dict[bytes, bytes] = {}
        for index, name, value in self._entries(block, XATTR_BLOCK_HEADER.size, what):
            self._put(xattrs, index, name, value, inode)
        return xattrs

    def _put(self, xattrs: dict[bytes, bytes], index: int, name: bytes, value: bytes, inode: Inode) -> None:
        if index not in _NAMES or index in (_SYSTEM, _RICHACL):
            return
        if b"\0" in name or bool(name) == (index in XATTR_ACLS):
            raise self._volume.corrupt(
                f"inode {inode.number} has an extended attribute called {name!r} of type {index}"
            )
        if index in XATTR_ACLS:
            try:
                value = posix_acl.from_ext4(value)
            except CorruptImage as error:
                raise self._volume.corrupt(f"inode {inode.number}: {error.message}") from error
        xattrs[_NAMES[index] + name] = value

    def _entries(self, area: bytes, at: int, what: str) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield index, name and value of the entries from `at` on; values are counted from the beginning of `area`."""
        room = len(area)
        while area[at : at + len(_END)] != _END:
            if at + XATTR_ENTRY.size > len(area):
                raise self._volume.corrupt(f"{what}: its extended attributes do not end")
            length, index, offset, holder, size, _hash = XATTR_ENTRY.unpack_from(area, at)
            at += XATTR_ENTRY.size
            name = area[at : at + length]
            # Values that overlap could be many times what there is.
            room -= 0 if holder else size
            if at + length > len(area) or size > _MAX_VALUE or room < 0 or (not holder and offset + size > len(area)):
                raise self._volume.corrupt(f"{what}: the extended attribute {name!r} is larger than what it is in")
            yield index, name, self._large(holder, size, what) if holder else area[offset : offset + size]
            at += -(-length // 4) * 4

    def _large(self, number: int, size: int, what: str) -> bytes:
        """Return the value that inode `number` holds (attributes.rst, feature ea_inode)."""
        if number not in self._values:
            (inode,) = inodes(self._volume, [number])
            if not inode.has(InodeFlag.EA_INODE) or inode.size > _MAX_VALUE:
                raise self._volume.corrupt(f"{what}: inode {number} is no value of an extended attribute")
            self._values[number] = self._content(inode)
        value = self._values[number]
        if len(value) != size:
            raise self._volume.corrupt(f"{what}: expected {size} bytes in inode {number}, found {len(value)}")
        return value
