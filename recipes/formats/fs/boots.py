"""What the boot loaders on a disk would boot: their entries, and the devices and subvolumes that these name."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from recipes.errors import ImageError
from recipes.formats.boot import cmdline
from recipes.formats.boot.entries import MARKS, entries

from .devices import filled
from .fstab import parse_options
from .naming import subvolume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recipes.formats.boot.bls import Entry
    from recipes.formats.tree.tree import Node

    from .btrfs import Btrfs, Subvolume
    from .devices import Device, Trees
    from .filesystem import FileSystem
    from .naming import Names

#: Where a file system has them: /boot on a partition of its own, or as a folder of the root.
_FOLDERS = (b"", b"boot")
#: /boot as a subvolume of the root's btrfs.
_SUBVOLUMES = (b"boot", b"@boot")
#: Partitions that are looked into.
_MAX_TRIED = 16


class Boot(NamedTuple):
    """A boot loader's entries, the one that it prefers first; at least one."""

    device: Device
    #: What the paths in the entries begin at: the file system of `device`, or a subvolume of it.
    filesystem: FileSystem
    #: Where /boot is on that: nothing if it is all of it.
    folder: bytes
    entries: list[Entry]

    @property
    def usable(self) -> list[Entry]:
        """Those that are for no emergency."""
        return [entry for entry in self.entries if not entry.rescue and not entry.bad]


class Boots:
    """The boot loaders on the devices of a disk, looked for when they are asked for.

    What cannot be read says nothing: it is a witness about the root, and need not be there.
    """

    def __init__(
        self, devices: list[Device], names: Names, opened: Callable[[Device], FileSystem], trees: Trees
    ) -> None:
        self._devices = devices
        self._names = names
        self._open = opened
        self._trees = trees
        self._found: list[Boot] | None = None

    def all(self) -> list[Boot]:
        """Return all of them."""
        if self._found is None:
            self._found = []
            for device in [each for each in self._devices if each.readable][:_MAX_TRIED]:
                with suppress(ImageError):
                    self._found += (boot for boot in self._on(device) if boot.entries)
        return self._found

    def roots(self) -> list[tuple[Device, Entry]]:
        """Return the devices that would be the root, of each boot loader the one that it prefers."""
        found = []
        for boot in self.all():
            for entry in boot.usable[:1]:
                named = self._names.find(cmdline.value(entry.options, "root") or "")
                found += [(named[0], entry)] if len(named) == 1 else []
        return found

    def of(self, device: Device) -> Iterator[Entry]:
        """Yield the entries whose root is on `device`: they say so, or say nothing of where it is."""
        for boot in self.all():
            for entry in boot.usable:
                name = cmdline.value(entry.options, "root")
                if name is None or any(each is device for each in self._names.find(name)):
                    yield entry

    def subvolume(self, device: Device, system: Btrfs) -> Subvolume | None:
        """Return the subvolume of `system`, on `device`, that an entry has as the root; None if none says which."""
        for entry in self.of(device):
            flags = parse_options(cmdline.value(entry.options, "rootflags") or "")
            if flags.keys() & {"subvol", "subvolid"} and (found := subvolume(system, flags)) is not None:
                return found
        return None

    def _on(self, device: Device) -> Iterator[Boot]:
        filesystem = self._open(device)
        if device.filesystem == "btrfs":
            system = cast("Btrfs", filesystem)
            for path in _SUBVOLUMES:
                inside = system.subvolume(path)
                if inside is not None and any(inside.exists(mark) for mark in MARKS):
                    yield self._boot(device, inside, b"", filled(self._trees.tree, inside))
        for folder in _FOLDERS:
            if any(filesystem.exists(folder + b"/" + mark) for mark in MARKS):
                yield self._boot(device, filesystem, folder, self._trees.of(device, filesystem))

    def _boot(self, device: Device, filesystem: FileSystem, folder: bytes, root: Node) -> Boot:
        with self._trees.shown(root):
            return Boot(device, filesystem, folder, entries(self._trees.tree, folder))
