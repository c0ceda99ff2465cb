"""Where the bytes of a file are on the disk, and which of them another file has in the same place.

FIEMAP (Linux, Documentation/filesystems/fiemap.rst). "In the same place" is asked of the addresses rather than of
FIEMAP_EXTENT_SHARED, which does not say with whom an extent is shared.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

from .sparse import CANNOT_SHARE

if TYPE_CHECKING:
    from pathlib import Path

#: ``_IOWR('f', 11, struct fiemap)`` of linux/fiemap.h, as x86 and ARM encode it.
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQ16xI12x")
#: Extents that are asked for at once.
_COUNT = 512

_LAST = 0x1
#: FIEMAP_EXTENT_UNKNOWN, _DELALLOC, _DATA_INLINE: without an address that means anything. Nobody shares those.
_NOWHERE = 0x2 | 0x4 | 0x200
#: FIEMAP_EXTENT_ENCODED, compressed for example: what is on the disk has another length.
_ENCODED = 0x8


def places(path: Path) -> list[tuple[int, int]] | None:
    """Return the ``(start, stop)`` addresses on the disk, in bytes, of what `path` holds: sorted, none overlapping.

    None where the file system does not tell, or not in a way that addresses can be compared.
    """
    if sys.platform != "linux":
        return None
    import fcntl

    found: list[tuple[int, int]] = []
    at, last = 0, False
    with path.open("rb", buffering=0) as file:
        while not last:
            buffer = bytearray(_FIEMAP.size + _COUNT * _EXTENT.size)
            _FIEMAP.pack_into(buffer, 0, at, (1 << 64) - 1 - at, 0, 0, _COUNT, 0)
            try:
                fcntl.ioctl(file.fileno(), _FS_IOC_FIEMAP, buffer)
            except OSError as error:
                if error.errno not in CANNOT_SHARE:
                    raise
                return None
            count = _FIEMAP.unpack_from(buffer)[3]
            last = count == 0
            for index in range(count):
                logical, physical, length, flags = _EXTENT.unpack_from(buffer, _FIEMAP.size + index * _EXTENT.size)
                if flags & _ENCODED:
                    return None
                if not flags & _NOWHERE:
                    found.append((physical, physical + length))
                at, last = logical + length, bool(flags & _LAST)
    return merged(found)


def common(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the addresses that are in both; all three as `places` gives them, of one file system."""
    found = []
    left = right = 0
    while left < len(one) and right < len(other):
        start, stop = max(one[left][0], other[right][0]), min(one[left][1], other[right][1])
        if start < stop:
            found.append((start, stop))
        if one[left][1] < other[right][1]:
            left += 1
        else:
            right += 1
    return found


def merged(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the addresses that are in any of the ``(start, stop)`` `runs`: sorted, none overlapping."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(runs):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found
