"""XZ files: streams of blocks behind an index (https://tukaani.org/xz/xz-file-format.txt, version 1.2).

The index gives every block's place and size, so blocks are decoded side by side also where their own headers say
neither, as ``xz -T1 --block-size`` leaves them and where ``xz -T0 -d`` stays on one thread. Each block is handed to
liblzma as a stream of its own, with an index made from its record: liblzma then checks the record, too.
"""

from __future__ import annotations

import lzma
import struct
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.pipeline import in_order
from recipes.formats.io.sparse import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .compressed import CompressedFile

#: Bytes that all decoders of one file may take together: 8 of xz -6, or 2 of xz -9, which needs 64 MiB for each. The
#: format allows dictionaries of 4 GiB.
MEMORY_LIMIT = 208 << 20
#: Bytes of decoded data that may wait for blocks before them, for each thread and once more. Blocks (of 24 MiB by xz -6
#: -T2) differ by several times in the time that they take; all together this is room enough to keep every thread busy.
ROOM = 16 << 20
#: Blocks and streams of one file. An empty one takes as long as 100 KiB of content; xz -6 makes 3 TiB of this many.
BLOCK_LIMIT = 1 << 17

MAGIC = b"\xfd7zXZ\x00"
_FOOTER_MAGIC = b"YZ"
#: Bytes of a stream's header, and of its footer.
EDGE = 12
_INDEX_RECORD_MIN = 2
_LZMA2 = 0x21


class Block(NamedTuple):
    """A block: `stored` bytes at `offset`, without padding, that hold `content` bytes; `flags` are its stream's."""

    offset: int
    stored: int
    content: int
    flags: bytes


def padded(size: int) -> int:
    """Return `size` with the padding that blocks and indexes have."""
    return -(-size // 4) * 4


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """Read a multibyte integer (section 1.2); return it and the place after it. IndexError, ValueError: it is none."""
    value = 0
    for shift in range(0, 63, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer of more than 9 bytes")


def _number(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def blocks(wrapper: CompressedFile) -> list[Block]:
    """Return the blocks of `wrapper` in order, from the indexes of all its streams.

    Errors: `CorruptImage`; `LimitExceeded` for more than `BLOCK_LIMIT` of them; `UnsupportedFeature` for an unknown
    integrity check.
    """
    streams: list[list[Block]] = []
    count = 0
    end = wrapper.size
    while end:
        end = _without_padding(wrapper, end)
        stream, end = _stream(wrapper, end)
        streams.append(stream)
        count += len(stream) + 1
        if count > BLOCK_LIMIT:
            raise too_many(wrapper)
    return list(chain.from_iterable(reversed(streams)))


def too_many(wrapper: CompressedFile) -> LimitExceeded:
    """Return the error for more blocks than `BLOCK_LIMIT`."""
    return LimitExceeded(f"{wrapper.path}: xz: more than {BLOCK_LIMIT} blocks", hint="compress it with larger blocks")


def _without_padding(wrapper: CompressedFile, end: int) -> int:
    """Return where the stream padding before `end` begins (section 2.2)."""
    stop = end
    while stop:
        start = max(0, stop - 4096)
        data = wrapper.at(start, stop - start).rstrip(b"\0")
        stop = start + len(data)
        if data:
            break
    if stop == 0 or (end - stop) % 4:
        raise wrapper.corrupt(end, "the file ends in the middle of a stream, or in padding of an odd length")
    return stop


def _stream(wrapper: CompressedFile, end: int) -> tuple[list[Block], int]:
    """Return the blocks of the stream that ends at `end`, and where it begins (sections 2.1.1, 2.1.2 and 4)."""
    if end < 2 * EDGE:
        raise wrapper.truncated()
    crc, backward, flags, magic = struct.unpack("<II2s2s", wrapper.at(end - EDGE, EDGE))
    if magic != _FOOTER_MAGIC:
        raise wrapper.corrupt(end, "expected a stream's footer: the file is truncated, or has something else appended")
    index_size = (backward + 1) * 4
    index_at = end - EDGE - index_size
    if crc != crc32(struct.pack("<I2s", backward, flags)) or index_at < EDGE:
        raise wrapper.corrupt(end - EDGE, "the stream's footer is damaged")
    if index_size > BLOCK_LIMIT * 16:
        raise too_many(wrapper)
    records = _records(wrapper, index_at, wrapper.at(index_at, index_size))
    start = index_at - EDGE - sum(padded(stored) for stored, _ in records)
    if start < 0 or wrapper.at(start, EDGE) != stream_header(flags):
        raise wrapper.corrupt(max(0, start), "expected the stream's header here, as its index says")
    require_check(wrapper, flags)
    offset = start + EDGE
    found = []
    for stored, content in records:
        found.append(Block(offset, stored, content, flags))
        offset += padded(stored)
    return found, start


def require_check(wrapper: CompressedFile, flags: bytes) -> None:
    """Raise UnsupportedFeature for a stream with an integrity check that liblzma does not know."""
    if not lzma.is_check_supported(flags[1]):
        raise UnsupportedFeature(f"{wrapper.path}: xz: integrity check {flags[1]} is unknown to liblzma")


def _records(wrapper: CompressedFile, offset: int, index: bytes) -> list[tuple[int, int]]:
    """Return the (stored, content) sizes in `index`, which is at `offset`."""
    body = index[:-4]
    if body[0] != 0 or crc32(body) != int.from_bytes(index[-4:], "little"):
        raise wrapper.corrupt(offset, "the index is damaged")
    try:
        count, at = read_number(body, 1)
        if count > len(body) // _INDEX_RECORD_MIN:
            raise ValueError(f"{count} records in {len(body)} bytes")
        if count > BLOCK_LIMIT:
            raise too_many(wrapper)
        records = []
        for _ in range(count):
            stored, at = read_number(body, at)
            content, at = read_number(body, at)
            records.append((stored, content))
    except (IndexError, ValueError) as error:
        raise wrapper.corrupt(offset, f"the index is damaged: {error}") from error
    return records


class BlockHeader(NamedTuple):
    """What the header of a block says (section 3.1)."""

    #: Bytes of the header itself.
    size: int
    #: Bytes that the filters made, and of content; None where it does not say.
    compressed: int | None
    content: int | None
    #: Bytes of the dictionary (section 5.3.1).
    dictionary: int


def block_header(wrapper: CompressedFile, offset: int) -> BlockHeader:
    """Return the header of the block at `offset`."""
    size = (wrapper.at(offset, 1)[0] + 1) * 4
    header = wrapper.at(offset, size)
    try:
        at = 2
        compressed = content = None
        if header[1] & 0x40:
            compressed, at = read_number(header, at)
        if header[1] & 0x80:
            content, at = read_number(header, at)
        for _ in range((header[1] & 3) + 1):
            kind, at = read_number(header, at)
            length, at = read_number(header, at)
            if kind == _LZMA2:
                bits = header[at] & 0x3F
                return BlockHeader(size, compressed, content, (2 | bits & 1) << (bits // 2 + 11))
            at += length
    except (IndexError, ValueError) as error:
        raise wrapper.corrupt(offset, f"the block's header is damaged: {error}") from error
    raise wrapper.corrupt(offset, "the block's header names no LZMA2 filter")


def declared_size(wrapper: CompressedFile) -> int:
    """Return the bytes of content that the indexes declare."""
    return sum(block.content for block in blocks(wrapper))


def decompress(wrapper: CompressedFile, jobs: int) -> Iterator[bytes]:
    """Yield the content of `wrapper` in pieces of at most `CHUNK` bytes, decoded by up to `jobs` threads."""
    found = blocks(wrapper)
    dictionary = max((block_header(wrapper, block.offset).dictionary for block in found), default=0)
    workers = min(jobs, len(found), most_workers(wrapper, dictionary))
    tasks = (decode(wrapper, block) for block in found)
    return in_order(tasks, workers=workers, room=(workers + 1) * ROOM) if workers > 1 else chain.from_iterable(tasks)


def most_workers(wrapper: CompressedFile, dictionary: int) -> int:
    """Return how many threads may decode blocks with `dictionary` bytes of dictionary; LimitExceeded for none."""
    if dictionary > MEMORY_LIMIT:
        raise LimitExceeded(
            f"{wrapper.path}: xz: needs a dictionary of {dictionary} bytes, and larder's limit is {MEMORY_LIMIT}",
            hint="compress it again with a preset: xz -9 takes 64 MiB",
        )
    return max(1, (MEMORY_LIMIT - ROOM) // (dictionary + ROOM))


def decode(wrapper: CompressedFile, block: Block) -> Iterator[bytes]:
    """Yield the content of one block, as `decompress` does."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT + (1 << 20))
    pieces = _as_stream(wrapper, block)
    left = block.content
    offset = block.offset
    try:
        while not decoder.eof:
            piece = b""
            if decoder.needs_input:
                offset, piece = next(pieces)
            data = decoder.decompress(piece, CHUNK)
            left -= len(data)
            if left < 0:
                raise wrapper.corrupt(offset, f"a block holds more than the {block.content} bytes that its index says")
            if data:
                yield data
        # What lies where the block should go on may be an index and a footer of their own: another stream's end.
        if left or decoder.unused_data or next(pieces, None):
            raise lzma.LZMAError("the block does not end where its index says")
    except (lzma.LZMAError, StopIteration) as error:
        raise wrapper.corrupt(offset, str(error) or "the block does not end where its index says") from error


def _as_stream(wrapper: CompressedFile, block: Block) -> Iterator[tuple[int, bytes]]:
    """Yield a stream that holds only `block`, in pieces, each with its place in the file."""
    yield block.offset, stream_header(block.flags)
    stop = block.offset + padded(block.stored)
    offset = block.offset
    while offset < stop:
        piece = wrapper.take(offset, stop)
        offset += len(piece)
        yield offset, piece
    yield offset, stream_end([(block.stored, block.content)], block.flags)


def stream_header(flags: bytes) -> bytes:
    """Return the header of a stream (section 2.1.1)."""
    return MAGIC + flags + struct.pack("<I", crc32(flags))


def stream_end(records: list[tuple[int, int]], flags: bytes) -> bytes:
    """Return the index of blocks with these (stored, content) sizes, and the footer (sections 4 and 2.1.2)."""
    index = b"\0" + _number(len(records)) + b"".join(_number(size) for record in records for size in record)
    index = index.ljust(padded(len(index)), b"\0")
    index += struct.pack("<I", crc32(index))
    footer = struct.pack("<I2s", len(index) // 4 - 1, flags)
    return index + struct.pack("<I", crc32(footer)) + footer + _FOOTER_MAGIC
