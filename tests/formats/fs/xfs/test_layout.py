from __future__ import annotations

import struct

import pytest

from recipes.formats.fs.xfs.layout import INODE, SUPERBLOCK_SIZE, Superblock, checksum_holds, unpack_time

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("seconds", "ns"), [(0, 0), (1, 5), (-1, 0), (-1, 999_999_999), (-(1 << 31), 0), ((1 << 31) - 1, 999_999_999)]
)
def test_times_of_32_bits_are_signed(seconds: int, ns: int) -> None:
    value = int.from_bytes(struct.pack(">iI", seconds, ns), "big")
    assert unpack_time(value, bigtime=False) == seconds * SECOND + ns


@pytest.mark.parametrize("ns", [-(1 << 31) * SECOND, -1, 0, 1 << 60])
def test_bigtime_counts_from_1901(ns: int) -> None:
    assert unpack_time(ns + (1 << 31) * SECOND, bigtime=True) == ns


def test_a_superblock_is_where_the_kernel_has_it() -> None:
    """Offsets of struct xfs_dsb in xfs_format.h."""
    raw = bytearray(SUPERBLOCK_SIZE)
    wide = {"dblocks": 8, "logstart": 48, "rootino": 56}
    words = {"blocksize": 4, "agblocks": 84, "agcount": 88, "logblocks": 96, "inoalignmt": 180}
    features = {"features2": 200, "ro_compat": 212, "incompat": 216, "log_incompat": 220}
    halves = {"versionnum": 100, "sectsize": 102, "inodesize": 104, "inopblock": 106}
    logs = {"blocklog": 120, "sectlog": 121, "inodelog": 122, "inopblog": 123, "agblklog": 124, "dirblklog": 192}
    fields = ((8, wide), (4, words), (4, features), (2, halves), (1, logs | {"inprogress": 126}))
    places = {name: (at, size) for size, group in fields for name, at in group.items()}
    for number, (at, size) in enumerate(places.values(), 1):
        raw[at : at + size] = number.to_bytes(size, "big")
    raw[0:4], raw[32:48], raw[248:264] = b"XFSB", b"u" * 16, b"m" * 16
    found = Superblock.unpack(bytes(raw))
    assert [getattr(found, name) for name in places] == list(range(1, len(places) + 1))
    assert (found.magic, found.uuid, found.meta_uuid) == (b"XFSB", b"u" * 16, b"m" * 16)


def test_an_inode_has_100_bytes_before_what_version_3_added() -> None:
    assert INODE.size == 100


def test_checksums() -> None:
    from google_crc32c import value

    data = b"before" + bytes(4) + b"after"
    good = b"before" + value(data).to_bytes(4, "little") + b"after"
    assert checksum_holds(good, 6)
    assert all(not checksum_holds(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], 6) for at in range(len(good)))
