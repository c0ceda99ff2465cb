"""What systemd mounts by the type of its partition alone where fstab does not say.

Specification: UAPI Group, Discoverable Partitions Specification; systemd-gpt-auto-generator(8).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .devices import Device

_VAR = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
#: Mount points by type; /usr for each architecture, of which larder makes use of two.
_POINTS = {
    "8484680c-9521-48c6-9c11-b0720656f69e": b"/usr",
    "b0e01050-ee5f-4390-949a-9101b17104e9": b"/usr",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": b"/home",
    "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": b"/srv",
    _VAR: b"/var",
}


class Found(NamedTuple):
    """A partition, and where it belongs."""

    mount_point: bytes
    device: Device


def discover(devices: Iterable[Device], machine_id: str) -> list[Found]:
    """Return what is mounted by its type: the first partition for each place that is not to be left alone.

    /var belongs to one installation: the partition's UUID has to follow from the `machine_id` of the root, which images
    that are to be copied have none of.
    """
    found: dict[bytes, Device] = {}
    for device in devices:
        partition = device.partition
        point = _POINTS.get(partition.type) if partition is not None else None
        if partition is None or point is None or partition.manual:
            continue
        if partition.type == _VAR and partition.uuid != _var_of(machine_id):
            continue
        found.setdefault(point, device)
    return [Found(point, device) for point, device in found.items()]


def _var_of(machine_id: str) -> str | None:
    """Return the UUID that the /var of this machine has; None if the machine has no identity yet."""
    try:
        key = bytes.fromhex(machine_id)
    except ValueError:
        return None
    if len(key) != 16 or not any(key):
        return None
    derived = bytearray(hmac.new(key, UUID(_VAR).bytes, hashlib.sha256).digest()[:16])
    # systemd makes it one of version 4 (sd-id128, id128_make_v4_uuid).
    derived[6] = derived[6] & 0x0F | 0x40
    derived[8] = derived[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(derived)))
