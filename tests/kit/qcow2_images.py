"""Small QCOW2 images for tests: by hand, to the bit, or by QEMU's tools."""

from __future__ import annotations

import random
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMPRESSED = 1 << 62
COPIED = 1 << 63
ZERO = 1


def run(*command: object) -> None:
    """Run a tool, without its chatter."""
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def content(size: int, seed: int = 0) -> bytes:
    """Return disk content in which runs of zeros, of text and of noise alternate, none aligned to anything."""
    noise = random.Random(seed)
    pieces: list[bytes] = []
    left = size
    while left > 0:
        length = min(left, noise.randrange(1, 50_000))
        kind = noise.randrange(3)
        pieces.append(
            bytes(length) if kind == 0 else b"larder " * (length // 7 + 1) if kind == 1 else noise.randbytes(length)
        )
        pieces[-1] = pieces[-1][:length]
        left -= length
    return b"".join(pieces)


def build(
    *,
    version: int = 3,
    cluster_bits: int = 16,
    size: int = 1 << 20,
    l1: list[int] | None = None,
    l2: dict[int, int] | None = None,
    data: bytes = b"",
    extensions: bytes = b"",
    header_length: int = 112,
    compression_type: int = 0,
    incompatible: int = 0,
    autoclear: int = 0,
    **fields: int,
) -> bytes:
    """Return an image: header, refcount table, L1 and L2 in clusters 0 to 3, `data` from cluster 4 on.

    `l2` gives entries of 8 bytes by index; `fields` replace header fields by their names in the specification.
    """
    cluster = 1 << cluster_bits
    header = {
        "magic": 0x514649FB,
        "version": version,
        "backing_file_offset": 0,
        "backing_file_size": 0,
        "cluster_bits": cluster_bits,
        "size": size,
        "crypt_method": 0,
        "l1_size": -(-size // (cluster // 8 * cluster)),
        "l1_table_offset": 2 * cluster,
        "refcount_table_offset": cluster,
        "refcount_table_clusters": 1,
        "nb_snapshots": 0,
        "snapshots_offset": 0,
    }
    tail = {
        "incompatible": incompatible,
        "compatible": 0,
        "autoclear": autoclear,
        "refcount_order": 4,
        "header_length": header_length,
    }
    assert fields.keys() <= header.keys() | tail.keys()
    header |= {name: value for name, value in fields.items() if name in header}
    tail |= {name: value for name, value in fields.items() if name in tail}
    first = struct.pack(">IIQIIQIIQQIIQ", *header.values())
    if version >= 3:
        first += struct.pack(">QQQIIB", *tail.values(), compression_type)
        first = first.ljust(header_length, b"\0")
    first += extensions
    table = bytearray(cluster)
    for index, entry in (l2 or {}).items():
        struct.pack_into(">Q", table, index * 8, entry)
    entries = l1 if l1 is not None else [3 * cluster | COPIED]
    l1_table = struct.pack(f">{len(entries)}Q", *entries)
    return b"".join([part.ljust(cluster, b"\0") for part in (first, b"", l1_table, bytes(table))]) + data


def extension(kind: int, payload: bytes) -> bytes:
    """Return a header extension."""
    return struct.pack(">II", kind, len(payload)) + payload.ljust(-(-len(payload) // 8) * 8, b"\0")


def create(path: Path, size: int | str, *options: str) -> Path:
    """Create an empty image with qemu-img."""
    run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", ",".join(options)] if options else []), path, size)
    return path


def write(path: Path, *commands: str) -> None:
    """Change an image with qemu-io."""
    run("qemu-io", *(word for command in commands for word in ("-c", command)), path)


def qemu_raw(path: Path) -> bytes | None:
    """Return what qemu-img converts an image to; None where it refuses."""
    raw = path.with_name(path.name + ".qemu")
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(raw)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    try:
        return raw.read_bytes() if done.returncode == 0 else None
    finally:
        raw.unlink(missing_ok=True)
