"""A file in an archive, whatever the archive is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import CorruptImage, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: Bytes of a piece of a member, at the most.
CHUNK = 1 << 20


class Member(NamedTuple):
    """A regular file in an archive. Its name is what errors call it and patterns are held against, and never a path."""

    name: str
    #: Bytes, holes included.
    size: int
    #: Yields the data with its offsets, in their order, by `CHUNK` bytes at the most; what is in no piece is zeros.
    chunks: Callable[[], Iterator[tuple[int, bytes]]]

    @property
    def base(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]

    def read(self, limit: int) -> bytes:
        """Return the whole file; LimitExceeded for more than `limit` bytes."""
        if self.size > limit:
            raise LimitExceeded(f"{self.name} has {self.size} bytes, and {limit} are allowed")
        data = bytearray(self.size)
        for at, piece in self.chunks():
            data[at : at + len(piece)] = piece
        return bytes(data)

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes, fewer of a shorter file."""
        data = bytearray(min(count, self.size))
        for at, piece in self.chunks():
            if at >= len(data):
                break
            piece = piece[: len(data) - at]
            data[at : at + len(piece)] = piece
            if at + len(piece) == len(data):
                break
        return bytes(data)


def corrupt(archive: str, name: str, what: str) -> CorruptImage:
    """Return the error for what cannot be in the member `name` of an archive."""
    where = f"{archive}: {name}" if name else archive
    return CorruptImage(
        f"{where}: {what}",
        hint="the archive is damaged: fetch it again, and tell upstream if its digest is the published one",
    )
