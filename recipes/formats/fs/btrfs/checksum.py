"""The four checksums that btrfs knows (fs/btrfs/fs.c, btrfs_csums)."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Callable


class Checksum(NamedTuple):
    """A way to sum bytes up; all sums are compared as the bytes that are on the disk."""

    #: Bytes of a sum.
    size: int
    of: Callable[[bytes], bytes]
    #: The sums of pieces of so many bytes, one behind the other.
    of_each: Callable[[bytes, int], bytes]


def checksum(number: int, name: str) -> Checksum:
    """Return the checksum with this number, of the file system that errors call `name`.

    Errors: `UnsupportedFeature` for a number that nobody knows, and for a checksum that a wheel is missing for.
    """
    makers = (_crc32c, _xxhash64, _sha256, _blake2b)
    if number >= len(makers):
        raise UnsupportedFeature(f"{name}: btrfs with checksums of type {number} is not supported")
    return makers[number](name)


def _crc32c(_: str) -> Checksum:
    from google_crc32c import value

    def of_each(data: bytes, size: int) -> bytes:
        # There is one for every page that is read.
        sums = [value(data[at : at + size]) for at in range(0, len(data), size)]
        return struct.pack(f"<{len(sums)}I", *sums)

    return Checksum(4, lambda data: value(data).to_bytes(4, "little"), of_each)


def _with(size: int, of: Callable[[bytes], bytes]) -> Checksum:
    """Return the checksum that `of` computes."""
    return Checksum(
        size, of, lambda data, step: b"".join([of(data[at : at + step]) for at in range(0, len(data), step)])
    )


def _xxhash64(name: str) -> Checksum:
    try:
        from xxhash import xxh64_intdigest
    except ImportError:
        raise UnsupportedFeature(
            f"{name}: btrfs with xxhash64 checksums takes a package that is not installed",
            hint="pip install 'larder-images[btrfs]', or pip install xxhash",
        ) from None
    return _with(8, lambda data: xxh64_intdigest(data).to_bytes(8, "little"))


def _sha256(_: str) -> Checksum:
    return _with(32, lambda data: hashlib.sha256(data).digest())


def _blake2b(_: str) -> Checksum:
    return _with(32, lambda data: hashlib.blake2b(data, digest_size=32).digest())
