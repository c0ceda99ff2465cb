"""XFS's log, replayed in memory: what a mount would write back first is read as if it had been.

Nothing is written. What only a writer needs (free space, reverse mappings, reference counts, quotas, unlinked inodes)
is left as it is; all else is done in the order in which Linux does it.
Specification: Linux, fs/xfs: xfs_log_recover.c, xfs_buf_item_recover.c, xfs_inode_item_recover.c, xfs_icreate_item.c,
xfs_bmap_item.c.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING

from .inode_log import Logged, icreated, recovered
from .layout import (
    ATTR_LEAF_MAGIC,
    ATTR_NODE_MAGIC,
    BTREE_HEADER,
    BTREE_MAGIC,
    DA_HEADER,
    DA_MAGIC_AT,
    DATA_BLOCK_MAGIC,
    DIR_LEAF1_MAGIC,
    DIR_LEAFN_MAGIC,
    DIRECTORY_HEADER,
    MAGIC,
    ONE_BLOCK_MAGIC,
    REMOTE_HEADER,
    SECTOR,
    SECTOR_LOG,
    SUPERBLOCK_LSN,
    SYMLINK_MAGIC,
    U16,
    U64,
    LogIncompat,
)
from .log import Log
from .overlay import Replayed
from .volume import BmapIntent, Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from .log import Item
    from .volume import Disk

#: Types of items (xfs_log_format.h): those that are replayed, those that begin something and those that end it, and
#: those that are about what only a writer needs. Items are in the byte order of the machine: little-endian.
_INODE, _BUFFER, _ICREATE = 0x123B, 0x123C, 0x123F
_BMAP, _BMAP_DONE = 0x1244, 0x1245
_ATTRIBUTE, _ATTRIBUTE_DONE = 0x1246, 0x1247
_EXCHANGE, _EXCHANGE_DONE = 0x1248, 0x1249
#: Extents to be freed, reverse mappings, reference counts, each with what says that it was done, and the same of the
#: realtime device; quotas.
_IGNORED = frozenset({0x1236, 0x1237, 0x123D, 0x123E, 0x1240, 0x1241, 0x1242, 0x1243, *range(0x124A, 0x1250)})
_INTENTS = {_BMAP: _BMAP, _ATTRIBUTE: _ATTRIBUTE, _EXCHANGE: _EXCHANGE}
_DONE = {_BMAP_DONE: _BMAP, _ATTRIBUTE_DONE: _ATTRIBUTE, _EXCHANGE_DONE: _EXCHANGE}
_HEAD = struct.Struct("<HH4xQ")

#: flags, sectors, first sector, words of the bitmap; of a buffer (struct xfs_buf_log_format). The bitmap follows.
_BUFFER_FORMAT = struct.Struct("<4xHHqI")
_CHUNK = 128
_INODES, _CANCELLED, _QUOTA = 0x1, 0x2, 0x1C
#: What kind of buffer it is, in its flags: of no use to a reader are heads of allocation groups and quota.
_KIND_SHIFT = 11
_USELESS_KINDS = frozenset({1, 2, 3, 5, 6, 7, 19, 20})

#: sectors from which on the inodes are, bytes; of an inode (struct xfs_inode_log_format), as machines align 64 bits
#: that do and that do not. Before: fields, bytes of the forks, number, device.
_ADOPTED = 0x600
_INODE_FORMAT = struct.Struct("<4xIHH4xQI12xqii"), struct.Struct("<4xIHHQI12xqii")
#: owner, first block on the disk, first block of the file, blocks, flags (struct xfs_map_extent).
_MAP = struct.Struct("<16xQQQII")
_MAP_UNMAP, _MAP_UNWRITTEN, _MAP_ATTRIBUTES, _MAP_REALTIME = 2, 1 << 30, 1 << 31, 1 << 29
#: op_flags of a change of attributes; these are about parent pointers, which nobody sees.
_ATTRIBUTE_OP = struct.Struct("<I"), 24
_PARENT_OPS = frozenset({4, 5, 6})


def replay(volume: Volume) -> Disk:
    """Return the disk of `volume` with the log replayed; as it is if there is nothing to replay.

    Errors: `CorruptImage`, `LimitExceeded`; `UnsupportedFeature` for what cannot be replayed here, with what to do.
    """
    log = Log(volume)
    where = log.dirty()
    if where is None:
        return volume.disk
    unknown = volume.superblock.log_incompat & ~int(LogIncompat.XATTRS) if volume.v5 else 0
    if unknown:
        raise log.unsupported(f"a log with the features {unknown:#x}")
    return _Replay(volume, log).run(*where)


class _Replay:
    def __init__(self, volume: Volume, log: Log) -> None:
        self._volume = volume
        self._log = log
        self._disk = Replayed(volume.disk.source)
        #: Buffers (sector, sectors) that were freed -> how often that is still ahead.
        self._cancelled: Counter[tuple[int, int]] = Counter()
        #: Buffers that were changed since the LSN did.
        self._fresh: set[int] = set()
        self._lsn = 0
        #: What was begun: type and id -> item.
        self._begun: dict[tuple[int, int], bytes] = {}

    def run(self, tail: int, head: int) -> Disk:
        for transaction in self._log.transactions(tail, head):
            for item in transaction.items:
                if _type(item) == _BUFFER:
                    flags, where = self._buffer_format(item)
                    self._cancelled[where] += bool(flags & _CANCELLED)
        for transaction in self._log.transactions(tail, head):
            self._advance(transaction.lsn)
            # Stable: first buffers, then inodes, then what is no longer a buffer.
            for item in sorted(transaction.items, key=self._order):
                self._apply(item, transaction.lsn)
            if 0 in self._fresh:
                # xfs_growfs: what comes later may be in groups that were not there before.
                self._volume = Volume(self._disk)
        self._advance(-1)
        self._finish()
        return self._disk

    def _order(self, item: Item) -> int:
        kind = _type(item)
        if kind == _BUFFER:
            flags, _where = self._buffer_format(item)
            return 3 if flags & _CANCELLED else 2 if flags & _INODES else 0
        return 0 if kind == _ICREATE else 1

    def _apply(self, item: Item, lsn: int) -> None:
        kind = _type(item)
        handlers: dict[int, Callable[[Item, int], None]] = {
            _BUFFER: self._buffer,
            _INODE: self._inode,
            _ICREATE: self._icreate,
        }
        if kind in handlers:
            handlers[kind](item, lsn)
        elif kind in _INTENTS or kind in _DONE:
            if len(item[0]) < _HEAD.size:
                raise self._log.corrupt(f"an item of type {kind:#x}, {len(item[0])} bytes")
            _kind, _regions, identity = _HEAD.unpack_from(item[0])
            if kind in _INTENTS:
                self._begun[kind, identity] = bytes(item[0])
            else:
                self._begun.pop((_DONE[kind], identity), None)
        elif kind not in _IGNORED:
            raise self._log.unsupported(f"an item of type {kind:#x} in its log")

    def _advance(self, lsn: int) -> None:
        """Stamp what was changed before the LSN is `lsn`, as Linux does when it writes it back."""
        if lsn == self._lsn:
            return
        for offset in self._fresh:
            place = self._place_of_lsn(self._disk.read(offset, SECTOR))
            if place is not None:
                self._disk.write(offset + place, U64.pack(self._lsn))
        self._fresh.clear()
        self._lsn = lsn

    def _buffer_format(self, item: Item) -> tuple[int, tuple[int, int]]:
        """Return the flags of a buffer, and its first sector and its sectors."""
        if len(item[0]) < _BUFFER_FORMAT.size:
            raise self._log.corrupt(f"a buffer's format of {len(item[0])} bytes")
        flags, sectors, sector, _words = _BUFFER_FORMAT.unpack_from(item[0])
        return flags, (sector, sectors)

    def _buffer(self, item: Item, lsn: int) -> None:
        flags, where = self._buffer_format(item)
        if flags & _CANCELLED:
            self._cancelled[where] -= 1
            return
        # Of inodes there is nothing but the list of those that are unlinked.
        if self._cancelled[where] > 0 or flags & (_INODES | _QUOTA) or flags >> _KIND_SHIFT in _USELESS_KINDS:
            return
        length = where[1] << SECTOR_LOG
        offset = self._checked(where[0] << SECTOR_LOG, max(length, SECTOR))
        found = self._lsn_at(offset)
        if found is not None and found >= lsn:
            # What is on the disk is from later.
            return
        *_others, words = _BUFFER_FORMAT.unpack_from(item[0])
        bitmap = item[0][_BUFFER_FORMAT.size : _BUFFER_FORMAT.size + 4 * words]
        bits = int.from_bytes(bitmap, "little")
        if bits.bit_length() * _CHUNK > length:
            raise self._log.corrupt(f"a buffer of {length} bytes is changed behind its end")
        chunk = 0
        for data in item[1:]:
            # The next that is set, and those that follow it; a row of them may be in several pieces.
            rest = bits >> chunk
            chunk += (rest & -rest).bit_length() - 1 if rest else 0
            rest = bits >> chunk
            row = (~rest & rest + 1).bit_length() - 1
            count = min(row, len(data) // _CHUNK)
            if not count:
                raise self._log.corrupt(f"a buffer of {length} bytes has {len(data)} bytes too many")
            self._disk.write(offset + chunk * _CHUNK, data[: count * _CHUNK])
            chunk += count
        if bits >> chunk:
            raise self._log.corrupt(f"a buffer of {length} bytes lacks what was changed")
        self._fresh.add(offset)

    def _lsn_at(self, offset: int) -> int | None:
        """Return the LSN in the buffer at `offset`; None if that says nothing."""
        data = self._disk.read(offset, SECTOR)
        place = self._place_of_lsn(data)
        if place is None:
            return None
        lsn: int = U64.unpack_from(data, place)[0]
        return lsn if lsn not in (0, (1 << 64) - 1) else None

    def _place_of_lsn(self, data: bytes) -> int | None:
        """Return where a buffer has its LSN; None for what has none, or is what another file system left there."""
        if not self._volume.v5:
            return None
        if data.startswith(MAGIC):
            return SUPERBLOCK_LSN
        magic = data[:4]
        (short,) = U16.unpack_from(data, DA_MAGIC_AT)
        if magic == BTREE_MAGIC[True]:
            header = BTREE_HEADER
        elif magic in (ONE_BLOCK_MAGIC[True], DATA_BLOCK_MAGIC[True]):
            header = DIRECTORY_HEADER
        elif magic == SYMLINK_MAGIC:
            header = REMOTE_HEADER
        elif short in (ATTR_LEAF_MAGIC[True], ATTR_NODE_MAGIC[True], DIR_LEAF1_MAGIC, DIR_LEAFN_MAGIC):
            header = DA_HEADER
        else:
            return None
        return header.lsn if data[header.uuid : header.uuid + 16] == self._volume.uuid else None

    def _inode(self, item: Item, lsn: int) -> None:
        size = len(item[0])
        form = next((each for each in _INODE_FORMAT if each.size == size), None)
        if form is None:
            raise self._log.corrupt(f"an inode's format of {size} bytes")
        fields, _attributes, _data, number, device, sector, length, inside = form.unpack(item[0])
        if self._cancelled[sector, length] > 0:
            return
        offset = (sector << SECTOR_LOG) + inside
        raw = self._disk.read(self._checked(offset, self._volume.inode_size), self._volume.inode_size)
        changed = recovered(self._volume, raw, Logged(number, fields, device, item[1:], lsn))
        if changed is not None:
            self._disk.write(offset, changed)
        if fields & _ADOPTED:
            self._disk.adopted.add(number)

    def _icreate(self, item: Item, _lsn: int) -> None:
        buffers = list(icreated(self._volume, bytes(item[0])))
        # All of a chunk were freed, or none.
        if not any(self._cancelled[offset >> SECTOR_LOG, len(data) >> SECTOR_LOG] > 0 for offset, data in buffers):
            for offset, data in buffers:
                self._disk.write(offset, data)

    def _checked(self, offset: int, length: int) -> int:
        """Return `offset`, of `length` bytes that are to be changed; CorruptImage unless they are the disk's."""
        if offset < 0 or offset + length > self._volume.disk.source.size:
            raise self._log.corrupt(f"it changes {length} bytes at {offset}, outside of the disk")
        return offset

    def _finish(self) -> None:
        """Note what was begun and not ended: of extents it is done here, what else there is cannot be."""
        for (kind, _identity), data in self._begun.items():
            if kind == _EXCHANGE:
                raise self._log.unsupported("an exchange of files' contents that was under way")
            if kind == _ATTRIBUTE:
                form, at = _ATTRIBUTE_OP
                operation = form.unpack_from(data, at)[0] & 0xFF if len(data) >= at + form.size else 0
                if operation not in _PARENT_OPS:
                    raise self._log.unsupported("a change of extended attributes that was under way")
                continue
            if len(data) != _MAP.size:
                raise self._log.corrupt(f"an intent to map {len(data)} bytes")
            owner, block, at, length, flags = _MAP.unpack(data)
            if flags & _MAP_REALTIME or flags & 0xFF not in (1, _MAP_UNMAP) or not length:
                raise self._log.corrupt(f"an intent to map {length} blocks, with the flags {flags:#x}")
            self._disk.pending.setdefault(owner, []).append(
                BmapIntent(
                    bool(flags & _MAP_ATTRIBUTES),
                    flags & 0xFF == _MAP_UNMAP,
                    at,
                    length,
                    block,
                    bool(flags & _MAP_UNWRITTEN),
                )
            )


def _type(item: Item) -> int:
    return int.from_bytes(item[0][:2], "little")
