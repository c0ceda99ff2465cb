"""Disks and what becomes of them: blkhash by its description, damage as a bad disk does it, a small QCOW2."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from blake3 import blake3

from . import qcow2_images

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
CLUSTER = 1 << 16


def damage(path: Path) -> None:
    """Change a byte in the way of a bad disk: size, mode and mtime stay."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(min(MiB, before.st_size // 2))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def reference(data: bytes) -> str:
    """The construction, read off its description, one block after the other."""
    outer = blake3()
    for start in range(0, len(data), 65536):
        outer.update(blake3(data[start : start + 65536]).digest())
    outer.update(len(data).to_bytes(8, "little"))
    return outer.hexdigest()


def qcow2(seed: str, *, zstd: bool = False) -> tuple[bytes, bytes]:
    """Return a QCOW2 with some data, and its RAW."""
    data = hashlib.shake_256(seed.encode()).digest(CLUSTER)
    entries = {3: 4 * CLUSTER | qcow2_images.COPIED}
    wrapper = qcow2_images.build(
        l2=entries, data=data, incompatible=8 if zstd else 0, compression_type=1 if zstd else 0
    )
    raw = bytearray(1 << 20)
    raw[3 * CLUSTER : 4 * CLUSTER] = data
    return wrapper, bytes(raw)
