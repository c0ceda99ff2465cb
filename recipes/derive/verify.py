"""Hold an artifact's bytes against its receipt."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

from recipes.errors import ImageError
from recipes.formats.io import blkhash, sparse
from recipes.model import Digest
from recipes.progress import SILENT_METER

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Entry
    from recipes.progress import Meter, Progress

_CHUNK = 1 << 20


def damage(entry: Entry, receipt: Receipt, *, jobs: int, progress: Progress) -> str | None:
    """Return what is wrong with the artifact of `receipt`, None where its bytes are the ones that were recorded.

    A RAW is verified by its blkhash, at the price of its data; everything else by its digest.
    """
    path, expected = entry.artifact(receipt.kind), receipt.artifact
    label = f"{receipt.kind}:{receipt.image}"
    try:
        size = path.stat().st_size
        if size != expected.size:
            return f"expected {expected.size} bytes, found {size}"
        with progress.meter(label, size) as meter:
            if expected.blkhash is not None:
                found = blkhash.of_file(path, jobs=jobs, meter=meter)
                return _difference("blkhash", expected.blkhash, found)
            if expected.digest is None:
                return "the receipt records no digest"
            return _difference("digest", expected.digest, digest_of(path, expected.digest.algorithm, meter))
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    except ImageError as error:
        return error.message


def digest_of(path: Path, algorithm: str, meter: Meter = SILENT_METER) -> Digest:
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


def _difference(what: str, expected: object, found: object) -> str | None:
    return None if expected == found else f"expected {what} {expected}, found {found}"
