"""XFS's log as it is on the disk: where it begins and ends, whether it is empty, its records and transactions.

Specification: "XFS Algorithms & Data Structures" ("Journaling Log") and, where that is silent, Linux,
fs/xfs/xfs_log_recover.c and fs/xfs/libxfs/xfs_log_format.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded

from .layout import SECTOR, SECTOR_LOG, U32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.errors import CorruptImage, UnsupportedFeature

    from .volume import Volume

#: What to do about a log that is not replayed here.
HINT = (
    "mount the disk once, or boot it: Linux replays the log; `xfs_repair -L` empties it instead, and loses what was "
    "changed last"
)
_MAGIC = bytes.fromhex("feedbabe")
#: cycle, version, length, LSN, LSN of the tail, (CRC), number of operations.
_HEADER = struct.Struct(">4xIIIQQ4x4xI")
#: format, UUID, size of the buffers that records are made in.
_HEADER_END, _HEADER_END_AT = struct.Struct(">I16sI"), 300
_CRC_AT = 32
#: Words that the cycle's number stands for in the sectors of a record: of the first 32 KiB in the header, the others
#: in heads of their own.
_WORDS_AT, _MORE_WORDS_AT, _WORDS_SIZE = 44, 4, 256
_PER_HEADER = 32 << 10
#: Bytes of the header that its checksum covers, on machines that align 64 bits and on those that do not; of the others.
_COVERED, _COVERED_MORE = (328, 324), 260
_LITTLE_ENDIAN = 1
#: Sectors of the longest record, heads included, and records that may be under way at once (XLOG_MAX_ICLOGS).
_LONGEST, _UNDER_WAY = 520, 8

#: tid, length, client, flags.
_OPERATION = struct.Struct(">IIBB2x")
_CLIENTS = (0x69, 0xAA)
_START, _COMMIT, _CONTINUE, _CONTINUED, _END, _UNMOUNT = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
#: What a transaction begins with, and its bytes.
_TRANSACTION_MAGIC, _TRANSACTION_SIZE = b"NART", 16
#: Pieces that one item may have (XLOG_MAX_REGIONS_IN_ITEM).
_MAX_REGIONS = 257
#: What transactions that are not complete yet may take: Linux ends them at 64 MiB. What a piece takes beside its bytes.
_MAX_OPEN, _PIECE = 192 << 20, 100


class Record(NamedTuple):
    """The header of a record."""

    #: Its sector, counted from the beginning of the log.
    at: int
    lsn: int
    #: Sector of the first record that may not have been written back yet.
    tail: int
    #: Bytes behind the headers.
    length: int
    operations: int
    #: Sectors of the headers, and of everything.
    heads: int
    sectors: int
    #: The headers themselves.
    raw: bytes


#: The pieces of an item: its format first, then what it has of the disk.
Item = list[bytearray]


@dataclass(slots=True)
class Transaction:
    """What was to be written back together."""

    #: LSN of the record that it begins in.
    lsn: int
    items: list[Item] = field(default_factory=list)
    #: What has arrived of its header.
    header: bytearray = field(default_factory=bytearray)
    #: Pieces that the last item should have.
    regions: int = 0
    #: What it takes.
    size: int = _PIECE


class Log:
    """The log of `volume`. Errors: `CorruptImage`, `UnsupportedFeature`, `LimitExceeded`."""

    def __init__(self, volume: Volume) -> None:
        superblock = volume.superblock
        self._volume = volume
        if not superblock.logstart:
            raise volume.unsupported("its log on another device", hint="mount the disk with its log device and copy it")
        self._base = volume.offset(superblock.logstart, superblock.logblocks, "the log")
        self._sectors = superblock.logblocks << volume.block_log >> SECTOR_LOG
        if not self._sectors:
            raise self.corrupt("it has no blocks")

    def corrupt(self, message: str) -> CorruptImage:
        """Return the error that says that the log contradicts its format."""
        return self._volume.corrupt(f"the log: {message}")

    def unsupported(self, feature: str) -> UnsupportedFeature:
        """Return the error that names what is not replayed here."""
        return self._volume.unsupported(f"{feature}, which has to be replayed", hint=HINT)

    def dirty(self) -> tuple[int, int] | None:
        """Return where what has to be replayed begins and ends, in sectors; None if the file system was unmounted."""
        head = self._end_of_cycle()
        last = self._before(head)
        if self._is_unmount(last, head):
            return None
        head = self._settled(self._whole_records(head))
        last = self._before(head)
        tail, head = last.tail % self._sectors, head % self._sectors
        return None if tail == head or self._is_unmount(last, head) else (tail, head)

    def records(self, tail: int, head: int) -> Iterator[Record]:
        """Yield the records from sector `tail` to sector `head`, in order."""
        at = tail
        left = (head - tail) % self._sectors
        while left > 0:
            record = self._record(at)
            if record is None or not self._is_whole(record):
                raise self.corrupt(f"expected a record at sector {at}, found none, or not as its checksum says")
            self._check(record)
            yield record
            at = (at + record.sectors) % self._sectors
            left -= record.sectors
        if left:
            raise self.corrupt(f"its records do not end at sector {head}")

    def transactions(self, tail: int, head: int) -> Iterator[Transaction]:
        """Yield the transactions in those records that were committed, in the order in which they were.

        Nothing is held of those that were yielded: a log may have millions of records.
        """
        open_: dict[int, Transaction] = {}
        held = 0
        for record in self.records(tail, head):
            body = self._body(record)
            at = 0
            for _ in range(record.operations):
                if at + _OPERATION.size > len(body):
                    break
                tid, length, client, flags = _OPERATION.unpack_from(body, at)
                at += _OPERATION.size
                if client not in _CLIENTS or at + length > len(body):
                    raise self.corrupt(f"an operation of {length} bytes, client {client:#x}, at sector {record.at}")
                data = bytearray(body[at : at + length])
                at += length
                if tid not in open_:
                    # What is left of a transaction whose beginning was written back already.
                    if flags & _START:
                        open_[tid] = Transaction(record.lsn)
                        held += _PIECE
                    continue
                transaction = open_[tid]
                kind = flags & ~_END
                if kind in (_COMMIT, _UNMOUNT):
                    del open_[tid]
                    held -= transaction.size
                    if kind == _COMMIT:
                        yield transaction
                elif kind in (0, _CONTINUE) or kind & ~_CONTINUE == _CONTINUED:
                    transaction.size += _PIECE + len(data)
                    held += _PIECE + len(data)
                    if held > _MAX_OPEN:
                        raise LimitExceeded(
                            f"{self._volume.name}: a transaction in the log takes more than {_MAX_OPEN} bytes",
                            hint=HINT,
                        )
                    self._add(transaction, data, continued=bool(kind & _CONTINUED))
                else:
                    raise self.corrupt(f"an operation with the flags {flags:#x} at sector {record.at}")

    def _add(self, transaction: Transaction, data: bytearray, *, continued: bool) -> None:
        """Put a piece into a transaction; `continued` says that it belongs to the one before it."""
        if not data:
            return
        if len(transaction.header) < _TRANSACTION_SIZE:
            transaction.header += data
            if len(transaction.header) > _TRANSACTION_SIZE or not transaction.header.startswith(
                _TRANSACTION_MAGIC[: len(transaction.header)]
            ):
                raise self.corrupt(f"a transaction begins with {transaction.header[:20].hex()}")
            return
        items = transaction.items
        if continued:
            if not items:
                raise self.corrupt("a transaction goes on before it has begun")
            items[-1][-1] += data
        elif items and len(items[-1]) < transaction.regions:
            items[-1].append(data)
        else:
            transaction.regions = int.from_bytes(data[2:4], "little")
            if not 0 < transaction.regions <= _MAX_REGIONS:
                raise self.corrupt(f"an item of {transaction.regions} pieces")
            items.append([data])

    def _read(self, at: int, count: int) -> bytes:
        """Return `count` sectors from `at` on, which may be before the beginning: the log is a circle."""
        at %= self._sectors
        first = min(count, self._sectors - at)
        disk = self._volume.disk
        data = disk.read(self._base + (at << SECTOR_LOG), first << SECTOR_LOG)
        return data + disk.read(self._base, count - first << SECTOR_LOG) if count > first else data

    def _cycle(self, at: int) -> int:
        return _cycle(self._read(at, 1), 0)

    def _end_of_cycle(self) -> int:
        """Return the first sector that was not written in the latest lap, as far as a binary search can tell."""
        count = self._sectors
        first, last = self._cycle(0), self._cycle(count - 1)
        if not first:
            raise self.corrupt("nothing was ever written to it")
        if first == last:
            return count
        low, high = 0, count - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._cycle(middle) == last else (middle, high)
        return high

    def _whole_records(self, head: int) -> int:
        """Return `head` corrected by what was written out of order, or in part, when the machine stopped.

        Several records are under way at once, so before the head there may be sectors of the lap before
        (xlog_find_head).
        """
        count = self._sectors
        last = self._cycle(count - 1)
        stale = last - 1 if head == count else last
        back = min(count, _UNDER_WAY << 9)
        data = self._read(head - back, back)
        for index in range(back):
            at = head - back + index
            if _cycle(data, index << SECTOR_LOG) == (stale if at >= 0 else stale - 1):
                head = at % count
                break
        record = self._before(head)
        return record.at if (head - record.at - record.sectors) % count else head

    def _settled(self, head: int) -> int:
        """Return `head`, or the first of the last records that is not as its checksum says (xlog_verify_head)."""
        recent = [self._before(head)]
        tail = recent[0].tail
        room = (head - tail) % self._sectors
        while len(recent) < _UNDER_WAY and (head - recent[-1].at) % self._sectors < room:
            recent.append(self._before(recent[-1].at))
        torn = (record.at for record in reversed(recent) if not self._is_whole(record))
        return next(torn, head)

    def _before(self, head: int) -> Record:
        """Return the last record that begins before sector `head`."""
        count = min(_LONGEST, self._sectors)
        data = self._read(head - count, count)
        for index in reversed(range(count)):
            if data.startswith(_MAGIC, index << SECTOR_LOG):
                record = self._record((head - count + index) % self._sectors)
                if record:
                    return record
        raise self.corrupt(f"expected a record before sector {head}, found none")

    def _record(self, at: int) -> Record | None:
        """Return the record that begins at sector `at`, or None if there is none."""
        raw = self._read(at, 1)
        _cycle, version, length, lsn, tail, operations = _HEADER.unpack_from(raw)
        _format, _uuid, size = _HEADER_END.unpack_from(raw, _HEADER_END_AT)
        heads = -(-size // _PER_HEADER) if version & 2 and size > _PER_HEADER else 1
        sectors = heads - (-length >> SECTOR_LOG)
        if not raw.startswith(_MAGIC) or version not in (1, 2) or not length or sectors > min(_LONGEST, self._sectors):
            return None
        raw += self._read(at + 1, heads - 1) if heads > 1 else b""
        return Record(at, lsn, tail & 0xFFFFFFFF, length, operations, heads, sectors, raw)

    def _check(self, record: Record) -> None:
        """Raise for a record that was not written for this file system, or not by a machine like this one."""
        form, uuid, _size = _HEADER_END.unpack_from(record.raw, _HEADER_END_AT)
        if form != _LITTLE_ENDIAN:
            raise self.unsupported("a log of a big-endian machine")
        if uuid != self._volume.superblock.uuid:
            raise self.corrupt(f"the record at sector {record.at} is another file system's")

    def _is_unmount(self, record: Record, head: int) -> bool:
        """Say whether this is all that is left of a file system that was unmounted."""
        if record.operations != 1 or (head - record.at - record.sectors) % self._sectors:
            return False
        return bool(_OPERATION.unpack_from(self._read(record.at + record.heads, 1))[3] & _UNMOUNT)

    def _is_whole(self, record: Record) -> bool:
        """Say whether a record is as its checksum says; always in version 4, which has none."""
        from google_crc32c import extend, value

        expected = int.from_bytes(record.raw[_CRC_AT : _CRC_AT + 4], "little")
        # mkfs.xfs writes none.
        if not self._volume.v5 or not expected:
            return True
        more = [record.raw[at : at + _COVERED_MORE] for at in range(SECTOR, len(record.raw), SECTOR)]
        payload = self._read(record.at + record.heads, record.sectors - record.heads)[: record.length]
        rest = b"".join((*more, payload))
        header = record.raw[:_CRC_AT] + bytes(4) + record.raw[_CRC_AT + 4 : SECTOR]
        return any(extend(value(header[:size]), rest) == expected for size in _COVERED)

    def _body(self, record: Record) -> bytes:
        """Return what is behind the headers, with the words back in place that the cycle's number stands for."""
        body = bytearray(self._read(record.at + record.heads, record.sectors - record.heads))
        words = record.raw[_WORDS_AT : _WORDS_AT + _WORDS_SIZE] + b"".join(
            record.raw[at + _MORE_WORDS_AT : at + _MORE_WORDS_AT + _WORDS_SIZE]
            for at in range(SECTOR, len(record.raw), SECTOR)
        )
        for index in range(min(len(body) >> SECTOR_LOG, len(words) // 4)):
            body[index << SECTOR_LOG : (index << SECTOR_LOG) + 4] = words[4 * index : 4 * index + 4]
        return bytes(body[: record.length])


def _cycle(data: bytes, at: int) -> int:
    """Return in which lap the sector at byte `at` was written."""
    # A record's header begins with its magic, and the number comes behind that.
    cycle: int = U32.unpack_from(data, at + 4 if data.startswith(_MAGIC, at) else at)[0]
    return cycle
