"""The maps of sparse files in tar archives (GNU tar's manual, "Storing Sparse Files", and tar's own tar.h).

A map is pairs of offset and length, in order; what they say stands in the archive without gaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.tree.tree import Extent

from . import pax
from .header import BLOCK, number, padding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from recipes.formats.io.source import Source

#: Pieces that the sparse files of one archive may have: a few bytes of a map become some hundred in memory.
MAX_PIECES = 1 << 18
#: Bytes of a line of a map: a number of 64 bits, and its end.
_LINE = 21
_READ = 64 * 1024

#: Where the old header keeps pairs of 12 and 12 octal digits, and whether a block with more pairs follows.
_OLD_PAIRS = range(386, 482, 24)
_OLD_MORE = 482
OLD_SIZE = slice(483, 495)
_NEXT_PAIRS = range(0, 504, 24)
_NEXT_MORE = 504


def old_map(header: bytes, read: Callable[[int, int], bytes]) -> tuple[list[tuple[int, int]], int]:
    """Return the map of a member of type ``S``, and the bytes of it that stand between header and data.

    ``read(offset, count)`` reads what follows the header.
    """
    pairs: list[tuple[int, int]] = []
    block, places, more, length = header, _OLD_PAIRS, header[_OLD_MORE], 0
    while True:
        for at in places:
            offset, count = block[at : at + 12], block[at + 12 : at + 24]
            if not count.strip(b"\0"):
                break
            pairs.append((number(offset), number(count)))
        bound(len(pairs))
        if not more:
            return pairs, length
        block, places = read(length, BLOCK), _NEXT_PAIRS
        more = block[_NEXT_MORE]
        length += BLOCK


def text_map(text: bytes) -> list[tuple[int, int]]:
    """Return the map of GNU sparse 0.1: numbers with commas between."""
    return _pairs(text.split(b",")) if text else []


def data_map(read: Callable[[int, int], bytes], size: int) -> tuple[list[tuple[int, int]], int]:
    """Return the map of GNU sparse 1.0, which is in the data's first blocks, and the bytes of these blocks.

    ``read(offset, count)`` reads the member's data, of which there are `size` bytes.
    """
    text = bytearray(read(0, min(BLOCK, size)))
    count = pax.number(bytes(text[: text.find(b"\n")]), "number of a sparse file's pieces")
    bound(count)
    lines = 1 + 2 * count
    found = text.count(b"\n")
    while found < lines:
        more = read(len(text), min(_READ, size - len(text)))
        if not more or len(text) > lines * _LINE:
            raise CorruptImage(f"expected {lines} lines in a sparse file's map, found {found}")
        found += more.count(b"\n")
        text += more
    # bytes() of each: what pairs are made of is matched and shown.
    numbers = [bytes(line) for line in text.split(b"\n", lines)[:lines]]
    length = sum(map(len, numbers)) + lines
    return _pairs(numbers[1:]), length + padding(length)


def format_map(pairs: list[tuple[int, int]]) -> bytes:
    """Return the map of GNU sparse 1.0 as it stands before the data."""
    lines = [len(pairs), *(number for pair in pairs for number in pair)]
    text = b"".join(b"%d\n" % line for line in lines)
    return text + bytes(padding(len(text)))


def extents(
    pairs: Iterable[tuple[int, int]], real_size: int, stored: int, source: Source, offset: int
) -> tuple[Extent, ...]:
    """Return where the data of a file of `real_size` bytes is, of which the archive has `stored` from `offset` on.

    Raise CorruptImage for pairs that overlap, are not in order, leave the file, or are not of `stored` bytes in all.
    """
    result = []
    stop = 0
    left = stored
    for at, length in pairs:
        if length < 0 or at < stop or at + length > real_size:
            raise CorruptImage(
                f"a sparse file of {real_size} bytes, mapped up to {stop}, has {length} bytes at {at} in its map"
            )
        stop = at + length
        if length:
            if length > left:
                raise CorruptImage(f"a sparse file's map claims more than the {stored} bytes that there are")
            result.append(Extent(at, length, source, offset + stored - left))
            left -= length
    if left:
        raise CorruptImage(f"a sparse file's map has {stored - left} bytes, and the archive {stored}")
    return tuple(result)


def _pairs(numbers: list[bytes]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise CorruptImage(f"expected pairs of numbers in a sparse file's map, found {len(numbers)} numbers")
    bound(len(numbers) // 2)
    values = [pax.number(text, "sparse file's map") for text in numbers]
    return list(zip(values[::2], values[1::2], strict=True))


def bound(count: int) -> None:
    """Raise LimitExceeded where sparse files have more than `MAX_PIECES`."""
    if count > MAX_PIECES:
        raise LimitExceeded(f"sparse files of {count} pieces, and {MAX_PIECES} are allowed in an archive")
