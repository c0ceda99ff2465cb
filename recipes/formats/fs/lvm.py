"""LVM2: the logical volumes of the physical volumes on a disk, each as a `Source`.

Linear and striped volumes are read, over as many physical volumes as the disk has. Thin, RAID, cached and snapshot
volumes are named and not read: what they map is in metadata of their own.

No standard describes the format: the label, the headers and the ring of the text are those of LVM2
(lib/format_text/layout.h, lib/label/label.c), the text is what vgcfgbackup(8) writes.
"""

from __future__ import annotations

import re
import struct
import zlib
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.io.source import Window, read_exact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from recipes.formats.io.source import Source

_SECTOR = 512
#: The label is in one of the first sectors (label.h, LABEL_SCAN_SECTORS).
_LABEL_SECTORS = 4
#: magic, its sector, CRC of what follows, offset of the physical volume's header, type.
_LABEL = struct.Struct("<8sQII8s")
_LABEL_CRC_FROM = 20
_UUID_LENGTH = 32
#: Areas of data and of metadata: offset, size.
_AREA = struct.Struct("<QQ")
#: CRC of what follows, magic, version, start, size.
_METADATA = struct.Struct("<I16sIQQ")
_METADATA_SIZE = 512
_METADATA_MAGIC = b" LVM2 x[5A%r0N*>"
#: Where the text is: offset in the area, size, CRC, flags (1: ignored). The first is the one that holds.
_LOCATION = struct.Struct("<QQII")
_IGNORED = 1

#: Bytes of text: those of a group with thousands of volumes. Each of its bytes costs some to parse.
_MAX_TEXT = 1 << 20
_MAX_DEPTH = 8
#: Physical and logical volumes that are looked at. Partitions may overlap, and so may what they hold: without the
#: former limit a text could be read once for each of thousands.
_MAX_PHYSICAL = 32
_MAX_VOLUMES = 256

_HINT = "download or make the image again"

#: A section, a list, a string or a number of the text.
Value: TypeAlias = "dict[str, Value] | list[Value] | str | int"
Section: TypeAlias = "dict[str, Value]"

#: What is neither space nor a comment: a string, a sign, a word.
_TOKEN = re.compile(r'(?:\s+|#[^\n]*)|("(?:[^"\\]|\\.)*"|[{}=\[\],]|[^\s#"{}=\[\],]+)', re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class Volume(NamedTuple):
    """A logical volume."""

    #: As LVM has it, ``group/volume``.
    name: str
    #: In bytes, 0 if that is not known.
    size: int
    #: Its content, None for what is not read.
    source: Source | None
    #: What it is that is not read, as LVM calls it: ``thin``, ``raid1``.
    why_not: str = ""


class _Physical(NamedTuple):
    source: Source
    #: 32 characters, without the hyphens that the text has.
    uuid: str
    text: str | None


class _Stripes(NamedTuple):
    """A segment of a volume: bytes that lie in turns of `stripe` bytes in each of `areas`."""

    at: int
    length: int
    stripe: int
    areas: tuple[tuple[Source, int], ...]


def volumes(partitions: Sequence[Source]) -> list[Volume]:
    """Return the volumes that LVM shows of the groups on `partitions`, all the physical volumes of one disk.

    Errors: `CorruptImage`; `LimitExceeded` for more than 256 volumes, on more than 32 physical ones, and for more than
    1 MiB of text.
    """
    if len(partitions) > _MAX_PHYSICAL:
        raise LimitExceeded(
            f"{partitions[0].name}: LVM2: {len(partitions)} physical volumes, and {_MAX_PHYSICAL} are looked at"
        )
    physical = [_physical(source) for source in partitions]
    by_uuid = {each.uuid: each.source for each in physical}
    # Each physical volume may have the text; one that was absent when the group changed has an old one.
    newest: dict[str, tuple[int, str, Section]] = {}
    seen: set[str] = set()
    for each in physical:
        if each.text is None or each.text in seen:
            continue
        seen.add(each.text)
        if sum(map(len, seen)) > 2 * _MAX_TEXT:
            raise LimitExceeded(
                f"{each.source.name}: LVM2: the texts of all groups have more than {2 * _MAX_TEXT} bytes"
            )
        where = each.source.name
        name, group = _group(parse(each.text, where), where)
        identity, sequence = _text(group, "id", where), _count(group, "seqno", where)
        if identity not in newest or newest[identity][0] < sequence:
            newest[identity] = (sequence, name, group)
    found = [volume for _, name, group in newest.values() for volume in _volumes(name, group, by_uuid)]
    if len(found) > _MAX_VOLUMES:
        raise LimitExceeded(f"{partitions[0].name}: LVM2: {len(found)} volumes, and {_MAX_VOLUMES} are looked at")
    return found


def parse(text: str, where: str) -> Section:
    """Return the sections and values of metadata `text`, which errors say is of `where`; `CorruptImage`.

    A number is an int; a key that comes again has its last value.
    """
    tokens = _tokens(text, where)
    section = _section(tokens, where, 0)
    if next(tokens, None) is not None:
        raise _corrupt(where, "the text has a closing brace too many")
    return section


def _tokens(text: str, where: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _corrupt(where, "the text has a string without an end")
        at = match.end()
        if match[1]:
            yield match[1]


def _section(tokens: Iterator[str], where: str, depth: int) -> Section:
    section: Section = {}
    if depth > _MAX_DEPTH:
        raise LimitExceeded(f"{where}: LVM2: sections in sections, more than {_MAX_DEPTH} deep")
    for name in tokens:
        if name == "}" and depth:
            return section
        sign = next(tokens, "")
        if sign == "{":
            section[name] = _section(tokens, where, depth + 1)
        elif sign == "=":
            section[name] = _value(tokens, where)
        else:
            raise _corrupt(where, f"the text has {sign or 'nothing'!r} after {name[:40]!r}")
    if depth:
        raise _corrupt(where, "the text ends in a section")
    return section


def _value(tokens: Iterator[str], where: str) -> Value:
    token = next(tokens, "")
    if token != "[":
        return _scalar(token, where)
    values: list[Value] = []
    for token in tokens:
        if token == "]":
            return values
        if token != ",":
            values.append(_scalar(token, where))
    raise _corrupt(where, "the text ends in a list")


def _scalar(token: str, where: str) -> Value:
    if token.startswith('"'):
        return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)
    if _NUMBER.fullmatch(token):
        return int(token)
    raise _corrupt(where, f"the text has {token[:40]!r} as a value")


def _physical(source: Source) -> _Physical:
    for sector in range(_LABEL_SECTORS):
        label = read_exact(source, sector * _SECTOR, _SECTOR)
        magic, number, crc, offset, kind = _LABEL.unpack_from(label)
        if magic == b"LABELONE" and kind == b"LVM2 001":
            break
    else:
        raise _corrupt(source.name, "no label")
    if number != sector or crc != checksum(label[_LABEL_CRC_FROM:]):
        raise _corrupt(source.name, "the label's checksum or sector is wrong")
    header = label[offset : offset + _UUID_LENGTH]
    if len(header) < _UUID_LENGTH:
        raise _corrupt(source.name, "the label leads nowhere")
    # The size of the device comes between; the areas of data are of no use: the text says where they begin.
    _, after = _areas(source, label, offset + _UUID_LENGTH + 8)
    areas, _ = _areas(source, label, after)
    texts = [_metadata(source, start) for start, _size in areas]
    # Where there are two areas they are copies; one that is not whole is why there are two.
    whole = [text for text in texts if isinstance(text, str)]
    broken = [text for text in texts if isinstance(text, CorruptImage)]
    if broken and not whole:
        raise broken[0]
    return _Physical(source, header.decode("latin-1"), whole[0] if whole else None)


def _areas(source: Source, label: bytes, offset: int) -> tuple[list[tuple[int, int]], int]:
    """Return the areas in the list at `offset` of `label`, which one of zeros ends, and what comes after it."""
    areas: list[tuple[int, int]] = []
    while offset + _AREA.size <= len(label):
        start, size = _AREA.unpack_from(label, offset)
        offset += _AREA.size
        if not start:
            return areas, offset
        areas.append((start, size))
    raise _corrupt(source.name, "the list of areas has no end")


def _metadata(source: Source, start: int) -> str | CorruptImage | None:
    """Return the text in the metadata area at `start`; None for none; an error, not raised, for one that is broken."""
    try:
        header = read_exact(source, start, _METADATA_SIZE)
    except CorruptImage as error:
        return error
    crc, magic, version, at, size = _METADATA.unpack_from(header)
    if magic != _METADATA_MAGIC or version != 1 or at != start or crc != checksum(header[4:]):
        return _corrupt(source.name, f"the header of the metadata at {start} is not whole")
    offset, length, crc, flags = _LOCATION.unpack_from(header, _METADATA.size)
    if not offset or flags & _IGNORED:
        return None
    if length > _MAX_TEXT:
        raise LimitExceeded(f"{source.name}: LVM2: {length} bytes of metadata, and {_MAX_TEXT} are read")
    if not _METADATA_SIZE <= offset < size or length > size - _METADATA_SIZE:
        return _corrupt(source.name, f"the metadata at {start} is past its area")
    # A ring: what is past the end goes on behind the header.
    first = min(length, size - offset)
    try:
        data = read_exact(source, start + offset, first)
        data += read_exact(source, start + _METADATA_SIZE, length - first)
    except CorruptImage as error:
        return error
    if checksum(data) != crc:
        return _corrupt(source.name, f"the checksum of the metadata at {start} is wrong")
    return data.rstrip(b"\0").decode("utf-8", "replace")


def checksum(data: bytes) -> int:
    """Return LVM2's CRC of `data`: the usual CRC-32 with another start and not inverted (lib/misc/crc.c)."""
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _group(text: Section, where: str) -> tuple[str, Section]:
    groups = [(name, value) for name, value in text.items() if isinstance(value, dict)]
    if len(groups) != 1:
        raise _corrupt(where, f"expected the metadata of one volume group, found {len(groups)}")
    return groups[0]


def _volumes(name: str, group: Section, by_uuid: dict[str, Source]) -> Iterator[Volume]:
    extent = _count(group, "extent_size", name) * _SECTOR
    exported = "EXPORTED" in _list(group, "status", name)
    devices = {
        key: (by_uuid.get(_text(section, "id", name).replace("-", "")), _count(section, "pe_start", name) * _SECTOR)
        for key, section in _sections(group, "physical_volumes", name)
    }
    for key, section in _sections(group, "logical_volumes", name):
        if "VISIBLE" not in _list(section, "status", name):
            continue
        full = f"{name}/{key}"
        segments = [section[each] for each in section if re.fullmatch("segment[0-9]+", each)]
        yield _volume(full, cast("list[Section]", segments), devices, extent, exported=exported)


def _volume(
    name: str,
    segments: list[Section],
    devices: dict[str, tuple[Source | None, int]],
    extent: int,
    *,
    exported: bool,
) -> Volume:
    pieces: list[_Stripes] = []
    why_not = "exported" if exported else ""
    for segment in segments:
        if not isinstance(segment, dict):
            raise _corrupt(name, "a segment is no section")
        at, count = _count(segment, "start_extent", name) * extent, _count(segment, "extent_count", name) * extent
        kind = _text(segment, "type", name)
        # LVM writes a linear segment as a striped one with one stripe.
        if kind not in ("striped", "linear"):
            why_not = why_not or kind
            continue
        areas, missing = _stripe_areas(name, segment, devices, extent)
        why_not = why_not or missing
        if missing:
            continue
        stripe = _count(segment, "stripe_size", name) * _SECTOR if len(areas) > 1 else count
        if not stripe or count % len(areas) or count // len(areas) % stripe:
            raise _corrupt(name, f"stripes of {stripe} bytes over {len(areas)} areas do not make {count}")
        for source, start in areas:
            if start + count // len(areas) > source.size:
                raise _corrupt(name, f"a segment ends past {source.name}")
        pieces.append(_Stripes(at, count, stripe, tuple(areas)))
    if why_not:
        return Volume(name, 0, None, why_not)
    pieces.sort(key=lambda piece: piece.at)
    end = 0
    for piece in pieces:
        if piece.at != end:
            raise _corrupt(name, f"expected a segment at byte {end}, found one at {piece.at}")
        end += piece.length
    if not pieces:
        raise _corrupt(name, "it has no segment")
    title = f"{pieces[0].areas[0][0].name}: volume {name}"
    if len(pieces) == 1 and len(pieces[0].areas) == 1:
        source, start = pieces[0].areas[0]
        return Volume(name, end, Window(source, start, end, title))
    return Volume(name, end, _Mapped(title, pieces, end))


def _stripe_areas(
    name: str, segment: Section, devices: dict[str, tuple[Source | None, int]], extent: int
) -> tuple[list[tuple[Source, int]], str]:
    """Return where the stripes of `segment` begin, and what keeps them from being read."""
    listed = _list(segment, "stripes", name)
    if not listed or len(listed) != 2 * _count(segment, "stripe_count", name):
        raise _corrupt(name, "the stripes of a segment are not as many as it says")
    areas: list[tuple[Source, int]] = []
    for device, first in zip(listed[::2], listed[1::2], strict=True):
        if not isinstance(device, str) or not isinstance(first, int) or first < 0:
            raise _corrupt(name, f"expected a physical volume and an extent, found {device!r} and {first!r}")
        if device not in devices:
            return [], "volume in another"
        source, start = devices[device]
        if source is None:
            return [], "volume on another disk"
        areas.append((source, start + first * extent))
    return areas, ""


class _Mapped:
    """The segments of a volume, one after the other; a `Source`."""

    __slots__ = ("_pieces", "_starts", "name", "size")

    def __init__(self, name: str, pieces: list[_Stripes], size: int) -> None:
        self._pieces = pieces
        self._starts = [piece.at for piece in pieces]
        self.name = name
        self.size = size

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` on; see `Source`."""
        wanted = max(0, min(len(view), self.size - offset))
        done = 0
        while done < wanted:
            piece = self._pieces[bisect_right(self._starts, offset + done) - 1]
            stripe, within = divmod(offset + done - piece.at, piece.stripe)
            turn, index = divmod(stripe, len(piece.areas))
            source, start = piece.areas[index]
            length = min(piece.stripe - within, wanted - done)
            count = source.readinto(view[done : done + length], start + turn * piece.stripe + within)
            if not count:
                break
            done += count
        return done

    def fileno(self) -> None:
        """Return None: they are in no file in this order."""


def _sections(group: Section, key: str, where: str) -> Iterator[tuple[str, Section]]:
    found = group.get(key, {})
    if not isinstance(found, dict):
        raise _corrupt(where, f"{key} is no section")
    for name, section in found.items():
        if not isinstance(section, dict):
            raise _corrupt(where, f"{key}/{name} is no section")
        yield name, section


def _count(section: Section, key: str, where: str) -> int:
    value = section.get(key)
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise _corrupt(where, f"expected a number as {key}, found {value!r:.40}")
    return value


def _text(section: Section, key: str, where: str) -> str:
    value = section.get(key)
    if not isinstance(value, str):
        raise _corrupt(where, f"expected a string as {key}, found {value!r:.40}")
    return value


def _list(section: Section, key: str, where: str) -> list[Value]:
    value = section.get(key)
    if not isinstance(value, list):
        raise _corrupt(where, f"expected a list as {key}, found {value!r:.40}")
    return value


def _corrupt(where: str, message: str) -> CorruptImage:
    return CorruptImage(f"{where}: corrupt LVM2: {message}", hint=_HINT)
