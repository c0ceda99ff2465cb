"""Logs of XFS that were not written back: what replays them, and what is held against Linux."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from recipes.formats.fs.xfs.log import Log
from recipes.formats.fs.xfs.volume import Disk, Volume

from .trees import differences
from .xfs_images import (
    copy,
    facts,
    kernel_facts,
    mounted,
    opened,
    xfs_db,
)

if TYPE_CHECKING:
    from pathlib import Path


def records(image: Path) -> int:
    """Return how many records there are to be replayed."""
    with opened(image) as source:
        log_ = Log(Volume(Disk(source)))
        where = log_.dirty()
        return sum(1 for _ in log_.records(*where)) if where else 0


def is_replayed(image: Path) -> None:
    """Assert that the log is dirty, that we read what Linux makes of it, and that the image stays as it is."""
    before = image.stat().st_mtime_ns
    assert records(image)
    found = facts(image)
    assert image.stat().st_mtime_ns == before
    expected = kernel_facts(copy(image, image.with_name("replayed")), "rw")
    assert differences(found, expected) == []


def inode_and_block(image: Path, name: str) -> tuple[int, int]:
    """Return the inode of a file, and its first block."""
    with mounted(image, "ro") as folder:
        number = (folder / name).stat().st_ino
    said = xfs_db(image, f"inode {number}", "bmap")
    return number, int(said.split("block ")[1].split()[0]) if "block " in said else 0


def buffer(sector: int, sectors: int, chunks: dict[int, bytes], flags: int = 0) -> list[bytes]:
    bits = sum(1 << chunk for chunk in chunks)
    form = struct.pack("<HHHHqI", 0x123C, 1 + len(chunks), flags, sectors, sector, 2) + struct.pack("<Q", bits)
    return [form, *chunks.values()]


def item(kind: int, size: int = 96) -> list[bytes]:
    return [struct.pack("<HHIQ", kind, 1, 0, 5).ljust(size, b"\0")]
