"""From a disk image to a sparse RAW file, in several threads.

Each thread takes a batch of the guest's disk, reads or inflates it into a buffer of its own, writes it without its zero
blocks, and hashes it while it is in the processor's cache. Plain data is shared with the image where the file system
can do that (XFS, btrfs).
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io.blkhash import BLOCK_SIZE
from recipes.formats.io.parallel import in_threads
from recipes.formats.io.sparse import CHUNK, data_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from recipes.formats.io.blkhash import BlockHasher
    from recipes.formats.io.sparse import SparseFile
    from recipes.progress import Meter

    from .image import DiskImage, Extent

#: Compressed clusters with no more than this between them are read at once, for instance around an L2 table.
_GAP = 64 * 1024


class _Batch(NamedTuple):
    """A range of the guest's disk of whole blkhash blocks, but for the disk's last, that fits a worker's buffer."""

    start: int
    stop: int
    #: Its data in the guest's order, one or more; the rest of it is zeros.
    extents: list[Extent]


def convert(
    image: DiskImage, target: SparseFile, *, jobs: int, meter: Meter, hasher: BlockHasher | None = None
) -> None:
    """Write the active state of `image` to the empty `target`, in `jobs` threads, and finish it.

    `meter` is told the bytes of the guest's disk that have data. `hasher` is fed the whole disk. Errors: those of
    `DiskImage.extents` before anything is written; `CorruptImage` for data that does not decompress; `NoSpace`.
    """
    meter.expect(image.data_size)
    extents = image.extents()
    if hasher is None:
        extents = _share_runs(image, target, extents, meter)
    span = max(CHUNK, image.unit)
    batches = _batches(extents, span, image.size)

    def worker(mine: Iterator[_Batch]) -> None:
        reader = _Reader(image, span)
        for batch in mine:
            view = reader.read(batch)
            runs = data_runs(view)
            source = _plain_source(batch)
            if source is None or not target.reflink(image.fileno(), source, batch.start, runs):
                target.pwrite_runs(view, batch.start, runs)
            if hasher is not None:
                hasher.update(batch.start, view)
            # The disk works while the processors inflate: of the fsync of 1 GiB, this left half.
            target.write_back(batch.start, len(view))
            meter.advance(sum(extent.length for extent in batch.extents))

    in_threads(batches, worker, jobs=jobs)
    target.finish(image.size)


def _share_runs(image: DiskImage, target: SparseFile, extents: Iterable[Extent], meter: Meter) -> Iterator[Extent]:
    """Share what can be shared without a look at it, and yield the rest."""
    for extent in extents:
        if not extent.stored and target.reflink(image.fileno(), extent.host, extent.guest, [(0, extent.length)]):
            meter.advance(extent.length)
        else:
            yield extent


def _plain_source(batch: _Batch) -> int | None:
    """Return where in the file the content of `batch` is, as it is; None where it is in pieces."""
    first = batch.extents[0]
    return first.host if not first.stored and first.length == batch.stop - batch.start else None


def _batches(extents: Iterable[Extent], span: int, size: int) -> Iterator[_Batch]:
    """Cut and gather `extents` into batches, none of which crosses a multiple of `span`; `size` is the disk's."""
    gathered: list[Extent] = []
    limit = 0
    for piece in _cut(extents, span):
        if gathered and piece.guest >= limit:
            yield _batch(gathered, size)
            gathered = []
        limit = (piece.guest // span + 1) * span
        gathered.append(piece)
    if gathered:
        yield _batch(gathered, size)


def _batch(extents: list[Extent], size: int) -> _Batch:
    # Clusters smaller than a blkhash block must not tear one apart.
    last = extents[-1]
    stop = -(-(last.guest + last.length) // BLOCK_SIZE) * BLOCK_SIZE
    return _Batch(extents[0].guest // BLOCK_SIZE * BLOCK_SIZE, min(stop, size), extents)


def _cut(extents: Iterable[Extent], span: int) -> Iterator[Extent]:
    """Cut plain extents at the multiples of `span`; compressed clusters never cross one."""
    for extent in extents:
        if extent.stored:
            yield extent
            continue
        guest, length, host, _ = extent
        while length:
            count = min(length, span - guest % span)
            yield extent._replace(guest=guest, length=count, host=host)
            guest, length, host = guest + count, length - count, host + count


class _Reader:
    """One thread's buffers and decompressor."""

    def __init__(self, image: DiskImage, span: int) -> None:
        self._image = image
        self._guest = memoryview(bytearray(span))
        # A compressed cluster takes at most twice its size in the file: the L2 entry has no room for more.
        self._stored = memoryview(bytearray(2 * span))

    @cached_property
    def _inflate(self) -> Callable[[memoryview, int], bytes | bytearray]:
        return self._image.decoder()

    def read(self, batch: _Batch) -> memoryview:
        """Return the content of `batch`, until the next call."""
        view = self._guest[: batch.stop - batch.start]
        if sum(extent.length for extent in batch.extents) < len(view):
            view[:] = bytes(len(view))
        compressed = []
        for extent in batch.extents:
            if extent.stored:
                compressed.append(extent)
            else:
                at = extent.guest - batch.start
                self._fill(view[at : at + extent.length], extent.host)
        for start, stop, group in _neighbours(compressed, len(self._stored)):
            stored = self._stored[: stop - start]
            self._fill(stored, start)
            inflate = self._inflate
            for guest, length, host, size in group:
                data = inflate(stored[host - start : host - start + size], guest)
                at = guest - batch.start
                view[at : at + length] = data if len(data) == length else data[:length]
        return view

    def _fill(self, view: memoryview, offset: int) -> None:
        if os.preadv(self._image.fileno(), [view], offset) != len(view):
            raise self._image.truncated(f"the data at byte {offset}", offset + len(view))


def _neighbours(extents: list[Extent], room: int) -> Iterator[tuple[int, int, list[Extent]]]:
    """Gather compressed clusters that are near each other in the file, as (start, stop, clusters) of one read."""
    group: list[Extent] = []
    start = stop = 0
    for extent in extents:
        end = extent.host + extent.stored
        # Clusters are packed by bytes and their lengths rounded up to sectors, so neighbours overlap.
        if group and start <= extent.host <= stop + _GAP and max(stop, end) - start <= room:
            group.append(extent)
            stop = max(stop, end)
            continue
        if group:
            yield start, stop, group
        group, start, stop = [extent], extent.host, end
    if group:
        yield start, stop, group
