"""The footer of a VHD, its checks, and the header of a dynamic one.

Specification: Microsoft, Virtual Hard Disk Image Format Specification, version 1.0 (2006). All numbers are big-endian.

The disk's size is the footer's "current size". QEMU (block/vpc.c, vpc_open) multiplies the geometry instead, unless the
creator is one that it knows to do otherwise, among them Hyper-V and Azure, or the geometry is the largest there is: of
VirtualBox's disks it cuts off what is behind the last whole cylinder. It reads differencing disks as if they were
whole, and what is missing of a fixed disk as zeros; both are refused here, and so is a wrong checksum.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io.sparse import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.errors import ImageError
    from recipes.formats.disk.file import ImageFile

COOKIE = b"conectix"
#: Cookie, features, version, data offset; time, creator's application, version and system; original and current size;
#: cylinders, heads, sectors; type, checksum.
FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII")
FOOTER_SIZE = 512
#: Virtual PC before 2004 left out the last byte, which has no meaning.
SHORT_FOOTER_SIZE = 511
#: Cookie, next, offset of the block allocation table, version, entries, block size, checksum.
HEADER = struct.Struct(">8sQQIIII")
HEADER_COOKIE = b"cxsparse"
HEADER_SIZE = 1024
#: Where the checksums are.
FOOTER_CHECKSUM, HEADER_CHECKSUM = slice(64, 68), slice(36, 40)

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
_MAJOR = 1

#: Of blocks, by default 2 MiB. Virtual PC takes 512 KiB too, and QEMU any power of two; smaller ones would make tables
#: of half the disk, and larger ones have never been seen.
_BLOCK_SIZES = range(4 << 10, (256 << 20) + 1)


class Footer(NamedTuple):
    """What a footer says that reading the disk needs."""

    #: Offset in the file of a dynamic disk's header.
    data_offset: int
    #: Bytes of the guest's disk.
    size: int
    kind: int


class Header(NamedTuple):
    """What the header of a dynamic disk says."""

    table_offset: int
    entries: int
    block_size: int


def checksum(data: bytes, field: slice) -> int:
    """Return the checksum of a footer or header, whose own `field` counts as zeros.

    >>> hex(checksum(bytes([1, 2, 3, 255]), slice(3, 4)))
    '0xfffffff9'
    """
    return ~(sum(data) - sum(data[field])) & 0xFFFF_FFFF


def claimed_size(read: Callable[[int, int], bytes], size: int | None) -> int | None:
    """Return the bytes of the guest's disk that a file of `size` bytes claims; None if it does not say."""
    footer = read(0, FOOTER_SIZE)
    if not _is_sound(footer) and size is not None:
        footer = _at_end(read, size)[1]
    return _parse(footer).size if _is_sound(footer) else None


def _is_sound(data: bytes) -> bool:
    return len(data) == FOOTER_SIZE and data.startswith(COOKIE) and _sums(data)[0] == _sums(data)[1]


def _sums(data: bytes) -> tuple[int, int]:
    """Return the checksum that a footer has, and the one that its bytes give."""
    return int.from_bytes(data[FOOTER_CHECKSUM], "big"), checksum(data, FOOTER_CHECKSUM)


def _at_end(read: Callable[[int, int], bytes], size: int) -> tuple[int, bytes]:
    """Return the bytes of the footer at the end of a file, and where they are; whatever is there if it is none."""
    at = max(0, size - FOOTER_SIZE)
    data = read(at, FOOTER_SIZE)
    if data[1:].startswith(COOKIE):
        return at + 1, data[1:].ljust(FOOTER_SIZE, b"\0")
    return at, data


def read_footer(file: ImageFile) -> tuple[Footer, int]:
    """Return the footer, and the bytes of the file before the one at its end.

    A dynamic disk has a copy at the beginning, and either will do; what both say must be the same. Errors:
    `CorruptImage`, `UnsupportedFeature`.
    """
    end, last = _at_end(lambda at, count: file.read(at, min(count, file.file_size), "the footer"), file.file_size)
    found: list[Footer] = []
    problem: ImageError = file.truncated("the footer", FOOTER_SIZE)
    for at, data in ((0, file.read(0, min(FOOTER_SIZE, file.file_size), "the footer")), (end, last)):
        if len(data) < FOOTER_SIZE or not data.startswith(COOKIE):
            continue
        has, gives = _sums(data)
        if has != gives:
            problem = file.corrupt(
                f"the footer at byte {at} has the checksum {has:#010x}, and its bytes give {gives:#010x}"
            )
            continue
        found.append(_checked(file, data))
    if not found:
        raise problem
    if found[0] != found[-1]:
        raise file.corrupt(f"the footer and its copy contradict each other: {found[-1]} and {found[0]}")
    if not last.startswith(COOKIE):
        end = file.file_size
        if found[0].kind == FIXED:
            raise file.truncated("a fixed disk with its footer", found[0].size + FOOTER_SIZE)
    return found[0], end


def _parse(data: bytes) -> Footer:
    fields = FOOTER.unpack_from(data)
    return Footer(data_offset=fields[3], size=fields[9], kind=fields[13])


def _checked(file: ImageFile, data: bytes) -> Footer:
    footer = _parse(data)
    version = int.from_bytes(data[12:16], "big")
    if version >> 16 != _MAJOR:
        raise file.unsupported(f"version {version >> 16}.{version & 0xFFFF}", hint="larder reads version 1")
    if footer.kind == DIFFERENCING:
        raise file.unsupported(
            "a parent (a differencing disk)", hint="merge it into its parent first: Hyper-V's Merge-VHD does it"
        )
    if footer.kind not in (FIXED, DYNAMIC):
        raise file.corrupt(f"expected the type 2 (fixed), 3 (dynamic) or 4 (differencing), found {footer.kind}")
    if footer.size % SECTOR:
        raise file.corrupt(f"expected a disk of whole sectors of {SECTOR} bytes, found {footer.size} bytes")
    return footer


def read_header(file: ImageFile, footer: Footer) -> Header:
    """Return the header of a dynamic disk. Errors: `CorruptImage`, `UnsupportedFeature` for odd block sizes."""
    data = file.read(footer.data_offset, HEADER_SIZE, "the header")
    cookie, _, table_offset, version, entries, block_size, found = HEADER.unpack_from(data)
    if cookie != HEADER_COOKIE:
        raise file.corrupt(f"expected {HEADER_COOKIE!r} at byte {footer.data_offset}, found {cookie!r}")
    if found != (wanted := checksum(data, HEADER_CHECKSUM)):
        raise file.corrupt(f"the header has the checksum {found:#010x}, and its bytes give {wanted:#010x}")
    if version >> 16 != _MAJOR:
        raise file.unsupported(f"a header of version {version >> 16}.{version & 0xFFFF}", hint="larder reads version 1")
    if not block_size or block_size & block_size - 1:
        raise file.corrupt(f"expected blocks of a power of two, found {block_size} bytes")
    if block_size not in _BLOCK_SIZES:
        raise file.unsupported(f"blocks of {block_size} bytes", hint="larder reads those of 4 KiB to 256 MiB")
    needed = -(-footer.size // block_size)
    if entries < needed:
        raise file.corrupt(f"expected a block allocation table of {needed} entries or more, found {entries}")
    if table_offset + 4 * needed > file.file_size:
        raise file.truncated("the block allocation table", table_offset + 4 * needed)
    return Header(table_offset, entries, block_size)
