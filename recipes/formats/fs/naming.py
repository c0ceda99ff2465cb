"""What devices and subvolumes are called: in fstab, on the command line of a kernel, and by udev.

Specification: fstab(5), mount(8), btrfs(5); udev's rules 60-persistent-storage.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .identity import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .btrfs import Btrfs, Subvolume
    from .devices import Device

_BY_NAME = re.compile(r"(/dev/(?:(?:sd|vd|hd|xvd)[a-z]+|(?:nvme[0-9]+n|mmcblk)[0-9]+p))([0-9]{1,4})")
_LINKS = {"uuid": "UUID", "label": "LABEL", "partuuid": "PARTUUID", "partlabel": "PARTLABEL"}


class Names:
    """The devices of a disk by their names."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self._named: dict[str, list[Device]] = {}
        for device in devices:
            for name in _names(device):
                self._named.setdefault(name, []).append(device)

    def find(self, name: str) -> list[Device]:
        """Return the devices that are called so: ``UUID=…``, ``/dev/…``. Of ``/dev/sda3`` the number alone counts."""
        return self._named.get(_key(name), [])


def disk_of(name: str) -> str | None:
    """Return the disk in the name of a partition such as ``/dev/sda3``; None for a name that says nothing of it."""
    by_name = _BY_NAME.fullmatch(name)
    return by_name[1] if by_name else None


def subvolume(system: Btrfs, options: Mapping[str, str]) -> Subvolume | None:
    """Return the subvolume that these options of a mount show; None if there is none such.

    As for mount(8) the number counts if there are number and path, and if there is neither it is the default.
    """
    number, path = options.get("subvolid"), options.get("subvol")
    if number is not None and number.isascii() and number.isdecimal() and len(number) < 20:
        return system.subvolume(int(number))
    if path is not None:
        return system.subvolume(path.encode(errors="surrogateescape"))
    return system.default


def _key(name: str) -> str:
    """Return what a device is called as one of `_names` has it."""
    by_name = _BY_NAME.fullmatch(name)
    if by_name:
        return f"number {int(by_name[2])}"
    link = re.fullmatch(r"/dev/disk/by-([a-z]+)/(.*)", name)
    if link and link[1] in _LINKS:
        # udev writes what a path cannot hold, and blanks, in hexadecimal.
        value = re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), link[2])
        name = f"{_LINKS[link[1]]}={value}"
    kind, equals, value = name.partition("=")
    return f"{kind}={value.lower()}" if equals and kind.endswith("UUID") else name


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
