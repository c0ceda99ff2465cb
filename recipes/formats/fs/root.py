"""The root file system of a RAW disk, as a `Tree`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import StoreError, UnsupportedFeature
from recipes.formats.io.sparse import data_size
from recipes.formats.tree.tree import Tree, show
from recipes.progress import SILENT_METER

from . import partitions
from . import table as filesystems
from .ext4.read import Ext4

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.progress import Meter

    from .partitions import Partition

#: Types of root partitions that larder makes use of (UAPI Group, Discoverable Partitions Specification): x86-64, arm64.
ROOT_TYPES = frozenset({"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae"})

#: What every distribution's root has, the one or the other (os-release(5)).
_OS_RELEASE = (b"etc/os-release", b"usr/lib/os-release")

#: Partitions that are looked into: thousands may overlap, and each cost what the largest directory costs.
_MAX_TRIED = 16

#: What firmware, boot loaders and swapping use.
_NEVER_ROOT = frozenset({"vfat", "exfat", "swap", "iso9660"})

_HINT = 'use upstream\'s root file system archive (kind = "rootfs") or its container image (kind = "oci") instead'


class _Candidate(NamedTuple):
    partition: Partition
    #: What is on it, as `filesystems.detect` names it.
    filesystem: str | None

    def __str__(self) -> str:
        partition = self.partition
        what = f"partition {partition.number}" if partition.number else "the whole disk"
        details = [self.filesystem or "nothing that is known", f"{partition.size} bytes"]
        if partition.type:
            details.append(f"type {partition.type}")
        if partition.label:
            details.append(f"called {show(partition.label.encode())}")
        return f"{what} ({', '.join(details)})"


def load(path: Path, *, stored: int | None = None, meter: Meter = SILENT_METER) -> Tree:
    """Return the root file system of the RAW disk at `path`. The tree keeps the file open: use it as a context manager.

    `stored` are the bytes that it was made of, where that is known: by default its own, without holes. `meter` is told
    that it goes on, see `Tree.told`.

    The root is, in this order: the file system of a disk without a partition table; the first partition with the type
    of a root partition and with a file system that is read (ext2, ext3, ext4); the largest of those with such a file
    system and ``/etc/os-release`` or ``/usr/lib/os-release``. Where the only partitions with the type have another
    file system, none without the type is taken for them.

    Errors: `UnsupportedFeature`, which names the partitions with their file systems; `CorruptImage`;
    `LimitExceeded`; `StoreError` for what the operating system refuses.
    """
    with ExitStack() as undo:
        try:
            tree = undo.enter_context(Tree(data_size(path) if stored is None else stored))
            file = tree.keep(path.open("rb", buffering=0))
            with tree.told(meter):
                _root(file.fileno(), path).fill(tree)
        except OSError as error:
            raise StoreError(f"{error.filename or path}: {error.strerror}") from error
        undo.pop_all()
    return tree


def _root(fd: int, path: Path) -> Ext4:
    size = os.fstat(fd).st_size
    found = [
        _Candidate(partition, filesystems.detect(fd, partition.start, partition.size))
        for partition in partitions.read(fd, size, str(path))
    ]
    sure = [each for each in found if each.partition.type in ROOT_TYPES or each.partition.table == "none"]
    for candidate in sure:
        if candidate.filesystem in filesystems.EXT:
            return _open(fd, path, candidate)
    if not sure:
        # The largest first: where it cannot be read, that is better said than a smaller one taken for it.
        readable = [each for each in found if each.filesystem in filesystems.EXT]
        for candidate in sorted(readable, key=lambda each: -each.partition.size)[:_MAX_TRIED]:
            filesystem = _open(fd, path, candidate)
            if any(filesystem.exists(name) for name in _OS_RELEASE):
                return filesystem
    raise _refused(path, found)


def _open(fd: int, path: Path, candidate: _Candidate) -> Ext4:
    partition = candidate.partition
    name = f"{path}: partition {partition.number}" if partition.number else str(path)
    return Ext4(fd, partition.start, partition.size, name)


def _refused(path: Path, found: list[_Candidate]) -> UnsupportedFeature:
    listing = "; ".join(map(str, found)) or "no partition"
    # Those that a root can be on, or in.
    names = sorted({each.filesystem for each in found if each.filesystem} - filesystems.EXT - _NEVER_ROOT)
    if names:
        verb = "is" if len(names) == 1 else "are"
        return UnsupportedFeature(
            f"{path}: {' and '.join(names)} {verb} not supported yet for a root file system: {listing}", hint=_HINT
        )
    return UnsupportedFeature(
        f"{path}: expected a partition with the type of a root partition (GPT), or one with ext4 and /etc/os-release; "
        f"found {listing}",
        hint=_HINT,
    )
