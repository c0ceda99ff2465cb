"""btrfs by hand: a volume in memory with these nodes in it, for what reads one structure of it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import google_crc32c

from recipes.formats.fs.btrfs.layout import (
    CHUNK,
    CHUNK_BODY,
    DIR_ENTRY,
    EXTENT_HEAD,
    INODE_BODY,
    ITEM,
    KEY,
    MAGIC,
    NODE,
    POINTER,
    STRIPE,
    SUPERBLOCK_OFFSET,
    SUPERBLOCK_SIZE,
    SYSTEM_CHUNKS,
    Superblock,
)
from recipes.formats.fs.btrfs.nodes import Nodes, Pointer
from recipes.formats.fs.btrfs.volume import Volume
from recipes.formats.io.source import BytesSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from recipes.formats.fs.btrfs.nodes import Key

#: Bytes of a node and of a sector, of the device, and of the only chunk. Its addresses begin at `LOGICAL`, its copies
#: at `FIRST` and `SECOND` of the device.
SIZE = 4096
DEVICE = 1 << 20
LENGTH = 256 << 10
LOGICAL = 1 << 20
FIRST, SECOND = 256 << 10, 640 << 10
FSID = b"f" * 16
_SUPERBLOCK = struct.Struct("<32s16sQQ8sQQQQQQQQQIIIIIQQQQHBBBQQ82x256s16x16s")


def chunk_body(*stripes: tuple[int, int], length: int = LENGTH, flags: int = 1 << 5, count: int | None = None) -> bytes:
    """Return the content of a chunk whose copies are at these (device, offset); DUP unless `flags` say otherwise."""
    head = CHUNK_BODY.pack(length, 2, 65536, flags, 4096, 4096, 4096, len(stripes) if count is None else count, 0)
    return head + b"".join(STRIPE.pack(device, offset, b"u" * 16) for device, offset in stripes)


SYSTEM = KEY.pack(256, CHUNK, LOGICAL) + chunk_body((1, FIRST), (1, SECOND))


def superblock(*, chunks: bytes = SYSTEM, summed: bool = True, **fields: Any) -> bytes:
    """Return a superblock, of whose fields these have other values."""
    plain = Superblock(
        *(b"", FSID, SUPERBLOCK_OFFSET, 0, MAGIC, 1, LOGICAL, LOGICAL + SIZE, 0, 0, DEVICE, 0, 6, 1, SIZE, SIZE, SIZE),
        *(SIZE, len(chunks), 1, 0, 0, 0, 0, 0, 0, 0, 1, DEVICE, b"", b""),
    )._replace(**fields)
    raw = bytearray(_SUPERBLOCK.pack(*plain).ljust(SUPERBLOCK_SIZE, b"\0"))
    raw[SYSTEM_CHUNKS : SYSTEM_CHUNKS + len(chunks)] = chunks
    if summed:
        raw[:4] = google_crc32c.value(bytes(raw[32:])).to_bytes(4, "little")
    return bytes(raw)


def volume(
    data: Mapping[int, bytes] | None = None, *, second: Mapping[int, bytes] | None = None, **fields: Any
) -> Volume:
    """Return a volume with these bytes at these logical addresses; `second` is what the second copy has instead."""
    image = bytearray(DEVICE)
    image[SUPERBLOCK_OFFSET : SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE] = superblock(**fields)
    for start, pieces in ((FIRST, data or {}), (SECOND, (data or {}) if second is None else second)):
        for address, piece in pieces.items():
            at = start + address - LOGICAL
            image[at : at + len(piece)] = piece
    return Volume(BytesSource(bytes(image), "disk"))


def _sealed(raw: bytes) -> bytes:
    raw = raw.ljust(SIZE, b"\0")
    crc: int = google_crc32c.value(raw[32:])
    return crc.to_bytes(4, "little").ljust(32, b"\0") + raw[32:]


def head(address: int, count: int, level: int = 0, *, generation: int = 1, fsid: bytes = FSID) -> bytes:
    """Return the head of a node without its checksum."""
    return NODE.pack(b"", fsid, address, 0, b"", generation, 5, count, level)


def leaf(address: int, items: Iterable[tuple[Key, bytes]], **more: Any) -> bytes:
    """Return the leaf at `address` with these items, their data from the end on."""
    heads, bodies, end = b"", b"", SIZE - NODE.size
    count = 0
    for key, body in items:
        end -= len(body)
        heads += ITEM.pack(*key, end, len(body))
        bodies = body + bodies
        count += 1
    return _sealed((head(address, count, **more) + heads).ljust(SIZE - len(bodies), b"\0") + bodies)


def inner(address: int, level: int, children: Iterable[tuple[Key, int]], **more: Any) -> bytes:
    """Return an inner node with these first keys and children."""
    packed = [POINTER.pack(*key, child, 1) for key, child in children]
    return _sealed(head(address, len(packed), level, **more) + b"".join(packed))


def sealed(raw: bytes) -> bytes:
    """Return a node with its checksum mended."""
    return _sealed(raw)


def pointer(address: int = LOGICAL, level: int = 0, first: Key | None = None) -> Pointer:
    return Pointer(address, level, 1, first)


def nodes(*made: bytes, **more: Any) -> Nodes:
    """Return what reads these nodes, one behind the other from `LOGICAL` on."""
    return Nodes(volume({LOGICAL + SIZE * index: node for index, node in enumerate(made)}, **more))


def inode_body(mode: int, size: int = 0, *, links: int = 1, flags: int = 0, device: int = 0, ns: int = 0) -> bytes:
    return INODE_BODY.pack(size, links, 7, 8, mode, device, flags, ns // 10**9, ns % 10**9)


def entry_body(name: bytes, number: int, kind: int = 1, *, data: bytes = b"", item: int = 1) -> bytes:
    return DIR_ENTRY.pack(number, item, 0, 1, len(data), len(name), kind) + name + data


def inline_body(data: bytes, *, ram: int | None = None, codec: int = 0, encryption: int = 0) -> bytes:
    return EXTENT_HEAD.pack(1, len(data) if ram is None else ram, codec, encryption, 0, 0) + data
