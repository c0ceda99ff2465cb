"""What tells a file system from others: its UUID and its label, as fstab has them.

The places are those of libblkid (util-linux, libblkid/src/superblocks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from recipes.formats.io.source import read

if TYPE_CHECKING:
    from recipes.formats.io.source import Source


class Identity(NamedTuple):
    """Of a file system: nothing is said with an empty string."""

    #: In lower case.
    uuid: str = ""
    label: str = ""


class _Place(NamedTuple):
    uuid: int
    label: int
    length: int


_EXT = _Place(1024 + 0x68, 1024 + 0x78, 16)
_PLACES = {
    "ext2": _EXT,
    "ext3": _EXT,
    "ext4": _EXT,
    "xfs": _Place(32, 108, 12),
    "btrfs": _Place(65536 + 32, 65536 + 299, 256),
}


def identity(source: Source, filesystem: str | None) -> Identity:
    """Return the UUID and the label of the `filesystem` in `source`, empty for one that is not read."""
    place = _PLACES.get(filesystem or "")
    if place is None:
        return Identity()
    uuid, label = read(source, place.uuid, 16), read(source, place.label, place.length)
    if len(uuid) < 16:
        return Identity()
    return Identity(str(UUID(bytes=uuid)), label.partition(b"\0")[0].decode("utf-8", "surrogateescape"))
