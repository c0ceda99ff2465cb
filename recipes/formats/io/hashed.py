"""A sparse file that knows its blkhash once it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blkhash import PieceHasher
from .sparse import SparseFile

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import BlockHash


class HashedFile(SparseFile):
    """A `SparseFile` that one thread writes, no byte of it twice, and that nobody need read again to know what it is.

    A digest over the bytes in their order cannot do that: what stands first, a header or a table, is written last.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        self._hasher = PieceHasher(self.fileno())
        #: Known once the file is finished.
        self.blkhash: BlockHash | None = None

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write `data` at `offset`; see `SparseFile.pwrite`."""
        self._hasher.update(offset, memoryview(data))
        super().pwrite(data, offset)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `position`; see `SparseFile.write`."""
        self._hasher.update(self.position, memoryview(data))
        super().write(data)

    def finish(self, size: int) -> None:
        """Give the file exactly `size` bytes, and know its blkhash."""
        super().finish(size)
        self.blkhash = self._hasher.result(size)
