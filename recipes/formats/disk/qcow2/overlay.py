"""A new QCOW2 overlay: an image without data of its own, whose clusters are read from a backing file.

Specification: QEMU, docs/interop/qcow2.txt. The layout is the one of ``qemu-img create -b``: header, refcount table,
one refcount block and the L1 table, from cluster 0 on.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.sparse import SECTOR, SparseFile, removed_on_error

from .header import BACKING_FORMAT, END, EXTENSION, MAGIC, MAX_BACKING_NAME, MAX_L1, V2, V3, Fields

if TYPE_CHECKING:
    from pathlib import Path

#: QEMU's default: the L2 table of a cluster maps 512 MiB, and a cluster that the guest writes to is copied whole.
_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
#: Bytes of the disk that an L1 entry stands for.
_L1_REACH = (_CLUSTER // 8) << _CLUSTER_BITS
#: The header ends with the compression type and padding to a multiple of 8.
_TAIL = struct.Struct(">B7x")


def write_overlay(path: Path, *, backing: str, size: int) -> None:
    """Write an overlay of `size` bytes to `path`, which must not exist; it is not fsynced.

    `backing` is the name of a RAW file: absolute, or relative to the overlay's folder. The file is not looked at; where
    the overlay is larger, the rest of it reads as zeros.

    Errors: `LimitExceeded` for more than QEMU opens, `UnsupportedFeature` for a name that the format has no room for,
    `NoSpace`; other OSErrors pass. After an error nothing is at `path`.
    """
    if size % SECTOR:
        raise UnsupportedFeature(f"{path}: a disk has whole sectors of {SECTOR} bytes, and {size} bytes are none")
    # QEMU takes what stands before a colon for a protocol, unless a slash comes first.
    name = (f"./{backing}" if ":" in backing.partition("/")[0] else backing).encode("utf-8", "surrogateescape")
    if len(name) > MAX_BACKING_NAME:
        raise UnsupportedFeature(f"{path}: the backing file's name has more than {MAX_BACKING_NAME} bytes: {backing}")
    entries = -(-size // _L1_REACH)
    if entries * 8 > MAX_L1:
        raise LimitExceeded(f"{path}: a QCOW2 disk has {MAX_L1 // 8 * _L1_REACH} bytes at most, not {size}")

    extensions = EXTENSION.pack(BACKING_FORMAT, 3) + b"raw".ljust(8, b"\0") + EXTENSION.pack(END, 0)
    header_length = V2.size + V3.size + _TAIL.size
    refcount_table, refcount_block, l1 = (cluster << _CLUSTER_BITS for cluster in (1, 2, 3))
    fields = Fields(
        magic=MAGIC,
        version=3,
        backing_file_offset=header_length + len(extensions),
        backing_file_size=len(name),
        cluster_bits=_CLUSTER_BITS,
        size=size,
        crypt_method=0,
        l1_size=entries,
        l1_table_offset=l1,
        refcount_table_offset=refcount_table,
        refcount_table_clusters=1,
        nb_snapshots=0,
        snapshots_offset=0,
        header_length=header_length,
    )
    header = V2.pack(*fields[:13]) + V3.pack(*fields[13:18]) + _TAIL.pack(fields.compression_type)
    # The largest L1 table has 512 clusters; a refcount block of 16 bits each counts 32768.
    clusters = 3 + -(-entries * 8 // _CLUSTER)
    with SparseFile(path, durable=False) as file, removed_on_error(path):
        # The size first: XFS allots more than is written to a file that grows.
        file.finish(l1 + -(-entries * 8 // SECTOR) * SECTOR)
        file.pwrite(header + extensions + name, 0)
        file.pwrite(struct.pack(">Q", refcount_block), refcount_table)
        file.pwrite(struct.pack(">H", 1) * clusters, refcount_block)
