"""A disk as a zstd file that costs its data, not its size, and that any zstd decoder reads.

The content is cut into units of `zstd.UNIT` bytes, and each becomes a frame of its own, with its size and a checksum in
it (RFC 8878, section 3.1.1). So threads compress and decode them side by side, and a unit of zeros, read or not, is
always the same few bytes: `zstd.ZERO_FRAME`.

Not the seekable format of zstd's contrib: its table at the end would have to be read first, and the headers of blocks
lead from frame to frame as well. Not one frame, as zstd(1) writes, which one thread would have to decode: on a Debian,
at level 3, whose window is half a unit, the two were of the same size.
"""

from __future__ import annotations

import errno
import os
from contextlib import closing
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.blkhash import BLOCK_SIZE, BlockHasher
from recipes.formats.io.parallel import in_threads
from recipes.formats.io.pipeline import in_order
from recipes.formats.io.sparse import CHUNK, SparseFile, data_runs, data_units, removed_on_error

from . import libzstd, zstd
from .compressed import open_wrapper

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from recipes.model import BlockHash
    from recipes.progress import Meter

    from .compressed import CompressedFile
    from .zstd import Frame

#: Bytes that the threads of one compression may take together; one thread it always has.
MEMORY_LIMIT = 64 << 20
#: MiB of an encoder's tables for a unit, by level from 1 on: ZSTD_estimateCCtxSize_usingCParams of libzstd 1.5.7.
_TABLES = (1, 1, 2, 3, 3, 3, 6, 6, 11, 21, 21, 41, 33, 49, 65, 33, 49, 50, 50, 66, 66, 66)
#: Bytes of the longest frame that is decoded: a unit that does not compress (ZSTD_COMPRESSBOUND), and a header.
_FRAME_MAX = zstd.UNIT + (zstd.UNIT >> 8) + (1 << 10)
#: What is further back than that is not read again.
LOOK_BACK = _FRAME_MAX + (1 << 10)
#: Zero frames that are written at once.
_RUN = 1024


def compress(source: Path, *, jobs: int, level: int, meter: Meter) -> Generator[bytes]:
    """Yield the file at `source` as zstd, compressed by up to `jobs` threads.

    The bytes depend on the content, the level and the version of libzstd alone: not on where the holes are, nor on
    `jobs`. `meter` is told the bytes that are read, which are those of units with data. Memory: `MEMORY_LIMIT`, or from
    level 16 on what one thread takes, 60 to 90 MiB. Close it, or read it to its end: the threads end with it.

    Errors: OSErrors of `source`.
    """
    with source.open("rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size

        def tasks() -> Iterator[Iterator[bytes]]:
            for start, stop, data in _spans(fd, size):
                if not data:
                    yield _zero_frames((stop - start) // zstd.UNIT)
                    continue
                for at in range(start, max(stop, start + 1), zstd.UNIT):
                    yield _frame(source, fd, at, min(at + zstd.UNIT, stop), level, meter)

        meter.expect(sum(stop - start for start, stop, data in _spans(fd, size) if data))
        workers = min(jobs, _threads(level))
        with closing(in_order(tasks(), workers=workers, room=(workers + 1) * zstd.UNIT)) as chunks:
            yield from chunks


def _threads(level: int) -> int:
    """Return how many threads the memory suffices for."""
    # Beside the encoder's tables, a unit and what it became.
    tables = _TABLES[max(0, min(level, len(_TABLES)) - 1)]
    return max(1, MEMORY_LIMIT // ((tables << 20) + 2 * zstd.UNIT))


def _spans(fd: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the file as ``(start, stop, data)``: whole units that may hold data or are holes, the last one short.

    A short one counts as data, and so does the nothing in an empty file, since a zstd file has a frame.
    """
    done = 0
    for start, stop in data_units(fd, size, zstd.UNIT):
        yield done, start, False
        yield start, stop, True
        done = stop
    whole = size - size % zstd.UNIT
    if done < whole:
        yield done, whole, False
        done = whole
    if done < size or not size:
        yield done, size, True


def _zero_frames(count: int) -> Iterator[bytes]:
    for left in range(count, 0, -_RUN):
        yield zstd.ZERO_FRAME * min(left, _RUN)


def _frame(source: Path, fd: int, start: int, stop: int, level: int, meter: Meter) -> Iterator[bytes]:
    """Yield the frame of one unit."""
    data = os.pread(fd, stop - start, start)
    if len(data) != stop - start:
        raise OSError(errno.EIO, "the file was cut while it was being read", str(source))
    if len(data) == zstd.UNIT and not data_runs(memoryview(data)):
        yield zstd.ZERO_FRAME
    else:
        yield libzstd.backend().compress(data, level)
    meter.advance(len(data))


def expand(source: Path, destination: Path, *, jobs: int, limit: int, meter: Meter, durable: bool = True) -> BlockHash:
    """Decode the file `source` as `expand_wrapper` does."""
    with open_wrapper(source, "zstd") as wrapper:
        return expand_wrapper(wrapper, destination, jobs=jobs, limit=limit, meter=meter, durable=durable)


def expand_wrapper(
    wrapper: CompressedFile, destination: Path, *, jobs: int, limit: int, meter: Meter, durable: bool = True
) -> BlockHash:
    """Decode what `compress` wrote to `wrapper` into the new sparse file `destination`; return the content's blkhash.

    `wrapper` is read by one thread at a time, and never further back than `LOOK_BACK` bytes. `limit` is the most bytes
    that the content may have. `meter` is told the bytes of `wrapper`. On success `destination`
    is complete, and on the disk if it is to be `durable`; after any error nothing is there. Memory: 16 MiB for each of
    the `jobs` threads.

    Unlike `unwrap.unwrap`, this takes no digest of the whole content, and so neither decodes nor writes in order.

    Errors: `UnsupportedFeature` for a zstd file of another make, whose frames do not say what they hold, or hold more
    than a unit; `CorruptImage`; `LimitExceeded`; `NoSpace`; other OSErrors pass.
    """
    hasher = BlockHasher()
    size = 0
    with removed_on_error(destination), SparseFile(destination, durable=durable) as file:

        def placed() -> Iterator[tuple[int, Frame, bytes]]:
            nonlocal size
            for frame in zstd.frames(wrapper):
                _require_unit(wrapper, frame, size)
                offset = size
                size += frame.content or 0
                if size > limit:
                    raise LimitExceeded(f"{wrapper.path}: zstd: holds more than the limit of {limit} bytes of content")
                if frame.zeros:
                    meter.advance(frame.stop - frame.start)
                else:
                    yield offset, frame, wrapper.at(frame.start, frame.stop - frame.start)

        def worker(items: Iterator[tuple[int, Frame, bytes]]) -> None:
            for offset, frame, data in items:
                view = piece = memoryview(_decode(wrapper, frame, data))
                for at in range(0, len(view), CHUNK):
                    piece = view[at : at + CHUNK]
                    file.pwrite(piece, offset + at)
                    hasher.update(offset + at, piece)
                file.write_back(offset, len(view))
                meter.advance(frame.stop - frame.start)
                # Before the next is decoded, or there are two of each.
                del view, piece, data

        meter.expect(wrapper.size)
        in_threads(placed(), worker, jobs=jobs)
        file.finish(size)
    return hasher.result(size)


def _require_unit(wrapper: CompressedFile, frame: Frame, offset: int) -> None:
    """Raise UnsupportedFeature for a frame that `compress` does not write; its content belongs at `offset`."""
    too_long = frame.content is None or frame.content > zstd.UNIT or frame.stop - frame.start > _FRAME_MAX
    if too_long or offset % BLOCK_SIZE:
        raise UnsupportedFeature(
            f"{wrapper.path}: zstd: near byte {frame.start}: expected a frame of at most {zstd.UNIT} bytes of content, "
            "that says so, and not in the middle of a block: the file was not written by larder"
        )


def _decode(wrapper: CompressedFile, frame: Frame, encoded: bytes) -> bytes:
    try:
        data = libzstd.backend().decompress(encoded, zstd.UNIT)
    except libzstd.ZstdError as error:
        raise wrapper.corrupt(frame.start, str(error)) from error
    if len(data) != frame.content:
        raise wrapper.corrupt(frame.start, f"expected {frame.content} bytes of content, found {len(data)}")
    return data
