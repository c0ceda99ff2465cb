"""Extended attributes as ext4 has them on the disk.

Specification: Linux, Documentation/filesystems/ext4/attributes.rst; the hashes are in fs/ext4/xattr.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import UnsupportedFeature
from recipes.formats.io.sparse import BLOCK
from recipes.formats.tree.posix_acl import to_ext4
from recipes.formats.tree.tree import show

from .layout import (
    EXTRA_ISIZE,
    GOOD_OLD_INODE_SIZE,
    XATTR_ACLS,
    XATTR_BLOCK_HEADER,
    XATTR_ENTRY,
    XATTR_INODE_HEADER,
    XATTR_MAGIC,
    XATTR_PREFIXES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The namespaces that Linux shows on ext4: user, the two ACLs, trusted and security.
_NAMESPACES = frozenset({1, 2, 3, 4, 6})
_NAME_MAX = 255
#: An entry of zeros ends the entries.
_END = 4


class _Attribute(NamedTuple):
    """In the order in which a block has them: by prefix, length of the name, name."""

    #: ``name_index``.
    prefix: int
    length: int
    name: bytes
    value: bytes

    @property
    def size(self) -> int:
        return XATTR_ENTRY.size + _align(self.length) + _align(len(self.value))

    @property
    def hash(self) -> int:
        """Return ``e_hash`` (ext4_xattr_hash_entry)."""
        result = 0
        for byte in self.name:
            # The kernel took bytes for signed ones on x86 until 6.2, and e2fsck until 1.47.0; all later ones take both.
            result = (result << 5 ^ result >> 27 ^ (byte ^ 0x80) - 0x80) & 0xFFFFFFFF
        for (word,) in struct.iter_unpack("<I", _padded(self.value)):
            result = (result << 16 ^ result >> 16 ^ word) & 0xFFFFFFFF
        return result


def encode(xattrs: Mapping[bytes, bytes], inode_size: int) -> tuple[bytes, bytes]:
    """Return the attributes as what an inode has behind its fields, and as a block for what does not fit there.

    One of both is empty: the block is for all of a file's attributes, or there is none. `xattrs` is as in
    `recipes.formats.tree.tree.Node`. Errors: `UnsupportedFeature` for what ext4 cannot hold; `CorruptImage` for an ACL
    that is none.
    """
    attributes = sorted(_attribute(name, value) for name, value in xattrs.items())
    size = sum(attribute.size for attribute in attributes) + _END
    room = inode_size - GOOD_OLD_INODE_SIZE - EXTRA_ISIZE - XATTR_INODE_HEADER.size
    if size <= room:
        return XATTR_INODE_HEADER.pack(XATTR_MAGIC) + _entries(attributes, room, 0), b""
    room = BLOCK - XATTR_BLOCK_HEADER.size
    if size > room:
        raise UnsupportedFeature(
            f"extended attributes of {size} bytes; ext4 has room for {room}",
            hint="the feature ea_inode, which puts larger ones into inodes of their own, is not supported",
        )
    result = 0
    for attribute in attributes:
        result = (result << 16 ^ result >> 16 ^ attribute.hash) & 0xFFFFFFFF
    header = XATTR_BLOCK_HEADER.pack(XATTR_MAGIC, 1, 1, result)
    return b"", header + _entries(attributes, room, XATTR_BLOCK_HEADER.size)


def _attribute(name: bytes, value: bytes) -> _Attribute:
    for prefix, index in XATTR_PREFIXES.items():
        if index in _NAMESPACES and name.startswith(prefix):
            short = name[len(prefix) :]
            if bool(short) == (index in XATTR_ACLS) or len(short) > _NAME_MAX:
                break
            return _Attribute(index, len(short), short, to_ext4(value) if index in XATTR_ACLS else value)
    raise UnsupportedFeature(f"the extended attribute {show(name)}, for which ext4 has no place")


def _entries(attributes: list[_Attribute], room: int, start: int) -> bytes:
    """Return `room` bytes: the entries from the front, the values from the back. Offsets of these begin at `start`."""
    entries = b""
    values = b""
    for attribute in attributes:
        values = _padded(attribute.value) + values
        offset = start + room - len(values) if attribute.value else 0
        head = XATTR_ENTRY.pack(attribute.length, attribute.prefix, offset, 0, len(attribute.value), attribute.hash)
        entries += head + attribute.name.ljust(_align(attribute.length), b"\0")
    return entries.ljust(room - len(values), b"\0") + values


def _align(size: int) -> int:
    return size + 3 & ~3


def _padded(data: bytes) -> bytes:
    return data.ljust(_align(len(data)), b"\0")
