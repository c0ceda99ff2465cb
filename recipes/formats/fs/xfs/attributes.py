"""The extended attributes of XFS's inodes: in the inode, in a leaf, in a tree of leaves, in blocks of their own.

Specification: "XFS Algorithms & Data Structures" ("Extended Attributes") and, where that is silent, Linux,
fs/xfs/libxfs/xfs_attr_leaf.c and xfs_attr_remote.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage
from recipes.formats.tree import posix_acl

from .extents import block_at
from .layout import (
    ATTR_LEAF_MAGIC,
    ATTR_NODE_MAGIC,
    DA_HEADER,
    DA_MAGIC_AT,
    LOCAL,
    REMOTE_HEAD,
    REMOTE_HEADER,
    REMOTE_MAGIC,
    REMOTE_PLACE,
    U16,
    XATTR_SIZE_MAX,
)

if TYPE_CHECKING:
    from .extents import Extents, Run
    from .inode import Inode
    from .volume import Volume

#: Flags of an entry. A parent pointer is nothing that getxattr(2) shows; an incomplete entry may have no value yet.
_LOCAL, _ROOT, _SECURE, _PARENT, _INCOMPLETE = 0x1, 0x2, 0x4, 0x8, 0x80
_HIDDEN = _PARENT | _INCOMPLETE
_PREFIXES = {0: b"user.", _ROOT: b"trusted.", _SECURE: b"security."}
#: What an access control list is called on the disk. The kernel shows these too; they are the same once more.
_ACLS = {b"SGI_ACL_FILE": posix_acl.ACCESS, b"SGI_ACL_DEFAULT": posix_acl.DEFAULT}

#: In an inode: bytes in all, number of attributes; of each the bytes of its name and its value, and flags.
_SHORT_HEAD = struct.Struct(">HBx")
_SHORT = struct.Struct(">3B")
#: Of a leaf's entries: place in the block, flags. Of a node's: block of the fork.
_LEAF_ENTRY = struct.Struct(">4xHBx")
_NODE_ENTRY = struct.Struct(">4xI")
#: What is at that place: bytes of value and name, or block of the fork, bytes of value and name.
_LOCAL_HEAD = struct.Struct(">HB")
_REMOTE_HEAD = struct.Struct(">IIB")
#: Where the number of entries is, and where a leaf's and a node's begin; in version 4 and 5.
_COUNT_AT = {False: 12, True: 56}
_LEAF_AT = {False: 32, True: 80}
_NODE_AT = {False: 16, True: 64}


class Attributes:
    """Reads the extended attributes of inodes, each of them once. Errors: `CorruptImage`."""

    def __init__(self, volume: Volume, extents: Extents) -> None:
        self._volume = volume
        self._extents = extents

    def read(self, inode: Inode) -> dict[bytes, bytes]:
        """Return the extended attributes of `inode`, as `recipes.formats.tree.tree.Node` has them."""
        found: dict[bytes, bytes] = {}
        fork = inode.attributes
        if fork.format == LOCAL:
            self._short(inode, found)
        # Nearly every inode has a fork without extents: room for attributes that came to nothing.
        elif (fork.extents or self._volume.disk.intents(inode.number)) and (runs := self._extents.attributes(inode)):
            self._blocks(inode, runs, found)
        return found

    def _short(self, inode: Inode, found: dict[bytes, bytes]) -> None:
        data = inode.attributes.data
        if len(data) < _SHORT_HEAD.size:
            raise self._volume.corrupt(f"inode {inode.number} has no room for its extended attributes")
        total, count = _SHORT_HEAD.unpack_from(data)
        at = _SHORT_HEAD.size
        for _ in range(count):
            if at + _SHORT.size > len(data):
                raise self._volume.corrupt(f"the extended attributes of inode {inode.number} do not end")
            name_length, value_length, flags = _SHORT.unpack_from(data, at)
            at += _SHORT.size
            middle, end = at + name_length, at + name_length + value_length
            if end > min(total, len(data)):
                raise self._volume.corrupt(f"inode {inode.number} has {total} bytes of attributes, and more than that")
            self._put(inode, found, flags, data[at:middle], data[middle:end])
            at = end

    def _blocks(self, inode: Inode, runs: list[Run], found: dict[bytes, bytes]) -> None:
        """Put what is in the blocks of the attribute fork into `found`; the first of them is the root of a tree."""
        volume = self._volume
        todo = [0]
        while todo:
            at = todo.pop()
            what = f"block {at} of the extended attributes of inode {inode.number}"
            offset, data = self._block(inode, runs, at, what)
            (magic,), (count,) = U16.unpack_from(data, DA_MAGIC_AT), U16.unpack_from(data, _COUNT_AT[volume.v5])
            is_leaf = magic == ATTR_LEAF_MAGIC[volume.v5]
            if not is_leaf and magic != ATTR_NODE_MAGIC[volume.v5]:
                raise volume.corrupt(f"{what} has the magic {magic:#x}")
            if volume.v5:
                volume.verify(data, DA_HEADER, [(offset, len(data))], inode.number, what)
            first = (_LEAF_AT if is_leaf else _NODE_AT)[volume.v5]
            inside = data[first : first + 8 * count]
            if len(inside) != 8 * count:
                raise volume.corrupt(f"{what} has {count} entries, and {len(data)} bytes")
            if is_leaf:
                self._leaf(inode, runs, data, inside, found)
            else:
                todo += [child for (child,) in _NODE_ENTRY.iter_unpack(inside)][::-1]

    def _leaf(self, inode: Inode, runs: list[Run], data: bytes, entries: bytes, found: dict[bytes, bytes]) -> None:
        # Names and values that overlap could be many times what there is.
        room = len(data)
        what = f"an extended attribute of inode {inode.number}"
        for at, flags in _LEAF_ENTRY.iter_unpack(entries):
            head = _LOCAL_HEAD if flags & _LOCAL else _REMOTE_HEAD
            if at + head.size > len(data):
                raise self._volume.corrupt(f"{what} is at byte {at} of a block of {len(data)}")
            *block, value_length, name_length = head.unpack_from(data, at)
            at += head.size
            middle = at + name_length
            end = middle if block else middle + value_length
            room -= end - at
            if end > len(data) or room < 0:
                raise self._volume.corrupt(f"{what} is larger than the block that it is in")
            if flags & _HIDDEN:
                continue
            value = self._remote(inode, runs, block[0], value_length) if block else data[middle:end]
            self._put(inode, found, flags, data[at:middle], value)

    def _remote(self, inode: Inode, runs: list[Run], at: int, length: int) -> bytes:
        """Return the value of `length` bytes in the blocks from `at` of the fork on, each of which has a head."""
        volume = self._volume
        what = f"a value of {length} bytes of an extended attribute of inode {inode.number}"
        if length > XATTR_SIZE_MAX:
            raise volume.corrupt(what)
        value = bytearray()
        while len(value) < length:
            offset, data = self._block(inode, runs, at, what)
            if volume.v5:
                first, size = REMOTE_PLACE.unpack_from(data)
                if data[:4] != REMOTE_MAGIC or first != len(value) or not 0 < size <= len(data) - REMOTE_HEAD:
                    raise volume.corrupt(f"{what}: expected byte {len(value)} of it, found {data[:12].hex()}")
                volume.verify(data, REMOTE_HEADER, [(offset, len(data))], inode.number, what)
                data = data[REMOTE_HEAD : REMOTE_HEAD + size]
            value += data
            at += 1
        return bytes(value[:length])

    def _block(self, inode: Inode, runs: list[Run], at: int, what: str) -> tuple[int, bytes]:
        """Return where on the disk block `at` of the attribute fork is, and its bytes."""
        block = block_at(runs, at)
        if block is None:
            raise self._volume.corrupt(f"{what} is in no extent")
        self._extents.claim(block, inode)
        offset = self._volume.offset(block, 1, what)
        return offset, self._volume.disk.read(offset, self._volume.block_size)

    def _put(self, inode: Inode, found: dict[bytes, bytes], flags: int, name: bytes, value: bytes) -> None:
        if flags & _HIDDEN:
            return
        space = flags & (_ROOT | _SECURE)
        full = _PREFIXES.get(space, b"") + name
        if space == _ROOT and name in _ACLS:
            full = _ACLS[name]
            try:
                value = posix_acl.from_xfs(value)
            except CorruptImage as error:
                raise self._volume.corrupt(f"inode {inode.number}: {error.message}") from error
        if space not in _PREFIXES or not name or b"\0" in name or full in found:
            raise self._volume.corrupt(f"inode {inode.number} has an extended attribute {full!r}, twice or not allowed")
        found[full] = value
