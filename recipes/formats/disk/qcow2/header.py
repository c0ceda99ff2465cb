"""The QCOW2 header and its checks.

Specification: QEMU, docs/interop/qcow2.txt. Where that leaves room, this is as strict as QEMU (block/qcow2.c,
qcow2_do_open), with three differences: an image that QEMU has marked corrupt is refused, and so is one whose tables end
past the file's end. QEMU reads what is missing as zeros, but it is what a download that was cut off looks like. A
compressed cluster has to be a whole stream of one cluster; QEMU ignores what a stream holds beyond that, and its end.

Refcounts, internal snapshots and bitmaps take no part in the active state, the only one that larder reads. Of the
first two, places and sizes are checked. So the dirty bit (refcounts may be stale) does no harm.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal, NamedTuple

from recipes.errors import CorruptImage
from recipes.formats.io.sparse import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.disk.file import ImageFile

MAGIC = b"QFI\xfb"
V2 = struct.Struct(">4sIQIIQIIQQIIQ")
V3 = struct.Struct(">QQQII")
EXTENSION = struct.Struct(">II")
_SNAPSHOT = struct.Struct(">QIHHIIQII")
#: Where the header says how large the disk is.
_SIZE_AT, _SIZE_BYTES = 24, 8
_FEATURE_NAME = struct.Struct(">BB46s")

_CLUSTER_BITS = range(9, 22)
#: Extended L2 entries cut a cluster into 32, none smaller than a sector.
_EXTENDED_CLUSTER_BITS = range(14, 22)

# QEMU's limits (block/qcow2.h), which bound what an image can make anybody read.
_MAX_OFFSET = (1 << 63) - 1
MAX_L1 = 32 << 20
_MAX_REFCOUNT_TABLE = 8 << 20
_MAX_REFCOUNT_ORDER = 6
_MAX_SNAPSHOTS = 65536
_MAX_SNAPSHOT_EXTRA = 1024
_MAX_SNAPSHOT_TABLE = 64 << 20
MAX_BACKING_NAME = 1023
_MAX_BACKING_FORMAT = 15

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_INCOMPATIBLE = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2
_AUTOCLEAR_RAW_DATA_FILE = 1 << 1

END = 0
BACKING_FORMAT = 0xE2792ACA
_FEATURE_NAMES = 0x6803F857
_LUKS = 0x0537BE77
_DATA_FILE_NAME = 0x44415441

_ENCRYPTION = {1: "AES encryption", 2: "LUKS encryption"}
_COMPRESSIONS: dict[int, Literal["zlib", "zstd"]] = {0: "zlib", 1: "zstd"}


class Header(NamedTuple):
    """What a header says that reading the active state needs; checked, and within its limits."""

    version: int
    cluster_bits: int
    #: Bytes of the guest's disk, a multiple of `SECTOR`.
    virtual_size: int
    l1_offset: int
    extended_l2: bool
    compression: Literal["zlib", "zstd"]

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries of an L2 table, which is one cluster long."""
        return self.cluster_size // (16 if self.extended_l2 else 8)


class Fields(NamedTuple):
    """The header's fields, by their names in the specification; version 2 has defaults for the last six."""

    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    header_length: int = V2.size
    compression_type: int = 0


def claimed_size(read: Callable[[int, int], bytes], _: int | None) -> int | None:
    """Return the bytes of the guest's disk that a file claims, None where it is too short."""
    field = read(_SIZE_AT, _SIZE_BYTES)
    return int.from_bytes(field, "big") if len(field) == _SIZE_BYTES else None


def read_header(file: ImageFile, *, max_virtual_size: int) -> Header:
    """Read and check the header. No other file is opened, whatever the image names.

    Errors: `CorruptImage`, `UnsupportedFeature`, `LimitExceeded` for a disk of more than `max_virtual_size` bytes.
    """
    fields = _read_fields(file)
    cluster_size = 1 << fields.cluster_bits
    if fields.backing_file_offset > cluster_size:
        raise file.corrupt(f"the backing file's name is past the first cluster, at byte {fields.backing_file_offset}")
    extensions = _read_extensions(file, fields.header_length, fields.backing_file_offset or cluster_size)
    _check_features(file, fields, extensions)
    _check_backing_file(file, fields)
    file.require_size(fields.size, max_virtual_size)
    header = Header(
        version=fields.version,
        cluster_bits=fields.cluster_bits,
        # QEMU counts whole sectors and drops the rest.
        virtual_size=fields.size // SECTOR * SECTOR,
        l1_offset=fields.l1_table_offset,
        extended_l2=bool(fields.incompatible & _EXTENDED_L2),
        compression=_COMPRESSIONS[fields.compression_type],
    )
    _check_tables(file, fields, header)
    return header


def _read_fields(file: ImageFile) -> Fields:
    fields = Fields(*V2.unpack(file.read(0, V2.size, "the header")))
    if fields.magic != MAGIC:
        raise file.corrupt(f"expected the magic {MAGIC!r}, found {fields.magic!r}")
    if fields.version not in (2, 3):
        raise file.unsupported(f"version {fields.version}", hint="larder reads versions 2 and 3")
    if fields.cluster_bits not in _CLUSTER_BITS:
        raise file.corrupt(f"expected clusters of 2^9 to 2^21 bytes, found 2^{fields.cluster_bits}")
    if fields.version == 2:
        return fields
    fields = Fields(*fields[:13], *V3.unpack(file.read(V2.size, V3.size, "the header")))
    shortest = V2.size + V3.size
    if not shortest <= fields.header_length <= 1 << fields.cluster_bits:
        raise file.corrupt(
            f"expected a header of {shortest} to {1 << fields.cluster_bits} bytes, found {fields.header_length}"
        )
    if fields.header_length > shortest:
        fields = fields._replace(compression_type=file.read(shortest, 1, "the header")[0])
    return fields


def _read_extensions(file: ImageFile, offset: int, end: int) -> dict[int, bytes]:
    """Return the header extensions between `offset` and `end`, in the first cluster: type -> content."""
    extensions: dict[int, bytes] = {}
    while offset < end:
        kind, size = EXTENSION.unpack(file.read(offset, EXTENSION.size, "a header extension"))
        offset += EXTENSION.size
        if size > end - offset:
            raise file.corrupt(f"the header extension {kind:#010x} has {size} bytes, more than there is room for")
        if kind == END:
            break
        extensions[kind] = file.read(offset, size, "a header extension")
        offset += -(-size // 8) * 8
    return extensions


def _check_features(file: ImageFile, fields: Fields, extensions: dict[int, bytes]) -> None:
    if unknown := fields.incompatible & ~_KNOWN_INCOMPATIBLE:
        names = _incompatible_names(extensions.get(_FEATURE_NAMES, b""))
        bits = [bit for bit in range(64) if unknown >> bit & 1]
        raise file.unsupported(", ".join(names.get(bit) or f"unknown incompatible feature bit {bit}" for bit in bits))
    if fields.incompatible & _CORRUPT:
        raise CorruptImage(
            f"{file.path}: the image is marked corrupt (incompatible feature bit 1)",
            hint="repair a copy of it: qemu-img check -r all",
        )
    if fields.incompatible & _DATA_FILE:
        name = extensions.get(_DATA_FILE_NAME, b"").decode(errors="replace")
        raise file.unsupported(f"an external data file ({name!r})")
    if fields.autoclear & _AUTOCLEAR_RAW_DATA_FILE:
        raise file.corrupt("a raw external data file is announced, and there is no external data file")
    if fields.crypt_method:
        if fields.crypt_method not in _ENCRYPTION:
            raise file.corrupt(f"expected encryption method 0, 1 or 2, found {fields.crypt_method}")
        raise file.unsupported(_ENCRYPTION[fields.crypt_method])
    if _LUKS in extensions:
        raise file.corrupt("there is a LUKS header, and no encryption")
    if fields.compression_type not in _COMPRESSIONS:
        raise file.unsupported(f"compression type {fields.compression_type}")
    if bool(fields.compression_type) != bool(fields.incompatible & _COMPRESSION):
        raise file.corrupt(f"compression type {fields.compression_type} contradicts the compression feature bit")
    if fields.incompatible & _EXTENDED_L2 and fields.cluster_bits not in _EXTENDED_CLUSTER_BITS:
        raise file.corrupt(f"extended L2 entries need clusters of 2^14 bytes or more, found 2^{fields.cluster_bits}")
    if len(extensions.get(BACKING_FORMAT, b"")) > _MAX_BACKING_FORMAT:
        raise file.corrupt(f"the backing format's name has more than {_MAX_BACKING_FORMAT} bytes")


def _incompatible_names(table: bytes) -> dict[int, str]:
    """Return the names that a feature name table gives to incompatible features: bit -> name, quoted."""
    whole = len(table) // _FEATURE_NAME.size * _FEATURE_NAME.size
    return {
        bit: repr(name.rstrip(b"\0").decode(errors="replace"))
        for kind, bit, name in _FEATURE_NAME.iter_unpack(table[:whole])
        if kind == 0
    }


def _check_backing_file(file: ImageFile, fields: Fields) -> None:
    offset, size = fields.backing_file_offset, fields.backing_file_size
    # An offset without a length names nothing, for QEMU too.
    if not offset or not size:
        return
    if size > min(MAX_BACKING_NAME, (1 << fields.cluster_bits) - offset):
        raise file.corrupt(f"the backing file's name has {size} bytes")
    name = file.read(offset, size, "the backing file's name").decode(errors="replace")
    raise file.unsupported(
        f"a backing file ({name!r})", hint="merge the chain into one image first: qemu-img convert does it"
    )


def _check_tables(file: ImageFile, fields: Fields, header: Header) -> None:
    if fields.refcount_order > _MAX_REFCOUNT_ORDER:
        raise file.corrupt(f"expected refcounts of at most 64 bits, found 2^{fields.refcount_order}")
    if not fields.refcount_table_clusters:
        raise file.corrupt("there is no refcount table")
    refcount_size = fields.refcount_table_clusters << fields.cluster_bits
    _check_table(file, header, "refcount table", fields.refcount_table_offset, refcount_size, _MAX_REFCOUNT_TABLE)
    _check_table(file, header, "L1 table", fields.l1_table_offset, fields.l1_size * 8, MAX_L1)
    needed = -(-fields.size // (header.l2_entries << header.cluster_bits))
    if fields.l1_size < needed:
        raise file.corrupt(f"expected an L1 table of {needed} entries or more, found {fields.l1_size}")
    snapshots_size = fields.nb_snapshots * _SNAPSHOT.size
    snapshots_limit = _MAX_SNAPSHOTS * _SNAPSHOT.size
    _check_table(file, header, "snapshot table", fields.snapshots_offset, snapshots_size, snapshots_limit)
    _check_snapshots(file, fields.nb_snapshots, fields.snapshots_offset)


def _check_table(file: ImageFile, header: Header, what: str, offset: int, size: int, limit: int) -> None:
    if size > limit:
        raise file.corrupt(f"the {what} has {size} bytes, more than the {limit} that the format allows")
    if offset % header.cluster_size or offset > _MAX_OFFSET:
        raise file.corrupt(f"the {what} is not at a cluster's start but at byte {offset}")
    if size and offset + size > file.file_size:
        raise file.truncated(f"the {what}", offset + size)


def _check_snapshots(file: ImageFile, count: int, offset: int) -> None:
    """Check the snapshot table as far as QEMU does before it opens an image that has one."""
    at = offset
    for _ in range(count):
        at = -(-at // 8) * 8
        snapshot = _SNAPSHOT.unpack(file.read(at, _SNAPSHOT.size, "the snapshot table"))
        id_size, name_size, extra = snapshot[2], snapshot[3], snapshot[8]
        if extra > _MAX_SNAPSHOT_EXTRA:
            raise file.corrupt(f"a snapshot has {extra} bytes of extra data")
        at += _SNAPSHOT.size + extra + id_size + name_size
        if at - offset > _MAX_SNAPSHOT_TABLE:
            raise file.corrupt(f"the snapshot table has more than {_MAX_SNAPSHOT_TABLE} bytes")
    if count and at > file.file_size:
        raise file.truncated("the snapshot table", at)
