"""The root file system of a RAW disk, as a `Tree`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from recipes.errors import UnsupportedFeature
from recipes.formats.disk.guest import Guest
from recipes.formats.disk.table import FORMATS
from recipes.formats.io.files import os_errors
from recipes.formats.io.probe import probe
from recipes.formats.io.source import FileSource
from recipes.formats.io.sparse import data_size
from recipes.formats.tree.tree import Tree
from recipes.progress import SILENT_METER
from recipes.units import MAX_SIZE

from . import mounts
from . import table as filesystems
from .devices import PHYSICAL_VOLUME, devices
from .mounts import Root

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.io.source import Source
    from recipes.progress import Meter

    from .devices import Device

#: What every distribution's root has, the one or the other (os-release(5)).
_OS_RELEASE = (b"etc/os-release", b"usr/lib/os-release")

#: Partitions that are looked into: thousands may overlap, and each cost what the largest directory costs.
_MAX_TRIED = 16

#: What firmware, boot loaders and swapping use, and what is no file system but holds some.
_NO_ROOT = frozenset({"vfat", "exfat", "swap", "iso9660", PHYSICAL_VOLUME})

_HINT = 'use upstream\'s root file system archive (kind = "rootfs") or its container image (kind = "oci") instead'


def load(path: Path, *, stored: int | None = None, limit: int = MAX_SIZE, meter: Meter = SILENT_METER) -> Tree:
    """Return the root file system of the disk at `path`. The tree keeps the file open: use it as a context manager.

    The disk is RAW, or an image of at most `limit` bytes in a format that is read: that is not converted, only what is
    looked at is decompressed.

    `stored` are the bytes that it was made of, where that is known: by default its own, without holes. `meter` is told
    that it goes on, see `Tree.told`.

    The root is, in this order: the file system of a disk without a partition table; the first partition with the type
    of a root partition and with a file system that is read (`filesystems.READERS`); the largest of those with such a
    file system and ``/etc/os-release`` or ``/usr/lib/os-release``, the logical volumes of LVM2 among them. Where the
    only partitions with the type have another file system, none without the type is taken for them.

    What the root's fstab mounts from the same disk is part of it, see `mounts.mount`.

    Errors: `UnsupportedFeature`, which names the partitions with their file systems; `CorruptImage`;
    `LimitExceeded`; `StoreError` for what the operating system refuses.
    """
    with ExitStack() as undo:
        with os_errors(path):
            tree = undo.enter_context(Tree(data_size(path) if stored is None else stored))
            file = tree.keep(path.open("rb", buffering=0))
            with tree.told(meter):
                disk = _disk(file.fileno(), path, limit)
                found = devices(disk)
                root = _root(found, disk)
                root.filesystem.fill(tree)
                mounts.mount(tree, root, found)
        undo.pop_all()
    return tree


def _disk(fd: int, path: Path, limit: int) -> Source:
    name = probe(path)
    return Guest(FORMATS[name].open(fd, path, limit), str(path)) if name in FORMATS else FileSource(fd, str(path))


def _root(found: list[Device], disk: Source) -> Root:
    sure = [each for each in found if each.sure]
    for device in sure:
        if device.readable:
            return Root(device, device.open())
    if not sure:
        # The largest first: where it cannot be read, that is better said than a smaller one taken for it.
        readable = [each for each in found if each.readable]
        for device in sorted(readable, key=lambda each: -each.size)[:_MAX_TRIED]:
            filesystem = device.open()
            if any(filesystem.exists(name) for name in _OS_RELEASE):
                return Root(device, filesystem)
    raise _refused(disk.name, found)


def _refused(name: str, found: list[Device]) -> UnsupportedFeature:
    listing = "; ".join(map(str, found)) or "no partition"
    # Those that a root can be on, or in.
    names = sorted({each.filesystem for each in found if each.filesystem} - filesystems.READERS.keys() - _NO_ROOT)
    if names:
        verb = "is" if len(names) == 1 else "are"
        return UnsupportedFeature(
            f"{name}: {' and '.join(names)} {verb} not supported yet for a root file system: {listing}", hint=_HINT
        )
    return UnsupportedFeature(
        f"{name}: expected a partition with the type of a root partition (GPT), or one with /etc/os-release and a file "
        f"system of {', '.join(filesystems.READERS)}; found {listing}",
        hint=_HINT,
    )
