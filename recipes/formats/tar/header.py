"""The tar header block, as reading and writing share it (POSIX.1-2017, pax, "ustar Interchange Format")."""

from __future__ import annotations

import re
import struct
import zlib
from functools import lru_cache

from recipes.errors import CorruptImage

#: Bytes of a header, and what everything in an archive is padded to.
BLOCK = 512

#: Bytes that an extended header or a long name may have. What larder keeps of them is far smaller: GNU tar and Go have
#: the same limit.
MAX_EXTENDED = 1 << 20

#: name mode uid gid size mtime chksum typeflag linkname magic+version uname gname devmajor devminor prefix
FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")

#: Magic and version of POSIX; other magics have no prefix.
USTAR = b"ustar\x0000"

#: Where the checksum stands; it counts as spaces.
CHECKSUM = slice(148, 156)
_BLANK_CHECKSUM = 8 * ord(" ")

_OCTAL = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)


def checksum(block: bytes) -> int:
    """Return the sum of a header's bytes, the ones of the checksum itself counted as spaces."""
    # The lower half of an Adler-32 is one more than the sum, modulo a number that 256 bytes cannot reach: six times
    # as fast as sum().
    total = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2
    return total - sum(block[CHECKSUM]) + _BLANK_CHECKSUM


def signed_checksum(block: bytes) -> int:
    """Return the same of signed bytes, which some old writers added up."""
    high = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in block[CHECKSUM])
    return checksum(block) - 256 * high


def parse_number(field: bytes) -> int:
    """Return the number in a header's field: octal digits, or base 256 where the first bit is set, as GNU tar has it.

    Raise CorruptImage where it is neither.
    """
    if field[0] & 0x80:
        # Two's complement, without the bit that marks it.
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value
    found = _OCTAL.fullmatch(field)
    if not found:
        raise CorruptImage(f"expected an octal number, found {field!r}")
    return int(found[1] or b"0", 8)


#: The same, for the fields that are alike in most headers.
number = lru_cache(4096)(parse_number)


def padding(size: int) -> int:
    """Return the bytes from `size` to the next block.

    >>> padding(0), padding(1), padding(512)
    (0, 511, 0)
    """
    return -size % BLOCK
