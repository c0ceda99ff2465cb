"""What the fstab of a root file system mounts from the same disk, as part of its tree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, cast

from recipes.errors import UnsupportedFeature
from recipes.formats.tree.contents import contents
from recipes.formats.tree.tree import show

from . import discoverable, fstab, naming
from .devices import filled

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.tree.tree import Tree

    from .btrfs import Btrfs, Subvolume
    from .devices import Device, Root
    from .filesystem import FileSystem
    from .fstab import Entry
    from .search import Search

#: Mounts that are looked at: each may be another copy of a file system.
_MAX_MOUNTS = 64
_CRYPTTAB = b"etc/crypttab"
_MACHINE_ID = b"etc/machine-id"
_MAX_MACHINE_ID = 4096
#: Mounts that are named where they are left out.
_MAX_NAMED = 10

#: Where kernels and boot loaders are, of no use to containers and WSL, which start none of these.
_BOOT = (b"/boot", b"/efi")

#: File systems whose content is not part of a root: of firmware, of media, and swap.
_IGNORED = frozenset({"vfat", "exfat", "ntfs", "iso9660", "swap"})
#: What names a device, and no server, folder or the kernel's own.
_DEVICE = re.compile(r"(?:UUID|LABEL|PARTUUID|PARTLABEL)=.*|/dev/(?!root$).*", re.DOTALL)
#: What is swapped to, if that is a file of the root.
_FILE = re.compile(r"(?!/dev/|.*/\.\.)/.*[^/]", re.DOTALL)
#: Devices without a file system of this disk: media, and what a machine gets besides.
_ELSEWHERE = re.compile(r"/dev/(?:cdrom|dvd|sr[0-9]+|fd[0-9]*|zram[0-9]+|shm|pts|mqueue|hugepages)\b")


class _Mount(NamedTuple):
    entry: Entry
    #: None for what is on none of the disk.
    device: Device | None


def mount(tree: Tree, root: Root, search: Search, devices: list[Device], say: Callable[[str], None]) -> None:
    """Mount in `tree`, which `root` filled, what its fstab names of the `devices` of the disk that was searched.

    They are mounted in the order of their depth, and partitions by their type for what fstab says nothing of, see
    `discoverable`. Left out are /boot and /efi, swap, what is ``noauto``, and a subvolume that contains the root
    itself; a file that is swapped to is no content, and taken out. What is on no device of this disk is left out too,
    which is told to `say`, once, unless it is ``nofail``.

    Errors: those of `FileSystem`; `UnsupportedFeature` for what is there and cannot be read, since a root without its
    /var is none, and if two devices are what a line names; `CorruptImage` for a mount point in what is no directory;
    `LimitExceeded` for more than 1 MiB of fstab.
    """
    lines = fstab.parse(contents(tree, fstab.PATH, fstab.MAX_SIZE) or b"")
    absent = []
    for entry, device in _mounts(tree, lines, search, devices):
        if device is None:
            _refuse_encrypted(tree, entry, search, devices)
            if _is_missed(entry):
                absent.append(entry)
            continue
        if device.filesystem in _IGNORED:
            continue
        if not device.readable:
            raise UnsupportedFeature(f"{show(entry.mount_point)} is on {device}, which is not supported yet")
        mounted = _mounted(entry, device, search.open(device), root)
        if mounted is not None:
            tree.mount(entry.mount_point.lstrip(b"/"), filled(tree, mounted))
    for line in lines:
        if line.type == "swap" and _FILE.fullmatch(line.device):
            tree.remove(line.device.encode(errors="surrogateescape"))
    if absent:
        listing = ", ".join(f"{show(each.mount_point)} ({_shown(each)})" for each in absent[:_MAX_NAMED])
        more = f" and {len(absent) - _MAX_NAMED} more" if len(absent) > _MAX_NAMED else ""
        say(f"left out, since it is on no partition of this disk: {listing}{more}")


def _mounts(tree: Tree, lines: list[Entry], search: Search, devices: list[Device]) -> list[_Mount]:
    # Also what is not mounted: it is not to be mounted by its type either.
    named = {each.mount_point.rstrip(b"/") for each in lines}
    # What this disk is called where the root is by such a name; every other disk is another one then.
    here = next((naming.disk_of(each.device) for each in lines if each.mount_point == b"/"), None)
    mounts = []
    for line in filter(_is_part, lines):
        elsewhere = here is not None and naming.disk_of(line.device) not in (None, here)
        mounts.append(_Mount(line, None if elsewhere else _device(line, search)))
    identity = (contents(tree, _MACHINE_ID, _MAX_MACHINE_ID) or b"").decode("ascii", "replace").strip()
    for point, device in discoverable.discover(devices, identity):
        if point not in named:
            mounts.append(_Mount(fstab.Entry("", point, "auto", {}), device))
    if len(mounts) > _MAX_MOUNTS:
        raise UnsupportedFeature(f"fstab: {len(mounts)} mounts, and {_MAX_MOUNTS} are looked at")
    return sorted(mounts, key=lambda each: each.entry.mount_point.rstrip(b"/").count(b"/"))


def _is_part(entry: Entry) -> bool:
    point = entry.mount_point.rstrip(b"/")
    return (
        point.startswith(b"/")
        and b"/.." not in point
        and not any(point == boot or point.startswith(boot + b"/") for boot in _BOOT)
        and entry.type != "swap"
        and not entry.options.keys() & {"noauto", "bind", "rbind"}
    )


def _device(entry: Entry, search: Search) -> Device | None:
    matching = search.names.find(entry.device)
    if len(matching) > 1:
        raise UnsupportedFeature(
            f"fstab mounts {_shown(entry)} on {show(entry.mount_point)}, and {len(matching)} are called so: "
            f"{'; '.join(map(str, matching))}"
        )
    return matching[0] if matching else None


def _is_missed(entry: Entry) -> bool:
    """Say whether a booted system would have had what is on no device of this disk."""
    return (
        _DEVICE.fullmatch(entry.device) is not None
        and _ELSEWHERE.match(entry.device) is None
        and entry.type not in _IGNORED
        and "nofail" not in entry.options
    )


def _refuse_encrypted(tree: Tree, entry: Entry, search: Search, devices: list[Device]) -> None:
    """Raise UnsupportedFeature for a mount of what is encrypted on this disk, as fstab calls it once it is open."""
    if not entry.device.startswith("/dev/mapper/"):
        return
    mapped = entry.device.removeprefix("/dev/mapper/")
    encrypted = [each for each in devices if each.filesystem == "LUKS"]
    for line in (contents(tree, _CRYPTTAB, fstab.MAX_SIZE) or b"").decode("utf-8", "surrogateescape").splitlines():
        name, *rest = line.split(maxsplit=2)[:2] or [""]
        if name == mapped and rest:
            # By the UUID of the encryption, which is not that of a file system: any of the disk's may be it.
            encrypted = search.names.find(rest[0]) or encrypted
            break
    if encrypted:
        raise UnsupportedFeature(
            f"{show(entry.mount_point)} is on {_shown(entry)}, which is encrypted on {encrypted[0]}: not supported, "
            "since nobody gives the key"
        )


def _shown(entry: Entry) -> str:
    return show(entry.device.encode(errors="surrogateescape"))


def _mounted(entry: Entry, device: Device, filesystem: FileSystem, root: Root) -> FileSystem | Subvolume | None:
    """Return what `entry` shows of the file system on `device`; None if that is, or contains, the root."""
    if device.filesystem != "btrfs":
        return None if device is root.device else filesystem
    system = cast("Btrfs", filesystem)
    subvolume = naming.subvolume(system, entry.options)
    if subvolume is None:
        asked = entry.options.get("subvolid") or entry.options.get("subvol")
        raise UnsupportedFeature(
            f"{show(entry.mount_point)} is the subvolume {asked} of {device}, which has no such subvolume"
        )
    if device is root.device:
        inside, outside = system.root.path + b"/", subvolume.path + b"/"
        if not subvolume.path or inside.startswith(outside):
            return None
    return subvolume
