"""Digests of whole files and of documents, as OCI writes them."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

from recipes.model import Digest
from recipes.progress import SILENT_METER

from . import sparse

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.progress import Meter

_CHUNK = 1 << 20


def of_bytes(data: bytes, algorithm: str = "sha256") -> Digest:
    """Return the digest of `data`.

    >>> str(of_bytes(b""))[:23]
    'sha256:e3b0c44298fc1c14'
    """
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def of_file(path: Path, algorithm: str, meter: Meter = SILENT_METER) -> Digest:
    """Return the digest of a whole file; its holes count as the zeros that they read as, and are not read."""
    hasher = hashlib.new(algorithm)
    buffer = memoryview(bytearray(_CHUNK))
    zeros = memoryview(bytes(_CHUNK))
    with path.open("rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        at = 0
        # Reading a hole would fill the page cache with zeros.
        for start, stop in (*sparse.data_extents(fd, size), (size, size)):
            while at < stop:
                if at < start:
                    view = zeros[: start - at]
                else:
                    view = buffer[: os.preadv(fd, [buffer[: stop - at]], at)]
                    if not view:
                        raise OSError(errno.EIO, "the file was cut while it was being read", str(path))
                hasher.update(view)
                meter.advance(len(view))
                at += len(view)
    return Digest(algorithm, hasher.hexdigest())
