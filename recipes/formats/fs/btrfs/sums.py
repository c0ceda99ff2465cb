"""The checksums of data, one for each sector as it is on the disk.

Specification: btrfs.readthedocs.io, "On-disk format", EXTENT_CSUM. Not everything has them: what was written with
``nodatacow``, as swap files and disks of virtual machines often are, and what is allotted and not written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .layout import CHECKSUM_OBJECT, EXTENT_CSUM, LAST_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .btree import BTree
    from .volume import Volume


class _Run(NamedTuple):
    """Addresses from `start` up to `stop`, and the sums of their sectors; empty if they have none."""

    start: int
    stop: int
    sums: bytes


class Sums:
    """Looks checksums up in their tree; None for one that there is not. Threads may share it."""

    def __init__(self, volume: Volume, tree: BTree | None) -> None:
        self._volume = volume
        self._tree = tree
        # What is read next is most often next to it.
        self._latest = _Run(0, 0 if tree else LAST_OFFSET, b"")

    def hold(self, logical: int, data: bytes) -> bool:
        """Say whether `data`, whole sectors at `logical`, is what its checksums say, if there are any."""
        checksum = self._volume.checksum
        sector = self._volume.sector_size
        for start, stop, sums in self._runs(logical, logical + len(data)):
            if sums:
                first = (max(start, logical) - start) // sector * checksum.size
                at = max(start, logical) - logical
                end = min(stop, logical + len(data)) - logical
                found = checksum.of_each(data[at:end], sector)
                if found != sums[first : first + len(found)]:
                    return False
        return True

    def _runs(self, start: int, stop: int) -> Iterator[_Run]:
        while start < stop:
            run = self._latest
            if not run.start <= start < run.stop:
                run = self._latest = self._look_up(start)
            yield run
            start = run.stop

    def _look_up(self, logical: int) -> _Run:
        volume = self._volume
        assert self._tree is not None
        item, following = self._tree.floor((CHECKSUM_OBJECT, EXTENT_CSUM, logical))
        if item is not None and item.key[:2] == (CHECKSUM_OBJECT, EXTENT_CSUM):
            start = item.key[2]
            count, rest = divmod(len(item.body), volume.checksum.size)
            if rest or start % volume.sector_size:
                raise volume.corrupt(f"the checksums at {start:#x} are {len(item.body)} bytes")
            stop = start + count * volume.sector_size
            if logical < stop:
                return _Run(start, stop, item.body)
        is_sum = following is not None and following[:2] == (CHECKSUM_OBJECT, EXTENT_CSUM)
        return _Run(logical, following[2] if is_sum and following else LAST_OFFSET, b"")
