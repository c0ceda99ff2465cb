"""The disk formats that are read, besides RAW; a new one is a package of this one, a row of `FORMATS` and its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io import probe
from recipes.formats.io.sparse import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .image import DiskImage

    #: Returns so many bytes at an offset, fewer if they are not at hand.
    Read = Callable[[int, int], bytes]


class Format(NamedTuple):
    """How a disk format is read. Each function imports its package where it is needed."""

    #: From a file that is open for reading, its path for errors, and the most bytes that the guest's disk may have.
    open: Callable[[int, Path, int], DiskImage]
    #: From what reads a few bytes of a file, and how many it has, if that is known, to the bytes of the guest's disk as
    #: the file claims them; None if it does not say.
    claimed_size: Callable[[Read, int | None], int | None]


def _open_qcow2(fd: int, path: Path, max_virtual_size: int) -> DiskImage:
    from .qcow2.image import Qcow2

    return Qcow2(fd, path, max_virtual_size=max_virtual_size)


def _qcow2_size(read: Read, size: int | None) -> int | None:
    from .qcow2.header import claimed_size

    return claimed_size(read, size)


def _open_vhd(fd: int, path: Path, max_virtual_size: int) -> DiskImage:
    from .vhd.image import Vhd

    return Vhd(fd, path, max_virtual_size=max_virtual_size)


def _vhd_size(read: Read, size: int | None) -> int | None:
    from .vhd.footer import claimed_size

    return claimed_size(read, size)


def _open_vdi(fd: int, path: Path, max_virtual_size: int) -> DiskImage:
    from .vdi.image import Vdi

    return Vdi(fd, path, max_virtual_size=max_virtual_size)


def _vdi_size(read: Read, size: int | None) -> int | None:
    from .vdi.header import claimed_size

    return claimed_size(read, size)


def _open_vhdx(fd: int, path: Path, max_virtual_size: int) -> DiskImage:
    from .vhdx.image import Vhdx

    return Vhdx(fd, path, max_virtual_size=max_virtual_size)


def _vhdx_size(read: Read, size: int | None) -> int | None:
    from .vhdx.header import claimed_size

    return claimed_size(read, size)


def _open_vmdk(fd: int, path: Path, max_virtual_size: int) -> DiskImage:
    from .vmdk.image import Vmdk

    return Vmdk(fd, path, max_virtual_size=max_virtual_size)


def _vmdk_size(read: Read, size: int | None) -> int | None:
    from .vmdk.header import claimed_size

    return claimed_size(read, size)


#: By the names that `recipes.formats.io.probe` gives them.
FORMATS: dict[str, Format] = {
    "qcow2": Format(_open_qcow2, _qcow2_size),
    "vdi": Format(_open_vdi, _vdi_size),
    "vhd": Format(_open_vhd, _vhd_size),
    "vhdx": Format(_open_vhdx, _vhdx_size),
    "vmdk": Format(_open_vmdk, _vmdk_size),
}


def readable() -> str:
    """Return the formats that a disk is read from, as messages have them."""
    return ", ".join(sorted([*FORMATS, "raw"]))


def virtual_size(name: str, read: Read, size: int | None) -> int | None:
    """Return the bytes of the virtual disk that a file in the format `name` claims; None where it is not known.

    `read` returns so many bytes of it at an offset, as far as they are at hand; `size` is the number of its bytes, as
    far as that is known.
    """
    if name in probe.RAW_FORMATS:
        return None if size is None else -(-size // SECTOR) * SECTOR
    return FORMATS[name].claimed_size(read, size) if name in FORMATS else None


def reader(data: bytes) -> Read:
    """Return what reads the beginning of a file of which no more than `data` is at hand."""
    return lambda offset, count: data[offset : offset + count]
