"""ext3's and ext4's journal, replayed in memory: what a mount would write back first is read from where it is.

Nothing is written, and no block is held: a replayed block is in the journal, so that is where it is read.
Specification: Linux, Documentation/filesystems/ext4/journal.rst and, where that is silent, fs/jbd2/recovery.c.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded
from recipes.formats.tree.tree import Extent

from .inode import inodes
from .layout import JOURNAL_HEADER, JOURNAL_MAGIC, JOURNAL_SUPERBLOCK, JOURNAL_SUPERBLOCK_V2, SUPERBLOCK_SIZE, Compat
from .map import BlockMaps
from .volume import Disk, crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.errors import CorruptImage, UnsupportedFeature

    from .volume import Volume

_HINT = "mount the disk once, or run e2fsck on its file system: both replay the journal"
_MAGIC = struct.pack(">I", JOURNAL_MAGIC)
#: Types of blocks (journal.rst, "Block Header"); superblocks of version 1 have no feature words.
_DESCRIPTOR, _COMMIT, _SUPERBLOCK_V1, _REVOKE = 1, 2, 3, 5
_REVOKES, _BIT64, _ASYNC_COMMIT, _CSUM_V2, _CSUM_V3, _FAST_COMMIT = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
_KNOWN = _REVOKES | _BIT64 | _ASYNC_COMMIT | _CSUM_V2 | _CSUM_V3 | _FAST_COMMIT
_COMPAT_CHECKSUM = 0x1
#: s_num_fc_blks of the journal's superblock, and what 0 means there (JBD2_DEFAULT_FAST_COMMIT_BLOCKS).
_FAST_BLOCKS = struct.Struct(">I"), 0x54
_DEFAULT_FAST_BLOCKS = 256
#: The first entry of a fast commit: tag, length, features, sequence (fs/ext4/fast_commit.h), little-endian.
_FAST_HEAD = struct.Struct("<2H2I")
_FAST_HEAD_TAG = 9
_SUPERBLOCK_CHECKSUM = slice(0xFC, 0x100)
#: h_chksum of a commit block.
_COMMIT_CHECKSUM = slice(0x10, 0x14)
#: The checksum at the end of descriptor and revoke blocks.
_CHECKSUM_SIZE = 4
_TAIL = slice(-_CHECKSUM_SIZE, None)
#: h_commit_sec.
_COMMIT_TIME = struct.Struct(">Q"), 0x30
_WORD = 0xFFFFFFFF
#: A block's tag: block, flags, high 32 bits of the block, checksum; and as it is without csum_v3: block, checksum,
#: flags, and with 64bit the high 32 bits. csum_v2 makes a tag 2 bytes longer than it need be.
_TAG3 = struct.Struct(">4I")
_TAG = struct.Struct(">I2H")
_HIGH = struct.Struct(">I")
_ESCAPED, _SAME_UUID, _LAST = 0x1, 0x2, 0x8
_UUID = 16
#: Of a revoke block, behind its head: bytes in use, all of them counted.
_REVOKE_COUNT = struct.Struct(">I")
#: Revoked blocks in one journal, of which there are a few thousand where many files were deleted.
_MAX_REVOKED = 4_000_000


@dataclass(frozen=True, slots=True)
class Replayed(Disk):
    """The disk as it is after the replay."""

    block_size: int
    #: Block of the file system -> where in it, in bytes, the journal has what belongs there.
    moved: dict[int, int]
    #: The blocks of the file system that are replayed, in ascending order.
    order: list[int]
    #: Of these, those whose first 4 bytes are the journal's magic, which the journal replaces by zeros.
    escaped: frozenset[int]
    #: Where the file system has those 4 bytes for certain: in the journal's superblock.
    magic_at: int

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset` of the file system; CorruptImage where there are fewer."""
        return b"".join(Disk.read(self, at, count) for at, count in self._pieces(offset, length))

    def extents(self, at: int, offset: int, length: int) -> Iterator[Extent]:
        """Yield where in the source the `length` bytes at `offset` are, as extents of a file from `at` on."""
        for piece, count in self._pieces(offset, length):
            yield Extent(at, count, self.source, piece)
            at += count

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield offset and length of the pieces that make up a range, neighbours together."""
        size = self.block_size
        first, last = offset // size, -(-(offset + length) // size)
        # Neither the blocks of a long run nor all that is replayed, one after the other: both may be any number.
        touched = self.order[bisect_left(self.order, first) : bisect_left(self.order, last)]
        end = offset + length
        at = offset
        for block in touched:
            start, stop = max(offset, block * size), min(end, (block + 1) * size)
            if at < start:
                yield at, start - at
            inside, count = start - block * size, stop - start
            at = stop
            if block in self.escaped and inside < len(_MAGIC):
                head = min(len(_MAGIC) - inside, count)
                yield self.magic_at + inside, head
                inside, count = inside + head, count - head
            if count:
                yield self.moved[block] + inside, count
        if at < end:
            yield at, end - at


def replay(volume: Volume) -> Replayed:
    """Return the disk of `volume`, whose superblock says that its journal needs recovery, as it is after that.

    Errors: `UnsupportedFeature` for a journal on another device, for features that this does not read and for fast
    commits; `CorruptImage`, also for blocks that are not as their checksums say; `LimitExceeded`.
    """
    journal = _Journal(volume)
    return journal.replay()


class _Block(NamedTuple):
    """A block that a transaction wrote."""

    #: Where it belongs, and where in the journal it is.
    block: int
    position: int
    escaped: bool
    checksum: int


class _Transaction(NamedTuple):
    sequence: int
    blocks: list[_Block]
    revoked: list[int]


class _Journal:
    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        superblock = volume.superblock
        if Compat.HAS_JOURNAL not in volume.compat:
            raise self.corrupt("it needs recovery, and there is none")
        if superblock.journal_dev or not superblock.journal_inum:
            raise self.unsupported("a journal on another device")
        (inode,) = inodes(volume, [superblock.journal_inum])
        self.block_size = volume.block_size
        blocks = inode.size // self.block_size
        self.runs = BlockMaps(volume).runs(inode, blocks)
        # A hole would be read as zeros by nobody: the journal is allocated when it is made.
        if not self.runs or sum(run.length for run in self.runs) != blocks:
            raise self.corrupt("its inode has holes")
        self.starts = [run.at for run in self.runs]
        raw = self.read(0)
        magic, kind, _sequence = JOURNAL_HEADER.unpack_from(raw)
        (size, self.end, self.first, self.sequence, self.start, _errno, _compat, incompat, _ro, uuid, _users) = (
            JOURNAL_SUPERBLOCK.unpack_from(raw, JOURNAL_HEADER.size)
        )
        if magic != JOURNAL_MAGIC or kind not in (_SUPERBLOCK_V1, JOURNAL_SUPERBLOCK_V2):
            raise self.corrupt(
                f"expected the magic {JOURNAL_MAGIC:#x} in its superblock, found {magic:#x}, type {kind}"
            )
        self.features = incompat if kind == JOURNAL_SUPERBLOCK_V2 else 0
        if self.features & ~_KNOWN:
            raise self.unsupported(f"a journal with the features {self.features & ~_KNOWN:#x}")
        self.has_checksums = bool(self.features & (_CSUM_V2 | _CSUM_V3))
        if self.features & _ASYNC_COMMIT and not self.has_checksums:
            # A commit says nothing without the CRC-32 of all that it commits, which no kernel has made for a decade.
            raise self.unsupported("a journal with asynchronous commits and without csum_v2")
        if self.has_checksums:
            clean = raw[: _SUPERBLOCK_CHECKSUM.start] + bytes(4) + raw[_SUPERBLOCK_CHECKSUM.stop : SUPERBLOCK_SIZE]
            if crc32c(0, clean) != int.from_bytes(raw[_SUPERBLOCK_CHECKSUM], "big"):
                raise self.corrupt("its superblock is not as its checksum says")
        #: State of a CRC32C that the checksums of its blocks go on from.
        self.seed = crc32c(0, uuid) ^ _WORD
        self.total = self.end
        if self.features & _FAST_COMMIT:
            form, at = _FAST_BLOCKS
            self.end -= form.unpack_from(raw, at)[0] or _DEFAULT_FAST_BLOCKS
        if size != self.block_size or not 0 < self.first < self.end or self.total > blocks:
            raise self.corrupt(f"its log is in blocks {self.first} to {self.end} of {blocks}, of {size} bytes")
        if self.start and not self.first <= self.start < self.end:
            raise self.corrupt(f"its log begins at block {self.start}, outside of it")

    def corrupt(self, message: str) -> CorruptImage:
        return self.volume.corrupt(f"the journal: {message}")

    def unsupported(self, feature: str) -> UnsupportedFeature:
        return self.volume.unsupported(f"{feature}, which has to be replayed", hint=_HINT)

    def offset(self, position: int) -> int:
        """Return where in the file system block `position` of the journal is, in bytes."""
        run = self.runs[bisect_right(self.starts, position) - 1]
        return (run.block + position - run.at) * self.block_size

    def read(self, position: int) -> bytes:
        return self.volume.disk.read(self.offset(position), self.block_size)

    def checksum(self, *pieces: bytes) -> int:
        return crc32c(self.seed, *pieces)

    def replay(self) -> Replayed:
        # A log without a beginning is one that was emptied.
        transactions = list(self.transactions()) if self.start else []
        if self.start:
            self.refuse_fast_commits(transactions[-1].sequence + 1 if transactions else self.sequence)
        revoked: dict[int, int] = {}
        for transaction in transactions:
            revoked.update(dict.fromkeys(transaction.revoked, transaction.sequence))
            if len(revoked) > _MAX_REVOKED:
                raise LimitExceeded(f"{self.volume.disk.name}: the journal revokes more than {_MAX_REVOKED} blocks")
        moved: dict[int, _Block] = {}
        for transaction in transactions:
            for block in transaction.blocks:
                # A block that was freed later, or in the same transaction, may hold a file's data by now.
                if revoked.get(block.block, -1) < transaction.sequence:
                    self.verify(block, transaction.sequence)
                    moved[block.block] = block
        disk = self.volume.disk
        return Replayed(
            disk.source,
            self.block_size,
            {number: self.offset(block.position) for number, block in moved.items()},
            sorted(moved),
            frozenset(number for number, block in moved.items() if block.escaped),
            self.offset(0),
        )

    def refuse_fast_commits(self, sequence: int) -> None:
        """Raise UnsupportedFeature where changes of transaction `sequence` are in the area of fast commits."""
        if self.features & _FAST_COMMIT and self.end + 1 < self.total:
            tag, _length, _features, found = _FAST_HEAD.unpack_from(self.read(self.end + 1))
            if tag == _FAST_HEAD_TAG and found == sequence & _WORD:
                raise self.unsupported("a fast commit in its journal")

    def transactions(self) -> Iterator[_Transaction]:
        """Yield the transactions in the log that were committed, in their order.

        The log ends where a block has no head with the next sequence. It also ends, as in the kernel, before a
        transaction with a wrong checksum that is older than the one before it: what is left of an earlier log.
        """
        position, sequence, latest = self.start, self.sequence, -1
        blocks: list[_Block] = []
        revoked: list[int] = []
        damaged = False
        # Each block of the log once: one that only had descriptors could go round for ever.
        left = self.end - self.first
        while left > 0:
            raw = self.read(position)
            magic, kind, found = JOURNAL_HEADER.unpack_from(raw)
            if magic != JOURNAL_MAGIC or found != sequence & _WORD:
                return
            position, left = self.after(position), left - 1
            if kind == _COMMIT:
                (time,) = _COMMIT_TIME[0].unpack_from(raw, _COMMIT_TIME[1])
                if damaged or not self.is_whole(raw, _COMMIT_CHECKSUM):
                    if time < latest:
                        return
                    raise self.corrupt(f"transaction {sequence} is not as its checksum says")
                yield _Transaction(sequence, blocks, revoked)
                sequence, latest = sequence + 1, time
                blocks, revoked = [], []
            elif kind == _DESCRIPTOR:
                damaged = damaged or not self.is_whole(raw, _TAIL)
                for tag in self.tags(raw):
                    if tag.block >= self.volume.blocks and not damaged:
                        raise self.corrupt(f"transaction {sequence} wrote block {tag.block} of {self.volume.blocks}")
                    blocks.append(tag._replace(position=position))
                    position, left = self.after(position), left - 1
            elif kind == _REVOKE:
                damaged = damaged or not self.is_whole(raw, _TAIL)
                revoked += self.revocations(raw)
            else:
                return

    def after(self, position: int) -> int:
        return position + 1 if position + 1 < self.end else self.first

    def is_whole(self, raw: bytes, where: slice) -> bool:
        """Say whether a block is as its checksum at `where` says; always where it has none."""
        if not self.has_checksums:
            return True
        first, last, _step = where.indices(len(raw))
        return self.checksum(raw[:first], bytes(last - first), raw[last:]) == int.from_bytes(raw[where], "big")

    def verify(self, block: _Block, sequence: int) -> None:
        if self.has_checksums:
            found = self.checksum(struct.pack(">I", sequence & _WORD), self.read(block.position))
            if block.checksum != (found if self.features & _CSUM_V3 else found & 0xFFFF):
                raise self.corrupt(f"block {block.position}, for block {block.block}, is not as its checksum says")

    def tags(self, raw: bytes) -> Iterator[_Block]:
        """Yield what a descriptor block says of the blocks behind it; the caller knows their positions."""
        at = JOURNAL_HEADER.size
        end = len(raw) - (_CHECKSUM_SIZE if self.has_checksums else 0)
        wide = self.features & _BIT64
        if self.features & _CSUM_V3:
            size = _TAG3.size
        else:
            size = _TAG.size + (_HIGH.size if wide else 0) + (2 if self.features & _CSUM_V2 else 0)
        while at + size <= end:
            high = 0
            if self.features & _CSUM_V3:
                low, flags, high, checksum = _TAG3.unpack_from(raw, at)
            else:
                low, checksum, flags = _TAG.unpack_from(raw, at)
                if wide:
                    (high,) = _HIGH.unpack_from(raw, at + _TAG.size)
            yield _Block(low | (high << 32 if wide else 0), 0, bool(flags & _ESCAPED), checksum)
            if flags & _LAST:
                return
            at += size + (0 if flags & _SAME_UUID else _UUID)

    def revocations(self, raw: bytes) -> list[int]:
        """Return the blocks that a revoke block names."""
        begin = JOURNAL_HEADER.size + _REVOKE_COUNT.size
        (end,) = _REVOKE_COUNT.unpack_from(raw, JOURNAL_HEADER.size)
        if end > len(raw) - (_CHECKSUM_SIZE if self.has_checksums else 0):
            raise self.corrupt(f"a revoke block has {end} bytes of entries")
        form = ">Q" if self.features & _BIT64 else ">I"
        count = max(0, end - begin) // struct.calcsize(form)
        return [number for (number,) in struct.iter_unpack(form, raw[begin : begin + count * struct.calcsize(form)])]
