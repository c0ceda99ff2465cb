"""Any disk image that larder reads, to RAW."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io import probe
from recipes.formats.io.blkhash import BlockHasher, of_file
from recipes.formats.io.bounds import RAISE_VIRTUAL_SIZE
from recipes.formats.io.files import os_errors
from recipes.formats.io.sparse import SECTOR, SparseFile, clone, removed_on_error
from recipes.units import format_size

from .convert import convert
from .table import FORMATS, readable

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.io.context import Context
    from recipes.model import BlockHash


class RawDisk(NamedTuple):
    """What a disk image was, and how it became RAW."""

    #: Name of the source's format, as `recipes.formats.io.probe` gives it.
    source_format: str
    #: Bytes of the disk, a multiple of 512.
    virtual_size: int
    #: Of the RAW file; None where nobody asked for it.
    blkhash: BlockHash | None
    method: Literal["convert", "rename", "reflink", "copy"]


def to_raw(
    source: Path,
    destination: Path,
    context: Context,
    *,
    blkhash: bool = True,
    own: bool = False,
) -> RawDisk:
    """Write the disk image at `source` to `destination`, which must not exist, as a sparse RAW file.

    The result is what ``qemu-img convert -O raw`` gives, to the byte, and it is on the disk if it is to be durable.
    After an error nothing is at `destination`. Meters are told the bytes of data. A RAW that nobody else needs is the
    caller's `own`: it is moved, unless the result has to be durable.

    Errors: `UnsupportedFeature` for another format, `CorruptImage`, `LimitExceeded` for a disk of more bytes than
    `context.limit`, `NoSpace`, `StoreError` for what the operating system refuses.
    """
    job = _Job(source, destination, context, blkhash, own)
    with os_errors(source):
        name = require_disk(source)
        if name in FORMATS:
            return job.from_image(name)
        if name in probe.RAW_FORMATS:
            return job.from_raw(name)
    raise UnsupportedFeature(
        f"{source}: a disk image in the format {name} is not supported yet",
        hint=f"larder reads {readable()}; qemu-img convert makes them from most others",
    )


def require_disk(path: Path) -> str:
    """Name the format of the disk image at `path`, as `probe` does; raise UnsupportedFeature for what is none.

    A RAW disk has no magic that every one has, and may have any content: zeros, a partition table, a file system,
    data that only its guest knows. So what is certain is refused: text, archives, compressed data, programs; a file
    without a byte; and unknown data that does not fill whole sectors of 512 bytes, which no disk is, and all but one in
    512 files of a format without a magic are. OSErrors pass.
    """
    name = probe.probe(path)
    if name in probe.DISK_FORMATS:
        return name
    if name not in probe.RAW_FORMATS:
        # Here and not above: it knows all codecs, and a RAW disk needs none.
        from . import foreign

        raise foreign.refusal(path, name, "a disk image")
    size = path.stat().st_size
    if size == 0:
        raise UnsupportedFeature(
            f"{path}: expected a disk image, found an empty file", hint="fetch it again, or ask upstream"
        )
    if size % SECTOR:
        with path.open("rb") as file:
            head = file.read(probe.HEAD)
        if not probe.has_structure(head):
            raise UnsupportedFeature(
                f"{path}: expected a disk image, found {size} bytes of data that is not known, and a disk without a "
                f"partition table or a file system has whole sectors of {SECTOR} bytes",
                hint=f"if it is a RAW disk all the same, fill it up: truncate --size=%{SECTOR} FILE",
            )
    return name


class _Job(NamedTuple):
    """What `to_raw` was asked for."""

    source: Path
    destination: Path
    context: Context
    blkhash: bool
    own: bool

    def from_image(self, name: str) -> RawDisk:
        hasher = BlockHasher() if self.blkhash else None
        with self.source.open("rb", buffering=0) as file:
            image = FORMATS[name].open(file.fileno(), self.source, self.context.limit)
            with (
                SparseFile(self.destination, durable=self.context.durable) as target,
                removed_on_error(self.destination),
                self.context.meter() as meter,
            ):
                self._warn(image.data_size)
                convert(image, target, jobs=self.context.jobs, meter=meter, hasher=hasher)
        return RawDisk(name, image.size, hasher.result(image.size) if hasher else None, "convert")

    def _warn(self, data: int) -> None:
        """Tell where `data` bytes would not fit.

        No error: zeros among them become holes, and shared extents take no room, so it may fit all the same.
        """
        # shutil.disk_usage does the same, and shutil loads three compressors.
        system = os.statvfs(self.destination.parent)
        free = system.f_bavail * system.f_frsize
        if data > free:
            self.context.progress.note(
                f"{self.context.label}: the disk has {format_size(data)} of data, and {format_size(free)} are left in "
                f"{self.destination.parent}; that may not be enough"
            )

    def from_raw(self, name: str) -> RawDisk:
        # Disks have whole sectors; QEMU and Apple's Virtualization.framework insist on it.
        size = -(-self.source.stat().st_size // SECTOR) * SECTOR
        if size > self.context.limit:
            raise LimitExceeded(
                f"{self.source}: the disk has {size} bytes, more than the {self.context.limit} that are allowed",
                hint=RAISE_VIRTUAL_SIZE,
            )
        method = self._take()
        with removed_on_error(self.destination):
            if self.destination.stat().st_size != size:
                with self.destination.open("r+b") as file:
                    file.truncate(size)
                    if self.context.durable:
                        os.fsync(file.fileno())
            if not self.blkhash:
                return RawDisk(name, size, None, method)
            with self.context.meter() as meter:
                return RawDisk(name, size, of_file(self.destination, jobs=self.context.jobs, meter=meter), method)

    def _take(self) -> Literal["rename", "reflink", "copy"]:
        if self.own and not self.context.durable:
            self.source.rename(self.destination)
            return "rename"
        with self.context.meter() as meter:
            return clone(self.source, self.destination, meter=meter, durable=self.context.durable)
