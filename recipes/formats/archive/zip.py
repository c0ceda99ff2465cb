"""Zip archives, by their central directory.

Specification: PKWARE, APPNOTE.TXT 6.3.10, named by section here. Read are members that are stored or deflated, in one
file, with zip64. The central directory decides, and each local header has to agree with it. Refused by name: encrypted
members, other methods, archives of several disks. Members that overlap are refused: no archive needs them, and with
them a small one holds more than any honest one (a zip bomb).
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.source import read, read_exact

from .member import CHUNK, Member, corrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.formats.io.source import Source

#: 4.3.16, 4.3.15, 4.3.14, 4.3.12, 4.3.7.
_END = struct.Struct("<4s4H2IH")
_END_MAGIC = b"PK\5\6"
_LOCATOR = struct.Struct("<4sIQI")
_LOCATOR_MAGIC = b"PK\6\7"
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_MAGIC = b"PK\6\6"
_ENTRY = struct.Struct("<4s6H3I5H2I")
_ENTRY_MAGIC = b"PK\1\2"
_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\3\4"
#: Of the comment at the end.
_COMMENT = 0xFFFF
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
#: The extra field of zip64 (4.5.3).
_ZIP64 = 1
#: General purpose flags (4.4.4): encryption, strong encryption, a masked central directory; names in UTF-8; patches.
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_UTF8 = 1 << 11
_PATCHED = 1 << 5
_STORED, _DEFLATED = 0, 8
_METHODS = {1: "shrunk", 6: "imploded", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd"}
#: Of the specification, times ten (4.4.3).
_VERSION = 63
#: What made it: file attributes of Unix are in the upper half of the external ones (4.4.2, 4.4.15).
_UNIX = 3
_TYPE, _DIRECTORY = 0o170000, 0o040000
#: Regular files, what does not say, and what zip(1) has from a pipe.
_FILES = frozenset({0o100000, 0, 0o010000})

#: Members that an archive with a disk may have, and bytes of its central directory.
MAX_MEMBERS = 1 << 16
_MAX_DIRECTORY = 16 << 20
#: Compressed bytes that a decoder is given at a time.
_READ = 1 << 17


class _Entry(NamedTuple):
    """An entry of the central directory."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    stored: int
    size: int
    at: int


def members(source: Source, piece: int = CHUNK) -> list[Member]:
    """Return the regular files of the archive `source`; only the central directory is read, members by `piece` bytes.

    Errors, also of a member's chunks: `CorruptImage`; `UnsupportedFeature`, which names what is not read;
    `LimitExceeded` for a directory that is too large.
    """
    name = source.name
    start, size, count, shift = _directory(source)
    if size > _MAX_DIRECTORY or count > MAX_MEMBERS:
        raise LimitExceeded(f"{name}: a zip archive of {count} members, and {MAX_MEMBERS} are allowed")
    data = read_exact(source, start, size)
    found: list[_Entry] = []
    at = 0
    for _ in range(count):
        if data[at : at + 4] != _ENTRY_MAGIC or len(data) - at < _ENTRY.size:
            raise corrupt(name, "", f"expected {count} entries of a central directory, found {len(found)}")
        entry, at, is_file = _entry(name, data, at, shift)
        if is_file:
            found.append(entry)
    if at != len(data):
        raise corrupt(name, "", f"its central directory has {len(data)} bytes, and its entries {at}")
    _require_apart(name, found, start)
    return [Member(each.name, each.size, partial(_chunks, source, each, piece)) for each in found]


def _directory(source: Source) -> tuple[int, int, int, int]:
    """Return where the central directory is, its bytes and entries, and by how much all places in it are off."""
    name = source.name
    tail_at = max(0, source.size - _END.size - _COMMENT)
    tail = read(source, tail_at, source.size - tail_at)
    at = len(tail)
    while (at := tail.rfind(_END_MAGIC, 0, at)) >= 0:
        # The signature may be in a comment as well: only where the comment ends with the file it is the record's.
        if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[7] == len(tail):
            break
    if at < 0:
        raise corrupt(name, "", "expected the end of a zip archive, which is cut")
    _, disk, first, here, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    if _FULL16 in (disk, first, here, count) or _FULL32 in (size, start):
        if end < _LOCATOR.size:
            raise corrupt(name, "", "expected a zip64 locator")
        magic, disk, place, disks = _LOCATOR.unpack(read_exact(source, end - _LOCATOR.size, _LOCATOR.size))
        if magic == _LOCATOR_MAGIC:
            if disk or disks > 1:
                raise _split(name)
            record = _END64.unpack(read_exact(source, place, _END64.size))
            magic, _, _, _, disk, first, here, count, size, start = record
            if magic != _END64_MAGIC:
                raise corrupt(name, "", "expected the end record of a zip64 archive")
            end = place
    if disk or first or here != count:
        raise _split(name)
    # What stands before an archive, as a program that unpacks it, is not counted by some writers.
    shift = end - size - start
    if shift < 0:
        raise corrupt(name, "", "its central directory is larger than the archive")
    return start + shift, size, count, shift


def _split(name: str) -> UnsupportedFeature:
    return UnsupportedFeature(f"{name}: a zip archive in several files is not supported", hint="zip -s 0 joins them")


def _entry(archive: str, data: bytes, at: int, shift: int) -> tuple[_Entry, int, bool]:
    """Read the entry at `at`; return it, where the next one is, and whether it is a regular file."""
    fields = _ENTRY.unpack_from(data, at)
    _, made_by, needed, flags, method, _, _, crc, stored, size = fields[:10]
    name_size, extra_size, comment_size, disk, _, external, place = fields[10:]
    begin = at + _ENTRY.size
    end = begin + name_size + extra_size + comment_size
    if end > len(data):
        raise corrupt(archive, "", "its central directory is cut")
    raw = data[begin : begin + name_size]
    name = _name(raw, is_utf8=bool(flags & _UTF8) or made_by >> 8 == _UNIX)
    size, stored, place, disk = _wide(
        archive, name, data[begin + name_size : begin + name_size + extra_size], (size, stored, place, disk)
    )
    mode = external >> 16 if made_by >> 8 == _UNIX else 0
    is_file = not name.endswith("/") and mode & _TYPE in _FILES
    if not is_file and mode & _TYPE not in (*_FILES, _DIRECTORY):
        # A symbolic link, a device: never a disk.
        return _Entry(name, raw, method, crc, stored, size, place + shift), end, False
    if needed & 0xFF > _VERSION:
        raise UnsupportedFeature(
            f"{archive}: {name} needs version {needed & 0xFF} of the format, and {_VERSION} is read"
        )
    if flags & _PATCHED:
        raise UnsupportedFeature(f"{archive}: {name} is a patch of another file")
    if is_file and flags & _ENCRYPTED:
        raise UnsupportedFeature(f"{archive}: {name} is encrypted", hint="unpack it, and take the image that is in it")
    if disk:
        raise _split(archive)
    if is_file and method not in (_STORED, _DEFLATED):
        how = _METHODS.get(method, f"by method {method}")
        raise UnsupportedFeature(
            f"{archive}: {name} is compressed by {how}, and only deflate is read"
            if method in (9, 12, 14, 93, 95, 98)
            else f"{archive}: {name} is {how}, which is not supported",
            hint="unpack it, and take the image that is in it",
        )
    if is_file and method == _STORED and stored != size:
        raise corrupt(archive, name, f"is stored in {stored} bytes and has {size}")
    return _Entry(name, raw, method, crc, stored, size, place + shift), end, is_file


def _name(raw: bytes, *, is_utf8: bool) -> str:
    """Return a name as its writer means it (appendix D); Info-ZIP on Unix has UTF-8 without saying so."""
    if is_utf8:
        with suppress(UnicodeDecodeError):
            return raw.decode()
    return raw.decode("cp437")


def _wide(archive: str, name: str, extra: bytes, values: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return size, stored size, place and disk, those that 32 bits do not hold from the zip64 field (4.5.3)."""
    full = (_FULL32, _FULL32, _FULL32, _FULL16)
    if not any(value == limit for value, limit in zip(values, full, strict=True)):
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind != _ZIP64:
            continue
        found, where = [], 0
        for value, limit, width in zip(values, full, (8, 8, 8, 4), strict=True):
            if value == limit:
                if where + width > len(field):
                    raise corrupt(archive, name, "its zip64 field is cut")
                value = int.from_bytes(field[where : where + width], "little")
                where += width
            found.append(value)
        return found[0], found[1], found[2], found[3]
    return values


def _require_apart(archive: str, entries: list[_Entry], end: int) -> None:
    """Raise CorruptImage for members that share bytes, or are not before the central directory."""
    last = 0
    for entry in sorted(entries, key=lambda each: each.at):
        if entry.at < last:
            raise corrupt(archive, entry.name, "overlaps another member")
        last = entry.at + _LOCAL.size + len(entry.raw_name) + entry.stored
        if last > end:
            raise corrupt(archive, entry.name, f"ends at byte {last}, and the members at byte {end}")


def _chunks(source: Source, entry: _Entry, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield the content of a member, and hold it against what the directory says."""
    header = read_exact(source, entry.at, _LOCAL.size)
    magic, _, _, method, _, _, _, _, _, name_size, extra_size = _LOCAL.unpack(header)
    begin = entry.at + _LOCAL.size
    if magic != _LOCAL_MAGIC or method != entry.method or read(source, begin, name_size) != entry.raw_name:
        raise corrupt(source.name, entry.name, "its header is not what the directory says")
    begin += name_size + extra_size
    crc = size = 0
    for piece in (_stored if entry.method == _STORED else _inflated)(source, entry, begin, most):
        if size + len(piece) > entry.size:
            raise corrupt(source.name, entry.name, f"has more than the {entry.size} bytes that the directory says")
        crc = zlib.crc32(piece, crc)
        yield size, piece
        size += len(piece)
    if size != entry.size:
        raise corrupt(source.name, entry.name, f"expected {entry.size} bytes, found {size}")
    if crc != entry.crc:
        raise corrupt(source.name, entry.name, f"expected the CRC-32 {entry.crc:08x}, found {crc:08x}")


def _stored(source: Source, entry: _Entry, begin: int, most: int) -> Iterator[bytes]:
    for at in range(0, entry.stored, most):
        yield read_exact(source, begin + at, min(most, entry.stored - at))


def _inflated(source: Source, entry: _Entry, begin: int, most: int) -> Iterator[bytes]:
    # isal's decoder is three times as fast as zlib's, and stops where it is told to.
    from isal import isal_zlib

    # isal's stub takes the class for an instance.
    failure = cast("type[Exception]", isal_zlib.error)
    decoder = isal_zlib.decompressobj(-15)
    step = min(_READ, most)
    for at in range(0, entry.stored, step):
        data = read_exact(source, begin + at, min(step, entry.stored - at))
        while data:
            try:
                piece = decoder.decompress(data, most)
            except failure as error:
                raise corrupt(source.name, entry.name, str(error)) from error
            if piece:
                yield piece
            if decoder.eof:
                if decoder.unused_data or at + step < entry.stored:
                    raise corrupt(source.name, entry.name, "has something behind its data")
                return
            data = decoder.unconsumed_tail
    while piece := decoder.decompress(b"", most):
        yield piece
    if not decoder.eof:
        raise corrupt(source.name, entry.name, "its data ends too early")
