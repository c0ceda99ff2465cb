"""The inodes of an ext4 file system, decoded.

Specification: Linux, Documentation/filesystems/ext4/inodes.rst and, where that is silent, fs/ext4/inode.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from .layout import GOOD_OLD_INODE_SIZE, INODE, INODE_EXTRA, Incompat, InodeFlag, unpack_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .volume import Volume

#: Where the two halves of the checksum are.
_CHECKSUM_LO = slice(0x7C, 0x7E)
_CHECKSUM_HI = slice(0x82, 0x84)
#: What ``i_extra_isize`` has to be at least for checksum_hi and for mtime_extra to be there.
_HAS_CHECKSUM_HI = 0x84 - GOOD_OLD_INODE_SIZE
_HAS_MTIME_EXTRA = 0x8C - GOOD_OLD_INODE_SIZE
_NUMBERS = struct.Struct("<2I")
#: ``S_IFREG``, as ``mode >> 12`` has it: of other types only directories may have a size of more than 32 bits.
_REGULAR = 0o10


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
    #: The 60 bytes of ``i_block``.
    block: bytes
    generation: int
    #: Block of the extended attributes that are not in the inode, or 0.
    acl: int
    #: What is behind the inode's fields: its extended attributes, or nothing.
    body: bytes

    def has(self, flag: InodeFlag) -> bool:
        """Say whether the inode has `flag`."""
        return bool(self.flags & flag.value)

    @property
    def salt(self) -> bytes:
        """What the checksums of this inode and of its blocks begin with (checksums.rst)."""
        return _NUMBERS.pack(self.number, self.generation)


def inodes(volume: Volume, numbers: Iterable[int]) -> Iterator[Inode]:
    """Yield the inodes of these numbers, which are in ascending order.

    Errors: `CorruptImage` for one that is not there, or not as its checksum says.
    """
    first = stop = 0
    size = volume.inode_size
    chunk = b""
    for number in numbers:
        if not first <= number < stop:
            first, stop, chunk = volume.inode_chunk(number)
        at = (number - first) * size
        yield _decode(volume, number, chunk[at : at + size])


def _decode(volume: Volume, number: int, raw: bytes) -> Inode:
    fields = INODE.unpack_from(raw)
    mode, uid, size, _atime, _ctime, mtime, _dtime, gid, links, _blocks, flags, _version, block = fields[:13]
    generation, acl, size_high, _fragment, _blocks_high, acl_high, uid_high, gid_high, checksum, _reserved = fields[13:]
    extra_size = mtime_extra = 0
    body = b""
    if len(raw) > GOOD_OLD_INODE_SIZE:
        extra = INODE_EXTRA.unpack_from(raw, GOOD_OLD_INODE_SIZE)
        extra_size = extra[0]
        end = GOOD_OLD_INODE_SIZE + extra_size
        if end > len(raw) or extra_size % 4:
            raise volume.corrupt(f"inode {number} has {extra_size} bytes of fields behind the first 128")
        if extra_size >= _HAS_CHECKSUM_HI:
            checksum |= extra[1] << 16
        if extra_size >= _HAS_MTIME_EXTRA:
            mtime_extra = extra[3]
        # Without extra fields the kernel looks for no attributes either (ext4_iget).
        body = raw[end:] if extra_size else b""
    if volume.seed is not None:
        _verify(volume, number, raw, generation, checksum, wide=extra_size >= _HAS_CHECKSUM_HI)
    return Inode(
        number,
        mode,
        uid | uid_high << 16,
        gid | gid_high << 16,
        size | size_high << 32 if mode >> 12 == _REGULAR or Incompat.LARGEDIR in volume.incompat else size,
        unpack_time(mtime, mtime_extra),
        links,
        flags,
        block,
        generation,
        acl | acl_high << 32 if Incompat.BIT64 in volume.incompat else acl,
        body,
    )


def _verify(volume: Volume, number: int, raw: bytes, generation: int, expected: int, *, wide: bool) -> None:
    clean = bytearray(raw)
    clean[_CHECKSUM_LO] = b"\0\0"
    if wide:
        clean[_CHECKSUM_HI] = b"\0\0"
    found = volume.checksum(_NUMBERS.pack(number, generation), bytes(clean))
    if (found if wide else found & 0xFFFF) != expected:
        raise volume.corrupt(f"expected the checksum {expected:#x} of inode {number}, found {found:#x}")
