"""What the fstab of a root file system mounts from the same disk, as part of its tree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, cast

from recipes.errors import UnsupportedFeature
from recipes.formats.tree.contents import contents
from recipes.formats.tree.tree import show

from . import fstab
from .identity import identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.formats.tree.tree import Tree

    from .btrfs import Btrfs, Subvolume
    from .devices import Device
    from .filesystem import FileSystem
    from .fstab import Entry

_FSTAB = b"etc/fstab"
_MAX_FSTAB = 1 << 20
#: Mounts that are looked at: each may be another copy of a file system.
_MAX_MOUNTS = 64

#: Where kernels and boot loaders are, of no use to containers and WSL, which start none of these.
_BOOT = (b"/boot", b"/efi")

#: What systemd mounts by the type of its partition alone if fstab does not say (systemd-gpt-auto-generator(8)).
_BY_TYPE = {
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": b"/home",
    "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": b"/srv",
}

#: File systems whose content is not part of a root: of firmware, of media, and swap.
_IGNORED = frozenset({"vfat", "exfat", "ntfs", "iso9660", "swap"})

_BY_NAME = re.compile(r"/dev/(?:(?:sd|vd|hd|xvd)[a-z]+|(?:nvme[0-9]+n|mmcblk)[0-9]+p)([0-9]{1,4})")
_LINKS = {"uuid": "UUID", "label": "LABEL", "partuuid": "PARTUUID", "partlabel": "PARTLABEL"}


class Root(NamedTuple):
    """The root file system, and where it is."""

    device: Device
    filesystem: FileSystem


def mount(tree: Tree, root: Root, found: list[Device]) -> None:
    """Mount in `tree`, which `root` filled, what its fstab names of the devices that were `found` on the disk.

    They are mounted in the order of their depth, and partitions for /home and /srv by their type if fstab says nothing
    of those. Left out are /boot and /efi, swap, what is on no device of this disk or `noauto`, and a subvolume that
    contains the root itself.

    Errors: those of `FileSystem`; `UnsupportedFeature` for what is there and cannot be read, since a root without its
    /var is none, and if two devices are what a line names; `CorruptImage` for a mount point in what is no directory;
    `LimitExceeded` for more than 1 MiB of fstab.
    """
    opened = {id(root.device): root.filesystem}
    named: dict[str, list[Device]] = {}
    entries = _entries(tree, found)
    for device in found if entries else ():
        for name in _names(device):
            named.setdefault(name, []).append(device)
    for entry in entries:
        target = _device(entry, named)
        if target is None or target.filesystem in _IGNORED:
            continue
        if not target.readable:
            raise UnsupportedFeature(f"{show(entry.mount_point)} is on {target}, which is not supported yet")
        if id(target) not in opened:
            opened[id(target)] = target.open()
        mounted = _mounted(entry, target, opened[id(target)], root)
        if mounted is not None:
            _fill(tree, entry.mount_point, mounted)


def _entries(tree: Tree, found: list[Device]) -> list[Entry]:
    entries = [each for each in fstab.parse(contents(tree, _FSTAB, _MAX_FSTAB) or b"") if _is_part(each)]
    named = {each.mount_point.rstrip(b"/") for each in entries}
    for device in found:
        point = _BY_TYPE.get(device.partition.type) if device.partition else None
        if point is not None and point not in named and device.partition is not None:
            named.add(point)
            entries.append(fstab.Entry(f"PARTUUID={device.partition.uuid}", point, "auto", {}))
    if len(entries) > _MAX_MOUNTS:
        raise UnsupportedFeature(f"fstab: {len(entries)} mounts, and {_MAX_MOUNTS} are looked at")
    return sorted(entries, key=lambda each: each.mount_point.rstrip(b"/").count(b"/"))


def _is_part(entry: Entry) -> bool:
    point = entry.mount_point.rstrip(b"/")
    return (
        point.startswith(b"/")
        and b"/.." not in point
        and not any(point == boot or point.startswith(boot + b"/") for boot in _BOOT)
        and entry.type != "swap"
        and not entry.options.keys() & {"noauto", "bind", "rbind"}
    )


def _device(entry: Entry, named: dict[str, list[Device]]) -> Device | None:
    matching = named.get(_wanted(entry.device), [])
    if len(matching) > 1:
        raise UnsupportedFeature(
            f"fstab mounts {show(entry.device.encode(errors='surrogateescape'))} on {show(entry.mount_point)}, and "
            f"{len(matching)} are called so: {'; '.join(map(str, matching))}"
        )
    return matching[0] if matching else None


def _wanted(device: str) -> str:
    """Return what fstab calls a device as one of `_names` has it."""
    by_name = _BY_NAME.fullmatch(device)
    if by_name:
        return f"number {int(by_name[1])}"
    link = re.fullmatch(r"/dev/disk/by-([a-z]+)/(.*)", device)
    if link and link[1] in _LINKS:
        # udev writes what a path cannot hold, and blanks, in hexadecimal.
        value = re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), link[2])
        device = f"{_LINKS[link[1]]}={value}"
    kind, equals, value = device.partition("=")
    return f"{kind}={value.lower()}" if equals and kind.endswith("UUID") else device


def _names(device: Device) -> Iterator[str]:
    if device.source is not None:
        uuid, label = identity(device.source, device.filesystem)
        if uuid:
            yield f"UUID={uuid}"
        if label:
            yield f"LABEL={label}"
    if device.partition is not None:
        yield f"number {device.partition.number}"
        if device.partition.uuid:
            yield f"PARTUUID={device.partition.uuid}"
        if device.partition.label:
            yield f"PARTLABEL={device.partition.label}"
    if device.volume:
        group, _, volume = device.volume.partition("/")
        yield f"/dev/{group}/{volume}"
        yield f"/dev/mapper/{group.replace('-', '--')}-{volume.replace('-', '--')}"


def _mounted(entry: Entry, device: Device, filesystem: FileSystem, root: Root) -> FileSystem | Subvolume | None:
    """Return what `entry` shows of the file system on `device`; None if that is, or contains, the root."""
    if device.filesystem != "btrfs":
        return None if device is root.device else filesystem
    system = cast("Btrfs", filesystem)
    options = entry.options
    number, path = options.get("subvolid"), options.get("subvol")
    # As mount(8): the number counts if there are both.
    if number is not None and number.isdecimal() and len(number) < 20:
        subvolume = system.subvolume(int(number))
    elif path is not None:
        subvolume = system.subvolume(path.encode(errors="surrogateescape"))
    else:
        subvolume = system.default
    if subvolume is None:
        raise UnsupportedFeature(
            f"{show(entry.mount_point)} is the subvolume {number or path} of {device}, which has no such subvolume"
        )
    if device is root.device:
        inside, outside = system.root.path + b"/", subvolume.path + b"/"
        if not subvolume.path or inside.startswith(outside):
            return None
    return subvolume


def _fill(tree: Tree, mount_point: bytes, filesystem: FileSystem | Subvolume) -> None:
    root = tree.root
    filesystem.fill(tree)
    tree.root, mounted = root, tree.root
    tree.mount(mount_point.lstrip(b"/"), mounted)
