"""XZ files while they arrive: from the first block on, where `xz` begins at the index behind the last one.

A block whose header says how long it is can be handed to a thread at once. Of the others, as ``xz -T1`` writes them,
the end is found by going from chunk to chunk of their LZMA2 data, each of which says how long it is (the chunks are
liblzma's, lzma2_decoder.c; xz-file-format.txt does not describe them). In the end the index must list what was found.
"""

from __future__ import annotations

import lzma
from itertools import chain
from typing import TYPE_CHECKING

from recipes.formats.io.pipeline import in_order
from recipes.formats.io.sparse import CHUNK

from . import xz
from .compressed import READ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .compressed import CompressedFile

#: Bytes of the integrity check behind a block, by its number (section 2.1.1.2).
_CHECKS = (0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64)
#: Bytes of stream padding that are looked at at once.
_PADDING = 4096
_MEMORY = xz.MEMORY_LIMIT + (1 << 20)


def decompress(wrapper: CompressedFile, jobs: int) -> Iterator[bytes]:
    """Yield the content of `wrapper` in pieces of at most `CHUNK` bytes, decoded by up to `jobs` threads.

    Errors: as `xz.decompress`; a block with a larger dictionary than the first one has ends it as corrupt, although the
    file may be read once it is there.
    """
    first = xz.block_header(wrapper, xz.EDGE) if wrapper.at(xz.EDGE, 1) != b"\0" else None
    dictionary = first.dictionary if first else 0
    workers = min(jobs, xz.most_workers(wrapper, dictionary))
    tasks = _tasks(wrapper, dictionary)
    if workers > 1:
        return in_order(tasks, workers=workers, room=(workers + 1) * xz.ROOM)
    return chain.from_iterable(task for task in tasks if task is not None)


def _tasks(wrapper: CompressedFile, dictionary: int) -> Iterator[Iterator[bytes] | None]:
    """Yield what decodes each block, None where the place of the next one is not known yet."""
    offset = count = 0
    while offset < wrapper.size:
        header = wrapper.at(offset, xz.EDGE)
        flags = header[6:8]
        if header != xz.stream_header(flags):
            raise wrapper.corrupt(offset, "expected a stream's header")
        xz.require_check(wrapper, flags)
        offset += xz.EDGE
        records: list[tuple[int, int]] = []
        while True:
            while not wrapper.arrived(offset + 1):
                yield None
            if wrapper.at(offset, 1) == b"\0":
                break
            count += 1
            if count > xz.BLOCK_LIMIT:
                raise xz.too_many(wrapper)
            walk = _Walk(wrapper, offset, flags)
            if walk.header.dictionary > dictionary:
                raise wrapper.corrupt(offset, "a block has a larger dictionary than the first")
            if walk.ended:
                yield xz.decode(wrapper, walk.block)
            else:
                yield _decode(wrapper, _Walk(wrapper, offset, flags))
                while not walk.ended:
                    while not wrapper.arrived(walk.needs):
                        yield None
                    walk.step()
            block = walk.block
            records.append((block.stored, block.content))
            offset += xz.padded(block.stored)
        end = xz.stream_end(records, flags)
        if wrapper.at(offset, len(end)) != end:
            raise wrapper.corrupt(offset, "the index does not list the blocks before it")
        offset = _after_padding(wrapper, offset + len(end))
        count += 1


def _after_padding(wrapper: CompressedFile, offset: int) -> int:
    """Return where the stream padding at `offset` ends (section 2.2)."""
    start = offset
    while offset < wrapper.size:
        data = wrapper.at(offset, min(_PADDING, wrapper.size - offset))
        zeros = len(data) - len(data.lstrip(b"\0"))
        offset += zeros
        if zeros < len(data):
            break
    if (offset - start) % 4:
        raise wrapper.corrupt(offset, "padding of an odd length")
    return offset


class _Walk:
    """The way through the block at `offset`, from one LZMA2 chunk to the next."""

    def __init__(self, wrapper: CompressedFile, offset: int, flags: bytes) -> None:
        self._wrapper = wrapper
        self.offset = offset
        self.flags = flags
        self.header = header = xz.block_header(wrapper, offset)
        self._content = header.content or 0
        #: Where the next chunk begins, or the padding after the last.
        self._next = offset + header.size + (header.compressed or 0)
        #: Whether both sizes are known.
        self.ended = header.compressed is not None and header.content is not None
        if not self.ended:
            self._content, self._next = 0, offset + header.size

    @property
    def needs(self) -> int:
        """How far the file must have come for the next `step`."""
        return min(self._next + 6, self._wrapper.size)

    @property
    def block(self) -> xz.Block:
        """The block, once the walk has ended."""
        # The check stands behind the padding, and only the padding is left out of what is stored (section 4.3.1).
        stored = self._next - self.offset + _CHECKS[self.flags[1] & 15]
        return xz.Block(self.offset, stored, self._content, self.flags)

    def step(self, data: bytes = b"", offset: int = 0) -> None:
        """Go on by one chunk; its header is in `data`, which is at `offset`, or is read."""
        at = self._next - offset
        head = data[at : at + 6] if at >= 0 else b""
        if len(head) < 6:
            head = self._wrapper.at(self._next, max(1, self.needs - self._next))
        control = head[0]
        if control == 0:
            self._next += 1
            self.ended = True
        elif control in (1, 2) and len(head) >= 3:
            size = int.from_bytes(head[1:3], "big") + 1
            self._content += size
            self._next += 3 + size
        elif control >= 0x80 and len(head) >= 5:
            self._content += ((control & 0x1F) << 16) + int.from_bytes(head[1:3], "big") + 1
            self._next += 5 + (control >= 0xC0) + int.from_bytes(head[3:5], "big") + 1
        else:
            raise self._wrapper.corrupt(self._next, "expected an LZMA2 chunk")

    def within(self, data: bytes, offset: int) -> int:
        """Return how many bytes of `data`, which is at `offset`, are of the block."""
        while not self.ended and self._next < offset + len(data):
            self.step(data, offset)
        return min(len(data), self._stop - offset) if self.ended else len(data)

    @property
    def _stop(self) -> int:
        return self.offset + xz.padded(self.block.stored)

    def is_through(self, offset: int) -> bool:
        """Say whether the block ends at `offset`."""
        return self.ended and offset >= self._stop


def _decode(wrapper: CompressedFile, walk: _Walk) -> Iterator[bytes]:
    """Yield the content of a block whose end is found on the way."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    pieces = _as_stream(wrapper, walk)
    offset = 0
    try:
        while not decoder.eof:
            piece = b""
            if decoder.needs_input:
                offset, piece = next(pieces)
            if data := decoder.decompress(piece, CHUNK):
                yield data
        if decoder.unused_data or next(pieces, None):
            raise lzma.LZMAError("the block does not end where its chunks do")
    except (lzma.LZMAError, StopIteration) as error:
        raise wrapper.corrupt(offset, str(error) or "the block does not end where its chunks do") from error


def _as_stream(wrapper: CompressedFile, walk: _Walk) -> Iterator[tuple[int, bytes]]:
    """Yield a stream that holds only the block of `walk`, in pieces, each with its place in the file."""
    offset = walk.offset
    yield offset, xz.stream_header(walk.flags)
    while not walk.is_through(offset):
        data = wrapper.at(offset, min(READ, wrapper.size - offset))
        count = walk.within(data, offset)
        if not data:
            raise wrapper.truncated()
        wrapper.taken(count)
        offset += count
        yield offset, data[:count]
    block = walk.block
    yield offset, xz.stream_end([(block.stored, block.content)], block.flags)
