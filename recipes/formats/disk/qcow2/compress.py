"""A disk as a QCOW2 with compressed clusters; the same bytes for any number of threads.

Specification: QEMU, docs/interop/qcow2.txt. Layout: header; compressed clusters, packed by the byte, in the guest's
order; clusters that compression does not make smaller; L2 tables; L1 table; refcount blocks; refcount table.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded
from recipes.formats.codec import libzstd
from recipes.formats.disk.ahead import encoded
from recipes.formats.io.hashed import HashedFile
from recipes.formats.io.sparse import SECTOR, removed_on_error

from .header import MAGIC, MAX_L1, V2, V3, Fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from recipes.formats.disk.reading import Disk
    from recipes.formats.io.context import Context
    from recipes.model import BlockHash, Qcow2Compression

_BITS = 16
_CLUSTER = 1 << _BITS
#: Entries of an L2 table and of the refcount table; counts of a refcount block.
_ENTRIES, _COUNTS = _CLUSTER // 8, _CLUSTER // 2
_COPIED, _COMPRESSED = 1 << 63, 1 << 62
#: Of a compressed cluster's L2 entry: the place is below this bit, the number of further sectors above.
_SECTORS_AT = 62 - (_BITS - 8)
_ZLIB_LEVEL, _ZSTD_LEVEL = 3, 3
#: "Compressed Clusters Descriptor": no reader needs a window of more than 4 KiB. libdeflate always uses 32 KiB.
_WINDOW_BITS = -12
_INCOMPATIBLE_COMPRESSION = 1 << 3
_TAIL = struct.Struct(">B7x")
_ZERO = bytes(_CLUSTER)

#: A guest cluster, and its compressed bytes, None where they are not fewer.
_Found = list[tuple[int, "bytes | None"]]


def write_compressed(disk: Disk, path: Path, compression: Qcow2Compression, context: Context) -> BlockHash:
    """Write `disk` to a QCOW2 at `path`, which must not exist; return the blkhash of the file.

    The meter is told the bytes of data. After an error nothing is at `path`.
    Errors: `LimitExceeded` for more than QEMU opens; `NoSpace`; those of `Disk.read`.
    """
    if -(-disk.size // (_ENTRIES * _CLUSTER)) * 8 > MAX_L1:
        raise LimitExceeded(f"{disk.source.name}: a QCOW2 disk has {MAX_L1 // 8 * _ENTRIES * _CLUSTER} bytes at most")
    pack = _packer(compression)

    def encode(start: int, stop: int) -> tuple[_Found, int]:
        view, found = memoryview(disk.read(start, stop)), []
        for at in range(0, len(view), _CLUSTER):
            piece = view[at : at + _CLUSTER]
            if not _ZERO.startswith(piece):
                packed = pack(piece if len(piece) == _CLUSTER else bytes(piece).ljust(_CLUSTER, b"\0"))
                found.append(((start + at) >> _BITS, packed if len(packed) < _CLUSTER else None))
        return found, stop - start

    with (
        removed_on_error(path),
        HashedFile(path, durable=context.durable) as file,
        context.meter(disk.data_size(_CLUSTER)) as meter,
    ):
        image = _Image(file)
        plain: list[int] = []
        for found, length in encoded(encode, disk.chunks(_CLUSTER), context.jobs):
            image.add_compressed(found)
            plain += [cluster for cluster, packed in found if packed is None]
            meter.advance(length)
        image.align()
        for cluster in plain:
            start = cluster << _BITS
            image.add_plain(cluster, disk.read(start, min(start + _CLUSTER, disk.size)))
        image.finish(disk.size, compression)
        assert file.blkhash is not None, "it is finished"
        return file.blkhash


def _packer(compression: Qcow2Compression) -> Callable[[bytes | memoryview], bytes]:
    """Return the function from a cluster to its compressed bytes; threads may share it."""
    if compression == "zstd":
        compress = libzstd.backend().compress
        # Nobody looks at a checksum that each frame could have: 4 bytes of each cluster.
        return lambda data: compress(data, _ZSTD_LEVEL, checksum=False)
    from isal.isal_zlib import DEFLATED, compressobj

    def deflate(data: bytes | memoryview) -> bytes:
        stream = compressobj(_ZLIB_LEVEL, DEFLATED, _WINDOW_BITS)
        return stream.compress(data) + stream.flush()

    return deflate


class _Image:
    """The file, as far as it is written. Only L2 tables with data take memory."""

    def __init__(self, file: HashedFile) -> None:
        self._file = file
        self._tables: dict[int, array[int]] = {}
        #: Of what is written; the first cluster is the header's.
        self._end = _CLUSTER

    def _map(self, cluster: int, entry: int) -> None:
        table = self._tables.setdefault(cluster // _ENTRIES, array("Q"))
        if not table:
            table.frombytes(_ZERO)
        table[cluster % _ENTRIES] = entry

    def _append(self, data: bytes | bytearray) -> int:
        """Write `data`, and zeros up to a whole cluster; return where."""
        at = self._end
        self._file.pwrite(data, at)
        self._end += -(-len(data) // _CLUSTER) * _CLUSTER
        return at

    def add_compressed(self, found: _Found) -> None:
        """Write the compressed ones among the clusters `found`."""
        begin, pieces = self._end, []
        for cluster, packed in found:
            if packed is not None:
                sectors = (self._end % SECTOR + len(packed) - 1) // SECTOR
                self._map(cluster, _COMPRESSED | sectors << _SECTORS_AT | self._end)
                pieces.append(packed)
                self._end += len(packed)
        self._file.pwrite(b"".join(pieces), begin)

    def align(self) -> None:
        """Go on at a whole cluster."""
        self._end = -(-self._end // _CLUSTER) * _CLUSTER

    def add_plain(self, cluster: int, data: bytearray) -> None:
        """Write a cluster as it is."""
        self._map(cluster, _COPIED | self._append(data))

    def _counts(self, total: int, blocks: int) -> array[int]:
        """Return the refcount of each cluster: compressed ones share theirs."""
        counts = array("H", [1]) * total + array("H", [0]) * (blocks * _COUNTS - total)
        seen: dict[int, int] = {}
        for table in self._tables.values():
            for entry in table:
                if entry & _COMPRESSED:
                    at = entry & (1 << _SECTORS_AT) - 1
                    sectors = entry >> _SECTORS_AT & (1 << _BITS - 8) - 1
                    last = (at // SECTOR + sectors + 1) * SECTOR - 1
                    for each in range(at >> _BITS, (last >> _BITS) + 1):
                        seen[each] = seen.get(each, 0) + 1
        for each, count in seen.items():
            counts[each] = count
        return counts

    def finish(self, size: int, compression: Qcow2Compression) -> None:
        """Write the tables and the header of a disk of `size` bytes."""
        length = -(-size // (_ENTRIES * _CLUSTER))
        l1 = array("Q", [0]) * max(1, length)
        for index in sorted(self._tables):
            l1[index] = _COPIED | self._append(_big(self._tables[index]))
        l1_at = self._append(_big(l1))
        # The refcounts count themselves and their table too.
        used, blocks, tables = self._end >> _BITS, 1, 1
        while (total := used + blocks + tables) > blocks * _COUNTS:
            blocks, tables = blocks + 1, -(-(blocks + 1) // _ENTRIES)
        blocks_at = self._append(_big(self._counts(total, blocks)))
        table_at = self._append(_big(array("Q", range(blocks_at, blocks_at + blocks * _CLUSTER, _CLUSTER))))
        zstd = compression == "zstd"
        fields = Fields(
            magic=MAGIC,
            version=3,
            backing_file_offset=0,
            backing_file_size=0,
            cluster_bits=_BITS,
            size=size,
            crypt_method=0,
            l1_size=len(l1),
            l1_table_offset=l1_at,
            refcount_table_offset=table_at,
            refcount_table_clusters=tables,
            nb_snapshots=0,
            snapshots_offset=0,
            incompatible=_INCOMPATIBLE_COMPRESSION if zstd else 0,
            header_length=V2.size + V3.size + _TAIL.size,
            compression_type=int(zstd),
        )
        header = V2.pack(*fields[:13]) + V3.pack(*fields[13:18]) + _TAIL.pack(fields.compression_type)
        self._file.pwrite(header, 0)
        self._file.finish(self._end)


def _big(numbers: array[int]) -> bytes:
    """Return `numbers` in big endian."""
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
