"""Where on the device a logical address is.

Everything in btrfs has a logical address; chunks map ranges of them to devices (fs/btrfs/volumes.c). Here all has to be
on one device, as a whole: what is striped is refused by its profile's name.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from .layout import CHUNK, CHUNK_BODY, STRIPE, Profile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .volume import Volume

#: Each stripe is a whole copy.
_COPIES = Profile.RAID1 | Profile.DUP | Profile.RAID1C3 | Profile.RAID1C4
#: Nothing but a single copy, if there is but one stripe: btrfs makes RAID0 of one device.
_STRIPED = Profile.RAID0
_PARITY = Profile.RAID5 | Profile.RAID6 | Profile.RAID10
_END = 1 << 64


class Chunk(NamedTuple):
    """A range of logical addresses."""

    start: int
    length: int
    #: Where its copies begin on the device, the one to be read first in front.
    copies: tuple[int, ...]


class ChunkMap:
    """All chunks, found by what is in them."""

    def __init__(self, volume: Volume, chunks: Iterable[Chunk]) -> None:
        self._volume = volume
        self._chunks = sorted(chunks)
        self._starts = [chunk.start for chunk in self._chunks]
        for one, other in zip(self._chunks, self._chunks[1:], strict=False):
            if one.start + one.length > other.start:
                raise volume.corrupt(f"the chunks at {one.start:#x} and {other.start:#x} overlap")

    def find(self, logical: int, length: int, what: str) -> list[int]:
        """Return where on the device the `length` bytes at `logical`, called `what` in errors, are: every copy."""
        index = bisect_right(self._starts, logical) - 1
        if index >= 0:
            start, size, copies = self._chunks[index]
            inside = logical - start
            if inside + length <= size:
                return [copy + inside for copy in copies]
        raise self._volume.corrupt(f"{what} is at {logical:#x}, and no chunk has the {length} bytes there")


def chunk(volume: Volume, kind: int, logical: int, body: bytes) -> tuple[Chunk, int]:
    """Return the chunk that an item of this type, offset and content says, and the bytes of the content that it took.

    Errors: `CorruptImage`; `UnsupportedFeature` for data that is spread over several devices, or on another one.
    """
    what = f"the chunk at {logical:#x}"
    if kind != CHUNK or len(body) < CHUNK_BODY.size:
        raise volume.corrupt(f"expected a chunk at {logical:#x}, found an item of type {kind} with {len(body)} bytes")
    length, _owner, _stripe_length, flags, _align, _width, _sector, count, _sub_stripes = CHUNK_BODY.unpack_from(body)
    size = CHUNK_BODY.size + count * STRIPE.size
    if not count or not length or logical + length > _END or size > len(body):
        raise volume.corrupt(f"{what} has {length} bytes in {count} stripes, and {len(body)} bytes to say so")
    stripes = [STRIPE.unpack_from(body, CHUNK_BODY.size + index * STRIPE.size) for index in range(count)]
    ours = volume.superblock.device
    # As a number: what an IntFlag does with bits that have no name differs between versions of Python.
    profile = Profile(flags & sum(Profile))
    if profile & _PARITY or (profile & _STRIPED and count > 1):
        raise volume.unsupported(f"{'/'.join(each.name or '' for each in profile)} ({what})")
    if foreign := sorted({device for device, _offset, _uuid in stripes if device != ours}):
        raise volume.unsupported(
            f"data on other devices ({what} is on device {foreign[0]}, this is device {ours})", hint=ONE_DEVICE
        )
    if count > 1 and not profile & _COPIES:
        raise volume.corrupt(f"{what} is a single copy in {count} stripes")
    copies = tuple(offset for _device, offset, _uuid in stripes)
    if max(copies) + length > volume.superblock.device_size:
        raise volume.corrupt(f"{what} ends behind the end of the device")
    return Chunk(logical, length, copies), size


ONE_DEVICE = (
    "larder reads file systems of one device; btrfs device remove, with the disks mounted, brings everything onto one"
)
