"""Which of the file systems on a disk is the root."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from recipes.errors import ImageError, UnsupportedFeature
from recipes.formats.tree.contents import contents
from recipes.formats.tree.tree import show

from . import fstab, ostree
from . import table as filesystems
from .boots import Boots
from .devices import PHYSICAL_VOLUME, Root, Trees
from .naming import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.tree.tree import Tree
    from recipes.rootplace import RootPlace

    from .btrfs import Btrfs
    from .devices import Device
    from .filesystem import FileSystem

#: What every distribution's root has, the one or the other (os-release(5)); and what ostree has around its roots.
_MARKS = (b"etc/os-release", b"usr/lib/os-release", ostree.DEPLOY)

#: Partitions that are looked into: thousands may overlap, and each cost what the largest directory costs.
_MAX_TRIED = 16
#: Roots that are read to find out which of them is one.
_MAX_READ = 4

#: What firmware, boot loaders and swapping use, and what is no file system but holds some.
_NO_ROOT = frozenset({"vfat", "exfat", "swap", "iso9660", PHYSICAL_VOLUME})

_HINT = 'use upstream\'s root file system archive (kind = "rootfs") or its container image (kind = "oci") instead'
_DECIDE = "in images.toml decides; in single steps --root does the same"


class Disk(NamedTuple):
    """A disk that is searched."""

    name: str
    devices: list[Device]
    #: Where somebody says that the root is.
    place: RootPlace
    #: Tells the person something.
    say: Callable[[str], None]


class Search:
    """Finds the root of a disk; what is read on the way counts as read for `tree`, which stays as it is."""

    def __init__(self, disk: Disk, tree: Tree) -> None:
        self._disk = disk
        self._tree = tree
        self.names = Names(disk.devices)
        self._opened: dict[int, FileSystem] = {}
        self._trees = Trees(tree)
        self.boots = Boots(disk.devices, self.names, self.open, self._trees)

    def open(self, device: Device) -> FileSystem:
        """Return the file system of a device that is readable, which is opened once."""
        if id(device) not in self._opened:
            self._opened[id(device)] = device.open()
        return self._opened[id(device)]

    def root(self) -> Root:
        """Return the root.

        It is where it was said to be, or else, in this order: the file system of a disk without a partition table; the
        first partition with the type of a root partition and with a file system that is read; the one with such a
        file system and an os-release, or what ostree deploys, logical volumes among them. If the only partitions with
        the type have another file system, none without the type is taken for them. Of several the one is taken that
        the boot entries name, or whose fstab alone has itself at ``/``, or that has the type, or that is the largest;
        which, and why, is said. Errors: `UnsupportedFeature`, which names the partitions with their file systems, and
        if nothing tells several of equal size apart; those of `FileSystem`.
        """
        place = self._disk.place
        if place.partition is not None or place.volume:
            return self._declared()
        sure = [each for each in self._disk.devices if each.sure]
        roots = self._sure(sure) if sure else self._with_marks()
        if not roots:
            raise self._refused()
        if len(roots) == 1:
            return roots[0]
        root, reason = self._decide(roots, typed=bool(sure))
        others = "; ".join(str(each.device) for each in roots if each is not root)
        self._disk.say(
            f"several roots: {root.device} is taken, {reason}, and not {others}; "
            f'root = "{_called(root.device)}" {_DECIDE}'
        )
        return root

    def fill(self, root: Root) -> None:
        """Make `root` that of the tree."""
        self._tree.root = self._trees.of(root.device, root.filesystem)
        self._trees.forget()

    def _declared(self) -> Root:
        place = self._disk.place
        for device in self._disk.devices:
            number = device.partition.number if device.partition else None
            if (place.volume and device.volume == place.volume) or (
                place.partition is not None and number == place.partition
            ):
                if not device.readable:
                    raise UnsupportedFeature(f"{self._disk.name}: the root is to be {device}, which is not supported")
                return self._settled(device)
        listing = "; ".join(map(str, self._disk.devices))
        raise UnsupportedFeature(f"{self._disk.name}: the root is to be {place}, found {listing}")

    def _sure(self, devices: list[Device]) -> list[Root]:
        return self._roots(self._possible(devices), lambda filesystem: True)

    def _with_marks(self) -> list[Root]:
        marks = (ostree.DEPLOY,) if self._disk.place.deployment else _MARKS
        # The largest first: where it cannot be read, that is better said than a smaller one taken for it.
        possible = sorted(self._possible(self._disk.devices), key=lambda each: -each.size)
        return self._roots(possible, lambda filesystem: any(filesystem.exists(mark) for mark in marks))

    def _possible(self, devices: list[Device]) -> list[Device]:
        """Return what is readable, and has the subvolume that the root is to be, if there is one."""
        readable = [each for each in devices if each.readable]
        path = self._disk.place.subvolume.encode(errors="surrogateescape")
        if not path:
            return readable
        possible = []
        for device in readable[:_MAX_TRIED]:
            with suppress(ImageError):
                if device.filesystem == "btrfs" and cast("Btrfs", self.open(device)).subvolume(path) is not None:
                    possible.append(device)
        if not possible:
            listing = "; ".join(map(str, devices))
            raise UnsupportedFeature(
                f"{self._disk.name}: the root is to be {self._disk.place}, which no btrfs has: {listing}"
            )
        return possible

    def _roots(self, devices: list[Device], is_root: Callable[[FileSystem], bool]) -> list[Root]:
        found: list[Root] = []
        for device in devices[:_MAX_TRIED]:
            try:
                root = self._settled(device)
                if is_root(root.filesystem):
                    found.append(root)
            except ImageError:
                if not found:
                    raise
        return found

    def _settled(self, device: Device) -> Root:
        """Return the file system on `device`, a btrfs with its subvolume chosen."""
        filesystem = self.open(device)
        if device.filesystem == "btrfs":
            system = cast("Btrfs", filesystem)
            wanted = self._disk.place.subvolume
            if wanted:
                if not system.choose(wanted.encode(errors="surrogateescape")):
                    listing = ", ".join(show(each.path) for each in system.all()[1:21]) or "no other than the top level"
                    raise UnsupportedFeature(
                        f"{self._disk.name}: the root is to be subvolume {wanted} of {device}; found {listing}"
                    )
            elif (named := self.boots.subvolume(device, system)) is not None:
                system.choose(named.number)
        elif self._disk.place.subvolume:
            raise UnsupportedFeature(
                f"{self._disk.name}: the root is to be a subvolume, and {device} has none: only btrfs has"
            )
        return Root(device, filesystem)

    def _decide(self, roots: list[Root], *, typed: bool) -> tuple[Root, str]:
        """Return one of several roots, and why."""
        booted = {id(device): entry for device, entry in self.boots.roots()}
        named = [each for each in roots if id(each.device) in booted]
        if len(named) == 1:
            return named[0], f"since the boot entry {show(booted[id(named[0].device)].name.encode())} names it"
        mine = [each for each in roots if self._mounts_itself(each)] if len(roots) <= _MAX_READ else []
        if len(mine) == 1:
            return mine[0], "since its fstab has itself at /, as no other's"
        if typed:
            return roots[0], "since it is the first with the type of a root partition"
        if roots[0].device.size > roots[1].device.size:
            return roots[0], "since it is the largest with an os-release"
        listing = "; ".join(str(each.device) for each in roots)
        raise UnsupportedFeature(
            f"{self._disk.name}: expected one root, found several of one size, and nothing tells which one boots: "
            f"{listing}",
            hint=f'root = "{_called(roots[0].device)}" {_DECIDE}',
        )

    def _mounts_itself(self, root: Root) -> bool:
        """Say whether the fstab of `root` has this device at ``/``; what cannot be read has not."""
        try:
            with self._trees.shown(self._trees.of(root.device, root.filesystem)):
                lines = fstab.parse(contents(self._tree, fstab.PATH, fstab.MAX_SIZE) or b"")
        except ImageError:
            return False
        named = [self.names.find(line.device) for line in lines if line.mount_point == b"/"]
        return any(len(devices) == 1 and devices[0] is root.device for devices in named)

    def _refused(self) -> UnsupportedFeature:
        listing = "; ".join(map(str, self._disk.devices)) or "no partition"
        # Those that a root can be on, or in.
        kinds = {each.filesystem for each in self._disk.devices if each.filesystem}
        names = sorted(kinds - filesystems.READERS.keys() - _NO_ROOT)
        if names:
            verb = "is" if len(names) == 1 else "are"
            return UnsupportedFeature(
                f"{self._disk.name}: {' and '.join(names)} {verb} not supported yet for a root file system: {listing}",
                hint=_HINT,
            )
        return UnsupportedFeature(
            f"{self._disk.name}: expected a partition with the type of a root partition (GPT), or one with "
            f"/etc/os-release and a file system of {', '.join(filesystems.READERS)}; found {listing}",
            hint=_HINT,
        )


def _called(device: Device) -> str:
    return f"volume {device.volume}" if device.partition is None else f"partition {device.partition.number}"
