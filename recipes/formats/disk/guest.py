"""A disk image as its guest sees it, for random access: what finds and reads a root takes it like a RAW file."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from threading import Lock, local
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .image import DiskImage

#: Bytes of decompressed units that are kept. Metadata of a file system lies together, and is asked for again.
_KEPT = 16 << 20


class Guest:
    """The guest's disk of `image` as a `Source` called `name`. Several threads may read it.

    The places of all extents are held, 32 bytes for each. Errors of reading: those of the image.
    """

    def __init__(self, image: DiskImage, name: str) -> None:
        self.name = name
        self.size = image.size
        self._image = image
        self._guest, self._length, self._host, self._stored = (array("Q") for _ in range(4))
        for extent in image.extents():
            for column, value in zip((self._guest, self._length, self._host, self._stored), extent, strict=True):
                column.append(value)
        self._lock = Lock()
        self._units: OrderedDict[int, bytes | bytearray] = OrderedDict()
        self._own = local()

    def fileno(self) -> None:
        """Return None: the guest's disk lies in no file as it is."""

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the ``(start, stop)`` that have data, in their order; neighbours are one."""
        begin = end = 0
        for start, length in zip(self._guest, self._length, strict=True):
            if start != end:
                if begin < end:
                    yield begin, end
                begin = start
            end = start + length
        if begin < end:
            yield begin, end

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` on; see `recipes.formats.io.source.Source`."""
        view = view[: max(0, min(len(view), self.size - offset))]
        end = offset + len(view)
        at = offset
        index = max(0, bisect_right(self._guest, offset) - 1)
        while at < end:
            if index == len(self._guest) or self._guest[index] >= end:
                view[at - offset :] = bytes(end - at)
                break
            start, stop = self._guest[index], self._guest[index] + self._length[index]
            if at < start:
                view[at - offset : start - offset] = bytes(start - at)
                at = start
            if at < stop:
                piece = view[at - offset : min(stop, end) - offset]
                self._fill(piece, index, at - start)
                at += len(piece)
            index += 1
        return len(view)

    def _fill(self, view: memoryview, index: int, skip: int) -> None:
        """Fill `view` with what is `skip` bytes behind the beginning of an extent."""
        if self._stored[index]:
            view[:] = self._unit(index)[skip : skip + len(view)]
            return
        place = self._host[index] + skip
        if os.preadv(self._image.fileno(), [view], place) != len(view):
            raise self._image.truncated(f"the data at byte {place}", place + len(view))

    def _unit(self, index: int) -> bytes | bytearray:
        with self._lock:
            unit = self._units.get(index)
            if unit is not None:
                self._units.move_to_end(index)
                return unit
        host, stored = self._host[index], self._stored[index]
        packed = os.pread(self._image.fileno(), stored, host)
        if len(packed) != stored:
            raise self._image.truncated(f"the data at byte {host}", host + stored)
        unit = self._decode(memoryview(packed), self._guest[index])
        with self._lock:
            self._units[index] = unit
            while len(self._units) * self._image.unit > max(_KEPT, self._image.unit):
                self._units.popitem(last=False)
        return unit

    @property
    def _decode(self) -> Callable[[memoryview, int], bytes | bytearray]:
        # Decoders have a state of their own in each thread.
        decode: Callable[[memoryview, int], bytes | bytearray] | None = getattr(self._own, "decode", None)
        if decode is None:
            decode = self._own.decode = self._image.decoder()
        return decode
