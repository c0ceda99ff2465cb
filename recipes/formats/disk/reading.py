"""A disk to be written in another format: its data in chunks, whatever it is stored in."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import ImageError, LimitExceeded
from recipes.formats.io.bounds import RAISE_VIRTUAL_SIZE
from recipes.formats.io.files import os_errors
from recipes.formats.io.source import FileSource, Source
from recipes.formats.io.sparse import CHUNK, SECTOR, data_extents, units

from .guest import Guest
from .table import FORMATS
from .to_raw import require_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


class Disk(NamedTuple):
    """An open disk. Several threads may read it."""

    source: Source
    #: Bytes of the disk, a multiple of 512; a RAW whose last sector is cut is filled up with zeros.
    size: int
    #: Yields the ranges that may have data, in their order; what is in none is zeros.
    extents: Callable[[], Iterable[tuple[int, int]]]

    def units(self, unit: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges with data, extended to whole units of `unit` bytes; the disk's last one may be short."""
        return units(self.extents(), self.size, unit)

    def data_size(self, unit: int) -> int:
        """Return the bytes in all units that have data."""
        return sum(stop - start for start, stop in self.units(unit))

    def chunks(self, unit: int) -> Iterator[tuple[int, int]]:
        """Yield `units` in pieces of `CHUNK` bytes at the most, which is a multiple of `unit`."""
        for start, stop in self.units(unit):
            for at in range(start, stop, CHUNK):
                yield at, min(at + CHUNK, stop)

    def read(self, start: int, stop: int) -> bytearray:
        """Return the bytes of such a chunk. Errors: `ImageError` for a file that is cut meanwhile; the format's own."""
        data = bytearray(stop - start)
        held = min(stop, self.source.size)
        view = memoryview(data)[: held - start]
        while view:
            count = self.source.readinto(view, held - len(view))
            if not count:
                raise ImageError(f"{self.source.name}: the file was cut while it was being read")
            view = view[count:]
        return data


@contextmanager
def open_disk(path: Path, limit: int) -> Iterator[Disk]:
    """Open the disk image or RAW file at `path`, of no more than `limit` bytes, until the context is left.

    Errors: those of `require_disk` and of the format; `StoreError` for what the operating system refuses.
    """
    with os_errors(path), path.open("rb", buffering=0) as file:
        name, fd = require_disk(path), file.fileno()
        if name in FORMATS:
            guest = Guest(FORMATS[name].open(fd, path, limit), str(path))
            yield Disk(guest, guest.size, guest.ranges)
            return
        disk = raw_disk(fd, path)
        if disk.size > limit:
            raise LimitExceeded(
                f"{path}: the disk has {disk.size} bytes, more than the {limit} that are allowed",
                hint=RAISE_VIRTUAL_SIZE,
            )
        yield disk


@contextmanager
def open_raw(path: Path) -> Iterator[Disk]:
    """Open the RAW file at `path` until the context is left, whatever is in it.

    A guest may have put anything onto its disk, so the beginning of a file that is known to be RAW says nothing.
    """
    with os_errors(path), path.open("rb", buffering=0) as file:
        yield raw_disk(file.fileno(), path)


def raw_disk(fd: int, path: Path) -> Disk:
    """Return the RAW disk at `path`, which is open as `fd`, whatever is in it."""
    source = FileSource(fd, str(path))
    # Disks have whole sectors; QEMU and Apple's Virtualization.framework insist on it.
    return Disk(source, -(-source.size // SECTOR) * SECTOR, lambda: data_extents(fd, source.size))
