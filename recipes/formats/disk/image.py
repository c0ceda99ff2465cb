"""What conversion, claims and the search for a root need of any disk image, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recipes.errors import CorruptImage


class Extent(NamedTuple):
    """A range of the guest's disk that has data; what no extent covers is zeros."""

    #: Offset on the guest's disk.
    guest: int
    #: Bytes of the guest's disk, never past its end.
    length: int
    #: Offset in the file.
    host: int
    #: Bytes in the file of one compressed unit, or a little more; 0 where the data is stored as it is.
    stored: int


class DiskImage(Protocol):
    """A disk image that was opened for reading; a package of its own and a row of `recipes.formats.disk.table`.

    Nothing but the file itself is ever read: not a backing file, nor what else the image names. Errors: `CorruptImage`;
    `UnsupportedFeature`, which names the feature; `LimitExceeded`.
    """

    #: Name of the format, as `recipes.formats.io.probe` gives it.
    format: ClassVar[str]

    @property
    def size(self) -> int:
        """Bytes of the guest's disk, a multiple of 512."""

    @property
    def unit(self) -> int:
        """Bytes of the guest's disk that are compressed at once, and begin at a multiple of as many."""

    @property
    def data_size(self) -> int:
        """Bytes of the guest's disk that have data; reads and checks all that says where."""

    def fileno(self) -> int:
        """Return the open file, in which `Extent.host` counts."""

    def extents(self) -> Iterator[Extent]:
        """Yield the guest's data in the guest's order; each compressed unit is an extent of its own."""

    def decoder(self) -> Callable[[memoryview, int], bytes | bytearray]:
        """Return one thread's function from the stored bytes of a unit and its guest offset to the whole unit."""

    def truncated(self, what: str, end: int) -> CorruptImage:
        """Return the error that says that the file ends before `end`, where `what` should."""
