from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.ext4.inode import inodes
from recipes.formats.fs.ext4.layout import Incompat, InodeFlag
from tests.kit.ext4_volumes import BLOCK, INODE_SIZE, INODES, TABLE, raw_inode, volume

if TYPE_CHECKING:
    from recipes.formats.fs.ext4.volume import Volume

PER_BLOCK = BLOCK // INODE_SIZE


def table(*raws: bytes, checked: bool = False, **fields: Any) -> Volume:
    """Return a volume whose inodes from 1 on are these."""
    data = b"".join(raws)
    blocks = {TABLE + at // BLOCK: data[at : at + BLOCK] for at in range(0, len(data), BLOCK)}
    return volume(blocks, checked=checked, **fields)


def sealed(raw: bytes, number: int, *, wide: bool = True) -> bytes:
    """Return an inode with its checksum."""
    clean = bytearray(raw)
    clean[0x7C:0x7E] = bytes(2)
    if wide:
        clean[0x82:0x84] = bytes(2)
    found = volume(checked=True).checksum(struct.pack("<2I", number, 0), bytes(clean))
    clean[0x7C:0x7E] = struct.pack("<H", found & 0xFFFF)
    if wide:
        clean[0x82:0x84] = struct.pack("<H", found >> 16)
    return bytes(clean)


def test_fields_in_two_halves() -> None:
    raw = raw_inode(
        uid=70_000,
        gid=4_000_000_000,
        size=5 << 32 | 7,
        mtime=5,
        mtime_extra=3 << 2,
        acl=9,
        body=b"body",
        block=b"b" * 60,
    )
    (found,) = inodes(table(raw), [1])
    assert (found.uid, found.gid, found.size, found.mtime_ns) == (70_000, 4_000_000_000, 5 << 32 | 7, 5_000_000_003)
    assert (found.acl, found.block, found.body[:4], found.links) == (9, b"b" * 60, b"body", 1)


def test_only_regular_files_have_large_sizes() -> None:
    """A device's high half is something else."""
    raw = raw_inode(mode=0o040755, size=1 << 32 | 5)
    assert next(inodes(table(raw), [1])).size == 5
    large = table(raw, feature_incompat=Incompat.LARGEDIR | Incompat.EXTENTS)
    assert next(inodes(large, [1])).size == 1 << 32 | 5


def test_the_high_half_of_a_block_counts_with_64bit_only() -> None:
    raw = raw_inode(acl=1 << 32 | 5)
    assert next(inodes(table(raw), [1])).acl == 5
    wide = table(raw, feature_incompat=Incompat.BIT64 | Incompat.EXTENTS, desc_size=64)
    assert next(inodes(wide, [1])).acl == 1 << 32 | 5


def test_in_any_number_and_each_in_its_place() -> None:
    raws = [raw_inode(size=number) for number in range(1, INODES + 1)]
    wanted = [1, 2, PER_BLOCK, PER_BLOCK + 1, INODES]
    assert [(each.number, each.size) for each in inodes(table(*raws), wanted)] == [(each, each) for each in wanted]


@pytest.mark.parametrize("number", [0, -1, INODES + 1, 1 << 40])
def test_one_that_is_not_there(number: int) -> None:
    with pytest.raises(CorruptImage, match=f"from 1 to {INODES}, found {number}"):
        list(inodes(volume(), [number]))


@pytest.mark.parametrize("extra", [INODE_SIZE - 128 + 4, 2, 30, 0xFFFC])
def test_fields_that_cannot_be(extra: int) -> None:
    with pytest.raises(CorruptImage, match=f"{extra} bytes of fields"):
        list(inodes(table(raw_inode(extra=extra)), [1]))


def test_without_more_fields_there_are_no_attributes() -> None:
    raw = raw_inode()
    raw = raw[:128] + bytes(4) + b"x" * (INODE_SIZE - 132)
    (found,) = inodes(table(raw), [1])
    assert found.body == b""
    assert found.mtime_ns == 0


def test_inodes_of_128_bytes() -> None:
    raw = raw_inode(size=6)[:128]
    (found,) = inodes(table(raw, inode_size=128), [1])
    assert (found.size, found.body) == (6, b"")


class TestChecksums:
    def test_that_hold(self) -> None:
        found = table(sealed(raw_inode(size=3), 1), sealed(raw_inode(size=4), 2), checked=True)
        assert [each.size for each in inodes(found, [1, 2])] == [3, 4]

    @pytest.mark.parametrize("at", [0, 4, 0x7C, 0x7D, 0x82, 0x83, 0x90, INODE_SIZE - 1])
    def test_that_do_not(self, at: int) -> None:
        raw = bytearray(sealed(raw_inode(size=3), 1))
        raw[at] ^= 1
        with pytest.raises(CorruptImage, match="of inode 1, found"):
            list(inodes(table(bytes(raw), checked=True), [1]))

    def test_of_another_inode(self) -> None:
        with pytest.raises(CorruptImage, match="of inode 2, found"):
            list(inodes(table(bytes(INODE_SIZE), sealed(raw_inode(), 1), checked=True), [2]))

    def test_with_half_of_one_where_there_is_no_room_for_more(self) -> None:
        raw = sealed(raw_inode()[:128] + bytes(INODE_SIZE - 128), 1, wide=False)
        assert len(list(inodes(table(raw, checked=True), [1]))) == 1


def test_flags() -> None:
    (found,) = inodes(table(raw_inode(flags=InodeFlag.EXTENTS | InodeFlag.VERITY)), [1])
    assert found.has(InodeFlag.EXTENTS)
    assert not found.has(InodeFlag.INLINE_DATA)
