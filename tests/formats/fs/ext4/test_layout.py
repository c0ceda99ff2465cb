from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.formats.fs.ext4.layout import (
    INODE,
    MAGIC,
    SUPERBLOCK_SIZE,
    TIME_MAX,
    TIME_MIN,
    XATTR_PREFIXES,
    Group,
    Superblock,
    crc16,
    pack_device,
    pack_time,
    unpack_device,
    unpack_time,
)

SECOND = 1_000_000_000


def test_a_superblock_is_where_the_kernel_looks() -> None:
    """Offsets of super.rst."""
    raw = Superblock(7, 9, inode_size=128, feature_incompat=0x42, uuid=b"u" * 16, kbytes_written=5).pack()
    assert len(raw) == SUPERBLOCK_SIZE
    for offset, value in ((0x0, 7), (0x4, 9), (0x60, 0x42), (0x178, 5)):
        assert int.from_bytes(raw[offset : offset + 4], "little") == value
    assert int.from_bytes(raw[0x38:0x3A], "little") == MAGIC
    assert int.from_bytes(raw[0x58:0x5A], "little") == 128
    assert raw[0x68:0x78] == b"u" * 16
    found = Superblock.unpack(raw)
    assert (found.blocks_count_lo, found.uuid, found.kbytes_written) == (9, b"u" * 16, 5)


def test_a_descriptor_has_32_bytes_and_is_found_by_its_offset() -> None:
    group = Group(1, 2, 3, 4, 5, 6, 7, checksum=0xFFFF)
    assert len(group.pack()) == 32
    assert Group.unpack(b"x" * 32 + group.pack(), 32) == group


def test_an_inode_has_128_bytes() -> None:
    assert INODE.size == 128


@given(st.integers(TIME_MIN * SECOND, (TIME_MAX + 1) * SECOND - 1))
def test_every_time_that_has_room_comes_back(ns: int) -> None:
    seconds, extra = pack_time(ns)
    assert 0 <= seconds <= 0xFFFFFFFF
    assert 0 <= extra <= 0xFFFFFFFF
    assert unpack_time(seconds, extra) == ns


@pytest.mark.parametrize(
    ("ns", "nearest"),
    [
        (TIME_MIN * SECOND - 1, TIME_MIN * SECOND),
        (-(1 << 80), TIME_MIN * SECOND),
        ((TIME_MAX + 1) * SECOND, TIME_MAX * SECOND),
        (1 << 80, TIME_MAX * SECOND),
    ],
)
def test_times_that_have_none_become_the_nearest(ns: int, nearest: int) -> None:
    assert unpack_time(*pack_time(ns)) == nearest


def test_a_time_of_ext2_is_signed() -> None:
    assert unpack_time(0xFFFFFFFF, 0) == -SECOND
    assert unpack_time(0x7FFFFFFF, 0) == 0x7FFFFFFF * SECOND
    # inodes.rst, "Inode Timestamps": the first epoch bit set is 2038 and later.
    assert unpack_time(0x80000000, 1) == 0x80000000 * SECOND


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_every_device_comes_back(major: int, minor: int) -> None:
    assert unpack_device(pack_device(major, minor).ljust(60, b"\0")) == (major, minor)


def test_devices_as_the_kernel_writes_them() -> None:
    assert pack_device(1, 3) == bytes.fromhex("03010000 00000000")
    assert pack_device(259, 70000) == bytes.fromhex("00000000 70031111 00000000")


def test_crc16_is_linuxs() -> None:
    """The check value of CRC-16/ARC, which is the same with another beginning."""
    assert crc16(0, b"123456789") == 0xBB3D
    assert crc16(crc16(0xFFFF, b"1234"), b"56789") == crc16(0xFFFF, b"123456789") == 0x4B37


def test_the_longer_prefix_comes_first() -> None:
    names = list(XATTR_PREFIXES)
    assert all(not later.startswith(earlier) for at, earlier in enumerate(names) for later in names[at + 1 :])
