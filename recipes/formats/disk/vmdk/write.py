"""A disk as a streamOptimized VMDK, which vSphere takes; the same bytes for any number of threads.

Specification: VMware, Virtual Disk Format 5.0 (2011), "Stream-Optimized Compressed Sparse Extents". The layout is that
of VMware: each grain table behind its grains, the directory after the last one, and its place in the footer.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded
from recipes.formats.disk.ahead import encoded
from recipes.formats.io.blkhash import BlockHasher
from recipes.formats.io.hashed import HashedFile
from recipes.formats.io.sparse import SECTOR, removed_on_error

from . import layout

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.disk.reading import Disk
    from recipes.formats.io.context import Context
    from recipes.model import BlockHash

#: Bytes of a grain: what every writer has.
GRAIN = 1 << 16
_GRAIN_SECTORS = GRAIN // SECTOR
_ZERO = bytes(GRAIN)
_LEVEL = 3
#: Markers, beside the footer's.
_TABLE, _DIRECTORY = 1, 2
_DESCRIPTOR_AT, _DESCRIPTOR_SECTORS, _OVERHEAD = 1, 20, 128
#: Places are sectors in 32 bits.
MAX_SIZE = 1 << 41
_HEADS, _TRACK = 255, 63


def write_stream(disk: Disk, path: Path, context: Context, *, known: BlockHash | None = None) -> BlockHash:
    """Write `disk`, padded to whole grains, to a VMDK at `path`, which must not exist; return the blkhash of the file.

    Its CID follows from the blkhash of the disk, which may be `known`. The meter is told the bytes of data. After an
    error nothing is at `path`. Errors: `LimitExceeded` for more than 2 TiB; `NoSpace`; those of `Disk.read`.
    """
    from isal.isal_zlib import DEFLATED, compressobj

    grains = -(-disk.size // GRAIN)
    if grains * GRAIN > MAX_SIZE:
        raise LimitExceeded(f"{disk.source.name}: a VMDK of one file has {MAX_SIZE} bytes of disk at most")
    hasher = BlockHasher()

    def encode(start: int, stop: int) -> tuple[list[tuple[int, bytes]], int]:
        view, found = memoryview(disk.read(start, stop)), []
        if known is None:
            hasher.update(start, view)
        for at in range(0, len(view), GRAIN):
            piece = view[at : at + GRAIN]
            if not _ZERO.startswith(piece):
                stream = compressobj(_LEVEL, DEFLATED, 15)
                packed = stream.compress(piece if len(piece) == GRAIN else bytes(piece).ljust(GRAIN, b"\0"))
                found.append(((start + at) // GRAIN, packed + stream.flush()))
        return found, stop - start

    with (
        removed_on_error(path),
        HashedFile(path, durable=context.durable) as file,
        context.meter(disk.data_size(GRAIN)) as meter,
    ):
        extent = _Extent(file, grains)
        for found, length in encoded(encode, disk.chunks(GRAIN), context.jobs):
            for grain, packed in found:
                extent.add(grain, packed)
            meter.advance(length)
        blkhash = known or hasher.result(disk.size)
        extent.finish(blkhash.hex.encode())
        assert file.blkhash is not None, "it is finished"
        return file.blkhash


class _Extent:
    """The file, as far as it is written."""

    def __init__(self, file: HashedFile, grains: int) -> None:
        self._file = file
        self._grains = grains
        self._directory = [0] * -(-grains // layout.TABLE_ENTRIES)
        self._index, self._table = -1, [0] * layout.TABLE_ENTRIES
        self._end = _OVERHEAD

    def _append(self, data: bytes) -> int:
        at = self._end
        self._file.pwrite(data, at * SECTOR)
        self._end += -(-len(data) // SECTOR)
        return at

    def _marked(self, kind: int, data: bytes) -> int:
        """Write `data` behind its marker; return where it is."""
        marker = layout.MARKER.pack(-(-len(data) // SECTOR), 0, kind).ljust(SECTOR, b"\0")
        return self._append(marker + data) + 1

    def add(self, grain: int, packed: bytes) -> None:
        """Write a grain; each one comes after those that are before it on the disk."""
        index, entry = divmod(grain, layout.TABLE_ENTRIES)
        if index != self._index:
            self._end_table()
            self._index = index
        self._table[entry] = self._append(layout.GRAIN_MARKER.pack(grain * _GRAIN_SECTORS, len(packed)) + packed)

    def _end_table(self) -> None:
        if self._index >= 0:
            self._directory[self._index] = self._marked(_TABLE, _words(self._table))
            self._table = [0] * layout.TABLE_ENTRIES

    def finish(self, identity: bytes) -> None:
        """Write the tables, the footer, the descriptor and the header."""
        self._end_table()
        directory = self._marked(_DIRECTORY, _words(self._directory))
        self._marked(layout.FOOTER_MARKER, self._header(directory))
        self._end += 1  # The end of the stream is a sector of zeros.
        self._file.pwrite(self._header(layout.AT_END), 0)
        self._file.pwrite(_descriptor(self._grains * _GRAIN_SECTORS, identity), _DESCRIPTOR_AT * SECTOR)
        self._file.finish(self._end * SECTOR)

    def _header(self, directory: int) -> bytes:
        return layout.HEADER.pack(
            layout.MAGIC,
            3,
            layout.LINE_TEST | layout.COMPRESSED | layout.MARKERS,
            self._grains * _GRAIN_SECTORS,
            _GRAIN_SECTORS,
            _DESCRIPTOR_AT,
            _DESCRIPTOR_SECTORS,
            layout.TABLE_ENTRIES,
            0,
            directory,
            _OVERHEAD,
            0,
            layout.LINE_ENDS,
            layout.DEFLATE,
        ).ljust(SECTOR, b"\0")


def _words(numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _descriptor(sectors: int, identity: bytes) -> bytes:
    # ffffffff is that of no parent, and its neighbour is what writers begin with.
    # The comments are those of every writer: libvmdk finds the extents by them.
    cid = int.from_bytes(sha256(identity).digest()[:4], "big") & 0x7FFFFFFF
    return f"""# Disk DescriptorFile
version=1
CID={cid:08x}
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW {sectors} SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{min(sectors // (_HEADS * _TRACK), 65535)}"
ddb.geometry.heads = "{_HEADS}"
ddb.geometry.sectors = "{_TRACK}"
ddb.virtualHWVersion = "7"
""".encode()
