"""The block devices of a disk: its partitions, and the logical volumes on them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

from recipes.formats.io.source import Window
from recipes.formats.tree.tree import show

from . import lvm, partitions
from . import table as filesystems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.formats.io.source import Source
    from recipes.formats.tree.tree import Node, Tree

    from .btrfs import Btrfs
    from .filesystem import FileSystem
    from .lvm import Volume
    from .partitions import Partition

#: Types of root partitions that larder makes use of (UAPI Group, Discoverable Partitions Specification): x86-64, arm64.
ROOT_TYPES = frozenset({"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae"})

#: As `filesystems.detect` names what holds logical volumes.
PHYSICAL_VOLUME = "LVM2"


class Device(NamedTuple):
    """A partition or a logical volume."""

    #: What is on it, as `filesystems.detect` names it; for a volume that is not read, what LVM calls it.
    filesystem: str | None
    #: None for a volume that is not read.
    source: Source | None
    #: None for a volume.
    partition: Partition | None
    #: ``group/volume``, or nothing for a partition.
    volume: str = ""

    @property
    def sure(self) -> bool:
        """Whether the partition table says that a root is here; of physical volumes it says nothing."""
        partition = self.partition
        return (
            partition is not None
            and (partition.type in ROOT_TYPES or partition.table == "none")
            and self.filesystem != PHYSICAL_VOLUME
        )

    @property
    def readable(self) -> bool:
        """Whether it has a file system that is read."""
        return self.source is not None and self.filesystem in filesystems.READERS

    @property
    def size(self) -> int:
        """How many bytes it has, 0 for a volume that is not read."""
        return 0 if self.source is None else self.source.size

    def open(self) -> FileSystem:
        """Open its file system, if it is `readable`. Errors: those of `FileSystem`."""
        assert self.source is not None, "what is not readable is not opened"
        return filesystems.READERS[self.filesystem or ""](self.source)

    def __str__(self) -> str:
        details = [self.filesystem or "nothing that is known"]
        if self.source is not None:
            details.append(f"{self.size} bytes")
        if self.partition is None:
            place = f"volume {show(self.volume.encode())}"
        else:
            place = f"partition {self.partition.number}" if self.partition.number else "the whole disk"
            if self.partition.type:
                details.append(f"type {self.partition.type}")
            if self.partition.label:
                details.append(f"called {show(self.partition.label.encode())}")
        return f"{place} ({', '.join(details)})"


class Root(NamedTuple):
    """The file system that the root is on, and where it is."""

    device: Device
    filesystem: FileSystem


def filled(tree: Tree, filesystem: FileSystem) -> Node:
    """Return the root directory of `filesystem`, which `tree` counts, and does not become."""
    before = tree.root
    try:
        filesystem.fill(tree)
        return tree.root
    finally:
        tree.root = before


class Trees:
    """The root directories of file systems, each read once, and counted by one tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._read: dict[tuple[int, int], Node] = {}

    def of(self, device: Device, filesystem: FileSystem) -> Node:
        """Return the root directory of the `filesystem` on `device`; of a btrfs that of the chosen subvolume."""
        number = cast("Btrfs", filesystem).root.number if device.filesystem == "btrfs" else 0
        key = id(device), number
        if key not in self._read:
            self._read[key] = filled(self.tree, filesystem)
        return self._read[key]

    @contextmanager
    def shown(self, root: Node) -> Iterator[None]:
        """Let the tree be `root` in the body."""
        before, self.tree.root = self.tree.root, root
        try:
            yield
        finally:
            self.tree.root = before

    def forget(self) -> None:
        """Forget what was read."""
        self._read.clear()


def devices(disk: Source) -> list[Device]:
    """Return the partitions of `disk`, then the logical volumes. Errors: those of `partitions.read`, `lvm.volumes`."""
    found = []
    for partition in partitions.read(disk):
        name = f"{disk.name}: partition {partition.number}" if partition.number else disk.name
        window = Window(disk, partition.start, partition.size, name)
        found.append(Device(filesystems.detect(window), window, partition))
    physical = [each.source for each in found if each.filesystem == PHYSICAL_VOLUME and each.source is not None]
    if physical:
        found += [_volume(volume) for volume in lvm.volumes(physical)]
    return found


def _volume(volume: Volume) -> Device:
    if volume.source is None:
        return Device(f"LVM2 {volume.why_not}", None, None, volume.name)
    return Device(filesystems.detect(volume.source), volume.source, None, volume.name)
