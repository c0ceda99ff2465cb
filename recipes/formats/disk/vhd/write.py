"""A fixed VHD, as Azure takes it: a RAW disk of whole MiB, and a footer behind it.

Specification: Microsoft, Virtual Hard Disk Image Format Specification, version 1.0 (2006), "Hard Disk Footer Format".
The creator and the geometry are those that make every QEMU take the current size for the disk's (block/vpc.c): it
multiplies the geometry otherwise.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID

from recipes.errors import LimitExceeded
from recipes.formats.io.files import disk_errors
from recipes.units import format_size

from .footer import COOKIE, FIXED, FOOTER, FOOTER_CHECKSUM, FOOTER_SIZE, checksum

if TYPE_CHECKING:
    from pathlib import Path

#: What Azure wants the disk to be a multiple of.
UNIT = 1 << 20
#: Of a fixed disk: the most that its geometry is said to have, and what Hyper-V takes.
MAX_SIZE = 2040 << 30
_FEATURES, _VERSION, _NO_HEADER = 2, 0x10000, (1 << 64) - 1
_CREATOR, _SYSTEM = b"qem2", b"Wi2k"
_CYLINDERS, _HEADS, _SECTORS = 65535, 16, 255


def disk_size(size: int) -> int:
    """Return the bytes of the disk that one of `size` bytes becomes.

    >>> disk_size(1), disk_size(1 << 20)
    (1048576, 1048576)
    """
    return -(-size // UNIT) * UNIT


def finish(path: Path, identity: bytes, *, durable: bool = True) -> None:
    """Make the RAW disk at `path` a fixed VHD, in place; its UUID follows from `identity`.

    Equal disks give equal files. Errors: `LimitExceeded` for a disk of more than `MAX_SIZE`; `NoSpace`.
    """
    size = disk_size(path.stat().st_size)
    if size > MAX_SIZE:
        raise LimitExceeded(f"a VHD has at most {format_size(MAX_SIZE)}, and this disk has {format_size(size)}")
    with disk_errors(path), path.open("r+b", buffering=0) as file:
        os.ftruncate(file.fileno(), size)
        os.pwrite(file.fileno(), footer(size, identity), size)
        if durable:
            os.fsync(file.fileno())


def quick_identity(path: Path) -> bytes:
    """Return what tells the RAW disk at `path` from most others without reading it: its size, and its first MiB.

    That holds the partition table, whose ids are random.
    """
    with path.open("rb") as file:
        return path.stat().st_size.to_bytes(8, "big") + file.read(UNIT)


def footer(size: int, identity: bytes) -> bytes:
    """Return the footer of a fixed disk of `size` bytes. It has no time: 0 is the first second of 2000."""
    fields = (COOKIE, _FEATURES, _VERSION, _NO_HEADER, 0, _CREATOR, _VERSION, _SYSTEM, size, size)
    data = FOOTER.pack(*fields, _CYLINDERS, _HEADS, _SECTORS, FIXED, 0)
    data += UUID(bytes=sha256(identity).digest()[:16], version=5).bytes
    made = bytearray(data.ljust(FOOTER_SIZE, b"\0"))
    made[FOOTER_CHECKSUM] = checksum(bytes(made), FOOTER_CHECKSUM).to_bytes(4, "big")
    return bytes(made)
