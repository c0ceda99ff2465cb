"""The root file system of a RAW disk, as a `Tree`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import UnsupportedFeature
from recipes.formats.disk.guest import Guest
from recipes.formats.disk.table import FORMATS
from recipes.formats.io.files import os_errors
from recipes.formats.io.probe import probe
from recipes.formats.io.source import FileSource, Window
from recipes.formats.io.sparse import data_size
from recipes.formats.tree.tree import Tree, show
from recipes.progress import SILENT_METER
from recipes.units import MAX_SIZE

from . import lvm, partitions
from . import table as filesystems

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.io.source import Source
    from recipes.progress import Meter

    from .filesystem import FileSystem
    from .lvm import Volume
    from .partitions import Partition

#: Types of root partitions that larder makes use of (UAPI Group, Discoverable Partitions Specification): x86-64, arm64.
ROOT_TYPES = frozenset({"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae"})

#: What every distribution's root has, the one or the other (os-release(5)).
_OS_RELEASE = (b"etc/os-release", b"usr/lib/os-release")

#: Partitions that are looked into: thousands may overlap, and each cost what the largest directory costs.
_MAX_TRIED = 16

#: As `filesystems.detect` names what holds logical volumes.
_PHYSICAL_VOLUME = "LVM2"

#: What firmware, boot loaders and swapping use, and what is no file system but holds some.
_NO_ROOT = frozenset({"vfat", "exfat", "swap", "iso9660", _PHYSICAL_VOLUME})

_HINT = 'use upstream\'s root file system archive (kind = "rootfs") or its container image (kind = "oci") instead'


class _Candidate(NamedTuple):
    #: Where it is, for messages.
    place: str
    #: What is on it, as `filesystems.detect` names it; for a volume that is not read, what LVM calls it.
    filesystem: str | None
    #: None for a volume that is not read.
    source: Source | None
    #: Whether the partition table says that a root is here.
    sure: bool
    #: What else is known of it, for messages.
    details: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place} ({', '.join([self.filesystem or 'nothing that is known', *self.details])})"


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

    Errors: `UnsupportedFeature`, which names the partitions with their file systems; `CorruptImage`;
    `LimitExceeded`; `StoreError` for what the operating system refuses.
    """
    with ExitStack() as undo:
        with os_errors(path):
            tree = undo.enter_context(Tree(data_size(path) if stored is None else stored))
            file = tree.keep(path.open("rb", buffering=0))
            with tree.told(meter):
                _root(_disk(file.fileno(), path, limit)).fill(tree)
        undo.pop_all()
    return tree


def _disk(fd: int, path: Path, limit: int) -> Source:
    name = probe(path)
    return Guest(FORMATS[name].open(fd, path, limit), str(path)) if name in FORMATS else FileSource(fd, str(path))


def _root(disk: Source) -> FileSystem:
    found = _candidates(disk)
    sure = [each for each in found if each.sure]
    for candidate in sure:
        if candidate.filesystem in filesystems.READERS:
            return _open(candidate)
    if not sure:
        # The largest first: where it cannot be read, that is better said than a smaller one taken for it.
        readable = [each for each in found if each.filesystem in filesystems.READERS]
        for candidate in sorted(readable, key=lambda each: -_source(each).size)[:_MAX_TRIED]:
            filesystem = _open(candidate)
            if any(filesystem.exists(name) for name in _OS_RELEASE):
                return filesystem
    raise _refused(disk.name, found)


def _candidates(disk: Source) -> list[_Candidate]:
    """Return the partitions of `disk`, then the logical volumes on them."""
    found = []
    physical = []
    for partition in partitions.read(disk):
        window = _window(disk, partition)
        filesystem = filesystems.detect(window)
        sure = partition.type in ROOT_TYPES or partition.table == "none"
        if filesystem == _PHYSICAL_VOLUME:
            physical.append(window)
            # Whatever the type says, the root is in one of its volumes.
            sure = False
        found.append(_partition(partition, filesystem, window, sure=sure))
    if physical:
        found += [_volume(volume) for volume in lvm.volumes(physical)]
    return found


def _partition(partition: Partition, filesystem: str | None, window: Source, *, sure: bool) -> _Candidate:
    details = [f"{partition.size} bytes"]
    if partition.type:
        details.append(f"type {partition.type}")
    if partition.label:
        details.append(f"called {show(partition.label.encode())}")
    place = f"partition {partition.number}" if partition.number else "the whole disk"
    return _Candidate(place, filesystem, window, sure, tuple(details))


def _volume(volume: Volume) -> _Candidate:
    place = f"volume {show(volume.name.encode())}"
    if volume.source is None:
        return _Candidate(place, f"LVM2 {volume.why_not}", None, sure=False, details=())
    return _Candidate(
        place, filesystems.detect(volume.source), volume.source, sure=False, details=(f"{volume.size} bytes",)
    )


def _open(candidate: _Candidate) -> FileSystem:
    assert candidate.filesystem is not None, "what is not known is no candidate"
    return filesystems.READERS[candidate.filesystem](_source(candidate))


def _source(candidate: _Candidate) -> Source:
    assert candidate.source is not None, "what is not read is no candidate"
    return candidate.source


def _window(disk: Source, partition: Partition) -> Window:
    name = f"{disk.name}: partition {partition.number}" if partition.number else disk.name
    return Window(disk, partition.start, partition.size, name)


def _refused(name: str, found: list[_Candidate]) -> UnsupportedFeature:
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
