"""The header, footer and descriptor of a VMDK, and their checks.

QEMU (block/vmdk.c) opens whatever file a descriptor names, also the one in a sparse extent whose capacity is 0: nothing
that an image names is opened here. It reads what the file lacks as zeros, and a disk whose parent is not named as if it
were whole; both are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io.sparse import SECTOR

from .layout import (
    AT_END,
    COMPRESSED,
    DEFLATE,
    FLAGS,
    FOOTER_MARKER,
    HEADER,
    LINE_ENDS,
    LINE_TEST,
    MAGIC,
    MARKER,
    TABLE_ENTRIES,
    ZEROED,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.disk.file import ImageFile

#: Sectors of a grain: 64 KiB in all that is written today.
_GRAINS = range(8, 2048 + 1)
#: Bytes of a descriptor; those of QEMU and VMware have some hundred.
_DESCRIPTOR_MOST = 1 << 20
#: Bytes at the end of a file in which a footer is looked for: tar and uploads pad what they carry.
_PADDING = 1 << 20
_VERSIONS = (1, 2, 3)
_KINDS = ("monolithicSparse", "streamOptimized")
_NO_PARENT = "ffffffff"
_KEY = re.compile(r'^[ \t]*([A-Za-z]\w*)[ \t]*=[ \t]*"?([^"\r\n]*)"?', re.MULTILINE)
_EXTENT = re.compile(r"^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+(\w+)", re.MULTILINE)
_OTHERS = {
    b"COWD": "a sparse extent of ESX (COWD)",
    b"\xbe\xba\xfe\xca": "a space-efficient sparse extent (seSparse)",
    b"# Di": "a descriptor only, whose data is in other files",
}


class Header(NamedTuple):
    """What reading the disk needs; places and sizes in bytes."""

    size: int
    grain: int
    directory: int
    compressed: bool
    #: Whether tables tell of grains that are zeros.
    zeroed: bool


class _Fields(NamedTuple):
    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor: int
    descriptor_size: int
    entries: int
    redundant: int
    directory: int
    overhead: int
    unclean: int
    line_ends: bytes
    compression: int


def claimed_size(read: Callable[[int, int], bytes], _: int | None) -> int | None:
    """Return the bytes of the guest's disk that a file claims; None if it is of another kind."""
    data = read(0, HEADER.size)
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        return None
    return _Fields(*HEADER.unpack(data)).capacity * SECTOR or None


def read_header(file: ImageFile) -> Header:
    """Return what the header says, or the footer where that counts. Errors: `CorruptImage`, `UnsupportedFeature`."""
    start = file.read(0, 4, "the header")
    if start in _OTHERS:
        raise file.unsupported(_OTHERS[start], hint="qemu-img convert, where all of its files are, makes one of them")
    fields = _fields(file, 0)
    _check(file, fields)
    _check_descriptor(file, fields)
    if fields.directory == AT_END:
        last = _footer(file)
        if last[:5] != fields[:5]:
            raise file.corrupt("its header and its footer contradict each other")
        fields = last
    return Header(
        size=fields.capacity * SECTOR,
        grain=fields.grain * SECTOR,
        directory=fields.directory * SECTOR,
        compressed=bool(fields.flags & COMPRESSED),
        zeroed=bool(fields.flags & ZEROED),
    )


def _fields(file: ImageFile, at: int) -> _Fields:
    return _Fields(*HEADER.unpack(file.read(at, HEADER.size, "the header")))


def _check(file: ImageFile, fields: _Fields) -> None:
    if fields.magic != MAGIC:
        raise file.corrupt(f"expected {MAGIC!r} at its beginning, found {fields.magic!r}")
    if fields.version not in _VERSIONS:
        raise file.unsupported(f"version {fields.version}", hint="larder reads versions 1 to 3")
    if unknown := fields.flags & ~FLAGS:
        raise file.unsupported(f"the flags {unknown:#x}")
    if fields.flags & LINE_TEST and fields.line_ends != LINE_ENDS:
        raise file.corrupt("its line ends were changed: it was transferred as text")
    if fields.capacity == 0:
        raise file.unsupported("its data in other files", hint="qemu-img convert, where they are, makes one of them")
    if fields.grain not in _GRAINS or fields.grain & fields.grain - 1:
        raise file.corrupt(f"expected grains of 8 to 2048 sectors, a power of two, found {fields.grain}")
    if fields.entries != TABLE_ENTRIES:
        raise file.corrupt(f"expected grain tables of {TABLE_ENTRIES} entries, found {fields.entries}")
    if fields.compression not in (0, DEFLATE) or bool(fields.flags & COMPRESSED) != (fields.compression == DEFLATE):
        raise file.corrupt(f"the compression {fields.compression} contradicts the flags {fields.flags:#x}")


def _footer(file: ImageFile) -> _Fields:
    """Return the header's copy behind the last marker but one, which knows where the grain directory is."""
    end = file.file_size // SECTOR * SECTOR
    start = max(SECTOR, end - _PADDING)
    tail = file.read(start, max(0, end - start), "the footer")
    for at in range(len(tail) - SECTOR, SECTOR - 1, -SECTOR):
        if tail.startswith(MAGIC, at) and MARKER.unpack_from(tail, at - SECTOR) == (1, 0, FOOTER_MARKER):
            fields = _Fields(*HEADER.unpack_from(tail, at))
            _check(file, fields)
            if fields.directory != AT_END:
                return fields
    raise file.truncated("the footer, which says where the grain directory is,", end + SECTOR)


def _check_descriptor(file: ImageFile, fields: _Fields) -> None:
    """Refuse what the embedded descriptor says of parents and of other files."""
    if not fields.descriptor_size:
        raise file.unsupported("no descriptor: one of several files of a disk")
    size = fields.descriptor_size * SECTOR
    if size > _DESCRIPTOR_MOST:
        raise file.corrupt(f"expected a descriptor of {_DESCRIPTOR_MOST} bytes at the most, found {size}")
    data = file.read(fields.descriptor * SECTOR, size, "the descriptor")
    text = data.partition(b"\0")[0].decode("latin-1")
    said = dict(_KEY.findall(text))
    if said.get("parentCID", _NO_PARENT).lower() != _NO_PARENT or "parentFileNameHint" in said:
        raise file.unsupported("a parent (a delta disk)", hint="consolidate the snapshots first, where the disk is")
    if ("encoding" in said and said["encoding"].lower() == "encrypted") or "keySafe" in said:
        raise file.unsupported("encryption")
    kind = said.get("createType", "")
    if kind not in _KINDS:
        raise file.unsupported(
            f"the create type {kind!r}", hint=f"larder reads those that are one file: {' and '.join(_KINDS)}"
        )
    extents = _EXTENT.findall(text)
    if extents != ["SPARSE"]:
        raise file.unsupported(
            f"the extents {', '.join(extents) or 'of nothing'}", hint="larder reads disks of one sparse extent"
        )
