"""The log of a VHDX that was not closed: what it still had to write, as pages over the file.

Specification: [MS-VHDX] v20180912, section 2.3. Metadata alone is logged, never the disk's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .layout import LOG_DATA, LOG_DESCRIPTOR, LOG_ENTRY, LOG_SECTOR, MIB, is_checksummed

if TYPE_CHECKING:
    from recipes.formats.disk.file import ImageFile

#: Bytes of a log; Windows makes 1 MiB.
_LOG_MOST = 64 * MIB
#: How many times its own bytes a log may be summed up in the search for its active sequence.
_PASSES = 16
#: Bytes of metadata that a log may say are zeros.
_ZEROS_MOST = 256 * MIB


class _Entry(NamedTuple):
    """A valid entry: its place in the log, its bytes, and its header."""

    offset: int
    data: bytes
    tail: int
    sequence: int
    descriptors: int
    flushed: int


def replayed(file: ImageFile, offset: int, length: int, guid: bytes) -> dict[int, bytes]:
    """Return the pages of 4 KiB, by their place in the file, that the log at `offset` has to say otherwise.

    Nothing if no valid entry is there: the log was never written to. Errors: `CorruptImage`; `UnsupportedFeature`.
    """
    if offset % MIB or length % MIB or not length:
        raise file.corrupt(f"expected a log of whole MiB, found {length} bytes at {offset}")
    if length > _LOG_MOST:
        raise file.unsupported(f"a log of {length} bytes", hint="attach it once where it came from, which empties it")
    active = _active(file, file.read(offset, length, "the log"), guid)
    pages: dict[int, bytes] = {}
    for entry in active:
        _apply(file, entry, pages)
    if active and active[-1].flushed > file.file_size:
        raise file.truncated("what the log was written for", active[-1].flushed)
    return pages


def _active(file: ImageFile, log: bytes, guid: bytes) -> list[_Entry]:
    """Return the active sequence, oldest entry first (2.3.3)."""
    known: dict[int, _Entry | None] = {}
    left = _PASSES * len(log)

    def at(offset: int) -> _Entry | None:
        nonlocal left
        if offset not in known:
            entry, cost = _entry(log, offset, guid)
            left -= cost
            if left < 0:
                raise file.corrupt("the entries of its log overlap each other")
            known[offset] = entry
        return known[offset]

    best: list[_Entry] = []
    begun: set[int] = set()
    for start in range(0, len(log), LOG_SECTOR):
        if start in begun:
            continue
        found: list[_Entry] = []
        offset, entry = start, at(start)
        while entry and (not found or entry.sequence == found[-1].sequence + 1) and len(found) * LOG_SECTOR < len(log):
            found.append(entry)
            # What another sequence has as its middle is the beginning of none that is longer.
            begun.add(offset)
            offset = (offset + len(entry.data)) % len(log)
            entry = at(offset)
        places = [each.offset for each in found]
        if found and found[-1].tail in places and (not best or found[-1].sequence > best[-1].sequence):
            best = found[places.index(found[-1].tail) :]
    return best


def _entry(log: bytes, offset: int, guid: bytes) -> tuple[_Entry | None, int]:
    """Return the entry at `offset`, None if none is valid there, and the bytes that were summed up to know."""
    fields = LOG_ENTRY.unpack_from(log, offset)
    signature, _, length, tail, sequence, descriptors, log_guid, flushed, _ = fields
    if signature != b"loge" or log_guid != guid or length % LOG_SECTOR or not 0 < length <= len(log) or not sequence:
        return None, 0
    end = offset + length
    data = log[offset:end] if end <= len(log) else log[offset:] + log[: end - len(log)]
    if not is_checksummed(data):
        return None, length
    return _Entry(offset, data, tail, sequence, descriptors, flushed), length


def _apply(file: ImageFile, entry: _Entry, pages: dict[int, bytes]) -> None:
    """Write to `pages` what an entry says (2.3.1)."""
    head = -(-(LOG_ENTRY.size + entry.descriptors * LOG_DESCRIPTOR.size) // LOG_SECTOR) * LOG_SECTOR
    at = head
    zeros = 0
    for index in range(entry.descriptors):
        place = LOG_ENTRY.size + index * LOG_DESCRIPTOR.size
        if place + LOG_DESCRIPTOR.size > min(head, len(entry.data)):
            raise file.corrupt("an entry of its log has more descriptors than it has room for")
        signature, trailing, leading, offset, sequence = LOG_DESCRIPTOR.unpack_from(entry.data, place)
        if sequence != entry.sequence or offset % LOG_SECTOR:
            raise file.corrupt(f"a descriptor of its log's entry {entry.sequence} is not of it")
        if signature == b"desc":
            if at + LOG_SECTOR > len(entry.data):
                raise file.corrupt("an entry of its log has fewer data sectors than descriptors")
            mark, high, middle, low = LOG_DATA.unpack_from(entry.data, at)
            if mark != b"data" or high << 32 | low != entry.sequence:
                raise file.corrupt(f"a data sector of its log's entry {entry.sequence} is not of it")
            pages[offset] = leading + middle + trailing
            at += LOG_SECTOR
        elif signature == b"zero":
            length = int.from_bytes(leading, "little")
            zeros += length
            if length % LOG_SECTOR or zeros > _ZEROS_MOST:
                raise file.corrupt(f"its log says that {length} bytes of metadata are zeros")
            pages.update(dict.fromkeys(range(offset, offset + length, LOG_SECTOR), bytes(LOG_SECTOR)))
        else:
            raise file.corrupt(f"expected a descriptor of the log, found {signature!r}")
