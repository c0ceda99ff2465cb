"""The header of a VDI, and its checks.

There is no specification but VirtualBox's source (src/VBox/Storage/VDICore.h, VDIHEADER1PLUS). All numbers are
little-endian. QEMU (block/vdi.c, vdi_open) looks at the link and the parent and not at the type, takes what the file
lacks for zeros, and does not know the extra bytes of a block; all three are refused here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io.sparse import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.disk.file import ImageFile

MAGIC = 0xBEDA107F
#: Text, magic, version, bytes of what follows; type, flags, description; offset of the map, offset of the data;
#: cylinders, heads, sectors, bytes of a sector, unused; disk size, block size, extra bytes, blocks, allocated; UUIDs of
#: the image, its last snapshot, its link and its parent.
HEADER = struct.Struct("<64s5I256s2I5IQ4I16s16s16s16s")
BLOCK_SIZE = 1 << 20
DYNAMIC, STATIC, UNDO, DIFFERENCING = 1, 2, 3, 4
_VERSION = 1
_SIZE_OFFSET = 368
_NOBODY = bytes(16)


class Header(NamedTuple):
    """What reading the disk needs."""

    map_offset: int
    data_offset: int
    #: Bytes of the guest's disk, whole sectors.
    size: int
    blocks: int


def claimed_size(read: Callable[[int, int], bytes], _: int | None) -> int | None:
    """Return the bytes of the guest's disk that a file claims; None if its header is not at hand."""
    data = read(_SIZE_OFFSET, 8)
    return _rounded(int.from_bytes(data, "little")) if len(data) == 8 else None


def _rounded(size: int) -> int:
    return -(-size // SECTOR) * SECTOR


def read_header(file: ImageFile) -> Header:
    """Return the header of `file`. Errors: `CorruptImage`, `UnsupportedFeature`."""
    fields = HEADER.unpack(file.read(0, HEADER.size, "the header"))
    _, magic, version, _, kind, _, _, map_offset, data_offset = fields[:9]
    size, block_size, extra, blocks, _, _, _, link, parent = fields[14:]
    if magic != MAGIC:
        raise file.corrupt(f"expected the magic {MAGIC:#x}, found {magic:#x}")
    if version >> 16 != _VERSION:
        raise file.unsupported(f"version {version >> 16}.{version & 0xFFFF}", hint="larder reads version 1")
    if kind in (UNDO, DIFFERENCING) or link != _NOBODY or parent != _NOBODY:
        raise file.unsupported(
            "a parent (a differencing disk)", hint="VBoxManage clonemedium makes a disk of its own of it"
        )
    if kind not in (DYNAMIC, STATIC):
        raise file.corrupt(f"expected the type 1 (dynamic) or 2 (static), found {kind}")
    if block_size != BLOCK_SIZE or extra:
        raise file.unsupported(
            f"blocks of {block_size} and {extra} more bytes", hint="VirtualBox and QEMU write 1 MiB and 0"
        )
    if blocks * BLOCK_SIZE < size:
        raise file.corrupt(f"expected a map of {-(-size // BLOCK_SIZE)} blocks or more, found {blocks}")
    if map_offset < HEADER.size:
        raise file.corrupt(f"expected the map behind the header, found it at byte {map_offset}")
    needed = -(-size // BLOCK_SIZE)
    if map_offset + 4 * needed > file.file_size:
        raise file.truncated("the map of the blocks", map_offset + 4 * needed)
    if data_offset < map_offset + 4 * needed:
        raise file.corrupt(f"expected the data behind the map, found it at byte {data_offset}")
    return Header(map_offset, data_offset, _rounded(size), needed)
