"""The disk formats that are read, besides RAW; a new one is a package of this one, a row of `FORMATS` and its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io import probe
from recipes.formats.io.sparse import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .image import DiskImage


class Format(NamedTuple):
    """How a disk format is read. Each function imports its package where it is needed."""

    #: From a file that is open for reading, its path for errors, and the most bytes that the guest's disk may have.
    open: Callable[[int, Path, int], DiskImage]
    #: From the first bytes of a file, `probe.HEAD` of them where there are as many, to the bytes of the guest's disk as
    #: the file claims them; None where it does not say.
    claimed_size: Callable[[bytes], int | None]


def _open_qcow2(fd: int, path: Path, max_virtual_size: int) -> DiskImage:
    from .qcow2.image import Qcow2

    return Qcow2(fd, path, max_virtual_size=max_virtual_size)


def _qcow2_size(head: bytes) -> int | None:
    from .qcow2.header import claimed_size

    return claimed_size(head)


#: By the names that `recipes.formats.io.probe` gives them.
FORMATS: dict[str, Format] = {
    "qcow2": Format(_open_qcow2, _qcow2_size),
}


def readable() -> str:
    """Return the formats that a disk is read from, as messages have them."""
    return ", ".join(sorted([*FORMATS, "raw"]))


def virtual_size(name: str, head: bytes, size: int | None) -> int | None:
    """Return the bytes of the virtual disk that a file in the format `name` claims; None where it is not known.

    `head` is its beginning, `size` the number of its bytes as far as that is known.
    """
    if name in probe.RAW_FORMATS:
        return None if size is None else -(-size // SECTOR) * SECTOR
    return FORMATS[name].claimed_size(head) if name in FORMATS else None
