"""The file of a disk image: reads that are checked, and the errors that every format has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.io.bounds import RAISE_VIRTUAL_SIZE

if TYPE_CHECKING:
    from pathlib import Path


class ImageFile:
    """The file at `path`, open for reading as `fd`, which stays the caller's; a format is a subclass of it."""

    #: The format, as its errors call it.
    title: ClassVar[str]

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.file_size = os.fstat(fd).st_size

    def fileno(self) -> int:
        """Return the open file."""
        return self.fd

    def read(self, offset: int, size: int, what: str) -> bytes:
        """Return `size` bytes at `offset`, or raise that the file ends before the end of `what`."""
        data = os.pread(self.fd, size, offset) if offset + size <= self.file_size else b""
        if len(data) != size:
            raise self.truncated(what, offset + size)
        return data

    def require_size(self, size: int, limit: int) -> None:
        """Raise LimitExceeded for a disk of `size` bytes if that is more than the `limit`."""
        if size > limit:
            raise LimitExceeded(
                f"{self.path}: the disk has {size} bytes, more than the {limit} that are allowed",
                hint=RAISE_VIRTUAL_SIZE,
            )

    def corrupt(self, message: str) -> CorruptImage:
        """Return the error that says that the image contradicts its format."""
        return CorruptImage(f"{self.path}: corrupt {self.title} image: {message}")

    def truncated(self, what: str, end: int) -> CorruptImage:
        """Return the error that says that the file ends before `end`, where `what` should."""
        return CorruptImage(
            f"{self.path}: truncated {self.title} image: {what} ends at byte {end}, and the file at byte "
            f"{self.file_size}",
            hint="download it again",
        )

    def unsupported(self, feature: str, *, hint: str | None = None) -> UnsupportedFeature:
        """Return the error that names what larder does not read."""
        return UnsupportedFeature(f"{self.path}: {self.title} with {feature} is not supported", hint=hint)
