from __future__ import annotations

from typing import Any

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.fs.ext4.layout import Compat, Incompat, RoCompat
from recipes.formats.fs.ext4.volume import Disk, Volume, crc32c
from recipes.formats.io.source import BytesSource
from tests.kit.ext4_volumes import BLOCK, BLOCKS, INODES, TABLE, image, volume


def test_what_it_says() -> None:
    found = volume()
    assert (found.block_size, found.blocks, found.inode_size, found.seed) == (BLOCK, BLOCKS, 256, None)
    assert found.compat == 0
    assert found.incompat == Incompat.FILETYPE | Incompat.EXTENTS


def test_revision_0_has_no_features() -> None:
    """What is where they are may be anything."""
    found = volume(rev_level=0, feature_incompat=0xFFFFFFFF, feature_compat=0xFFFFFFFF, inode_size=77, first_ino=9999)
    assert (found.incompat, found.compat, found.ro_compat) == (0, 0, 0)
    assert (found.inode_size, found.first_inode) == (128, 11)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"magic": 0xEF54}, "expected the magic 0xef53 in the superblock, found 0xef54"),
        ({"log_block_size": 7}, "blocks of 1 to 64 KiB"),
        ({"log_block_size": 0xFFFFFFFF}, "blocks of 1 to 64 KiB"),
        ({"blocks_per_group": 0}, "1 to 8192 blocks in a group, found 0"),
        ({"blocks_per_group": 8193}, "1 to 8192 blocks in a group, found 8193"),
        ({"inode_size": 64}, "inodes of 128 to 1024 bytes, found 64"),
        ({"inode_size": 2048}, "inodes of 128 to 1024 bytes, found 2048"),
        ({"inode_size": 192}, "inodes of 128 to 1024 bytes, found 192"),
        ({"inodes_per_group": 0}, "inodes in a group, found 0"),
        ({"inodes_per_group": 8193}, "inodes in a group, found 8193"),
        ({"first_data_block": 2}, "expected block 0 or 1 to be the first, found 2"),
        ({"blocks_count_lo": 0}, "expected block 0 or 1 to be the first"),
        ({"inodes_count": INODES + 1}, "expected at most 32 inodes in 1 groups"),
        ({"blocks_count_lo": BLOCKS + 1}, "truncated: the file system has 65 blocks"),
        ({"feature_incompat": int(Incompat.BIT64), "desc_size": 16}, "group descriptors of 32 to 1024 bytes"),
        ({"feature_incompat": int(Incompat.BIT64), "desc_size": 48}, "group descriptors of 32 to 1024 bytes"),
        ({"feature_incompat": int(Incompat.BIT64), "blocks_count_hi": 1}, "truncated"),
    ],
    ids=str,
)
def test_geometries_that_cannot_be(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        volume(**({"feature_incompat": 0x42, "desc_size": 64} | fields))


def test_the_high_half_of_the_size_counts_with_64bit_only() -> None:
    assert volume(blocks_count_hi=1).blocks == BLOCKS


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (Incompat.COMPRESSION, "the feature compression is"),
        (Incompat.DIRDATA, "the feature dirdata is"),
        (1 << 30, "the feature 0x40000000 is"),
        (Incompat.COMPRESSION | 1 << 20, "the feature compression and 0x100000 is"),
    ],
)
def test_what_only_a_newer_reader_knows_is_named(bits: int, names: str) -> None:
    with pytest.raises(UnsupportedFeature, match=names):
        volume(feature_incompat=int(Incompat.EXTENTS) | bits)


def test_what_only_a_writer_has_to_know_does_no_harm() -> None:
    assert volume(feature_ro_compat=0xFFFF0000, feature_compat=0xFFFF0000).blocks == BLOCKS


def test_the_journal_of_another_is_no_file_system() -> None:
    with pytest.raises(UnsupportedFeature, match="nothing but another file system's journal"):
        volume(feature_incompat=int(Incompat.JOURNAL_DEV))


class TestRanges:
    @pytest.mark.parametrize(("block", "count"), [(2, 1), (BLOCKS - 1, 1), (2, BLOCKS - 2)])
    def test_in_it(self, block: int, count: int) -> None:
        volume().check_range(block, count, "it")

    @pytest.mark.parametrize(("block", "count"), [(0, 1), (1, 1), (-1, 1), (BLOCKS, 1), (BLOCKS - 1, 2), (1 << 60, 1)])
    def test_out_of_it(self, block: int, count: int) -> None:
        with pytest.raises(CorruptImage, match=f"it is at block {block}, outside of the {BLOCKS} blocks"):
            volume().read(block, count, "it")


class TestChecksums:
    def test_a_superblock_that_is_not_as_it_says(self) -> None:
        data = bytearray(image(checked=True))
        data[1024 + 0x10] ^= 1
        with pytest.raises(CorruptImage, match=r"checksum .* of the superblock"):
            Volume(Disk(BytesSource(bytes(data), "disk")))

    def test_a_descriptor_that_is_not_as_it_says(self) -> None:
        data = bytearray(image(checked=True))
        data[2 * BLOCK + 8] ^= 1
        found = Volume(Disk(BytesSource(bytes(data), "disk")))
        with pytest.raises(CorruptImage, match=r"checksum .* of the descriptor of group 0"):
            found.inode_chunk(1)

    def test_a_kind_that_is_not_known(self) -> None:
        with pytest.raises(UnsupportedFeature, match="checksums of type 2"):
            volume(checked=True, checksum_type=2)

    def test_without_them_there_is_nothing_to_go_on_from(self) -> None:
        with pytest.raises(ValueError, match="without checksums"):
            volume().checksum(b"x")

    def test_pieces_are_one(self) -> None:
        found = volume(checked=True)
        assert found.checksum(b"12345", b"6789") == found.checksum(b"123456789")
        # The check value of CRC-32C, whose last inversion ext4 leaves out.
        assert crc32c(0, b"123456789") == 0xE3069283 ^ 0xFFFFFFFF


def test_a_piece_of_the_inode_table() -> None:
    found = volume({TABLE: b"a" * BLOCK, TABLE + 7: b"z" * BLOCK})
    first, stop, data = found.inode_chunk(17)
    assert (first, stop, len(data)) == (1, INODES + 1, INODES * 256)
    assert (data[:1], data[-1:]) == (b"a", b"z")


@pytest.mark.parametrize(
    ("group", "sparse", "backups"),
    [
        (1, {}, True),
        (2, {}, True),
        (2, {"feature_ro_compat": int(RoCompat.SPARSE_SUPER)}, False),
        (9, {"feature_ro_compat": int(RoCompat.SPARSE_SUPER)}, True),
        (21, {"feature_ro_compat": int(RoCompat.SPARSE_SUPER)}, False),
        (9, {"feature_compat": int(Compat.SPARSE_SUPER2)}, False),
        (0, {"feature_compat": int(Compat.SPARSE_SUPER2)}, True),
    ],
)
def test_which_groups_begin_with_a_superblock(group: int, sparse: dict[str, Any], backups: bool) -> None:
    assert volume(**sparse)._has_superblock(group) is backups


def test_where_descriptors_are_with_meta_bg() -> None:
    """Each block of them with the groups that it describes (blockgroup.rst, "Meta Block Groups")."""
    found = volume(feature_incompat=int(Incompat.META_BG), first_meta_bg=1, blocks_per_group=100)
    assert found._descriptor_block(0) == 2
    assert found._descriptor_block(1) == 1 + 32 * 100 + 1
