from __future__ import annotations

import pytest

from recipes.formats.fs.ext4.geometry import GROUP_BLOCKS, INODE_SIZE, Geometry
from recipes.formats.fs.ext4.groups import About, InodeTables, hash_seed_of, uuid_of, write_groups
from recipes.formats.fs.ext4.layout import GROUP_SIZE, INODE, Group, GroupFlag, RoCompat, Superblock, crc16
from recipes.formats.io.sparse import BLOCK

MiB = 1 << 20
ABOUT = About(bytes(range(32)), "label", 1_700_000_000, INODE.pack(*[0] * 12, b"j" * 60, *[0] * 10))


class Image:
    """A disk that keeps blocks."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        data = bytes(data)
        while data:
            number, at = divmod(offset, BLOCK)
            piece = data[: BLOCK - at]
            old = self.blocks.get(number, bytes(BLOCK))
            self.blocks[number] = old[:at] + piece + old[at + len(piece) :]
            data, offset = data[len(piece) :], offset + len(piece)

    def read(self, block: int, count: int = 1) -> bytes:
        return b"".join(self.blocks.get(number, bytes(BLOCK)) for number in range(block, block + count))


class TestTables:
    def test_each_inode_is_in_its_place(self) -> None:
        image, geometry = Image(), Geometry(512 * MiB, 10)
        tables = InodeTables(image, geometry)
        size = geometry.inodes_per_group
        numbers = [1, 2, 11, 12, size, size + 1, 2 * size + 5]
        for number in numbers:
            tables.put(number, b"%d" % number, is_dir=number % 2 == 0)
        tables.flush()
        for number in numbers:
            group, index = divmod(number - 1, size)
            table = image.read(geometry.inode_tables[group], geometry.table_blocks)
            assert table[index * INODE_SIZE :][:INODE_SIZE] == (b"%d" % number).ljust(INODE_SIZE, b"\0")

    def test_what_is_in_use_are_the_first_ones(self) -> None:
        geometry = Geometry(512 * MiB, 10)
        tables = InodeTables(Image(), geometry)
        size = geometry.inodes_per_group
        # Those that are reserved are in use from the beginning.
        assert [tables.used(group) for group in range(4)] == [10, 0, 0, 0]
        tables.put(2, b"", is_dir=True)
        tables.put(size + 3, b"", is_dir=True)
        tables.put(size + 4, b"", is_dir=False)
        assert [tables.used(group) for group in range(4)] == [size, 4, 0, 0]
        assert [tables.dirs(group) for group in range(4)] == [1, 1, 0, 0]


def written(size: int, filled: int, last: int = 12) -> tuple[Image, Geometry, Superblock]:
    image, geometry = Image(), Geometry(size, 10)
    tables = InodeTables(image, geometry)
    tables.put(last, b"x", is_dir=False)
    tables.flush()
    write_groups(image, geometry, tables, filled, ABOUT)
    return image, geometry, Superblock.unpack(image.read(0)[1024:])


def descriptors(image: Image, geometry: Geometry, at: int = 1) -> list[Group]:
    raw = image.read(at, geometry.descriptor_blocks)
    return [Group.unpack(raw, group * GROUP_SIZE) for group in range(geometry.groups)]


@pytest.mark.parametrize("size", [64 * MiB, 512 * MiB, 500 * MiB + 123, 2 << 30])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_bitmaps_and_counts_say_the_same(size: int, share: float) -> None:
    geometry = Geometry(size, 10)
    filled = max(int(share * geometry.blocks), geometry.fixed[0][1])
    image, geometry, superblock = written(size, filled)
    fixed = {block for start, stop in geometry.fixed for block in range(start, stop)}
    free = 0
    for group, descriptor in enumerate(descriptors(image, geometry)):
        blocks = geometry.group_blocks(group)
        used = [block < filled or block in fixed for block in blocks]
        assert descriptor.free_blocks_count == used.count(False)
        free += used.count(False)
        if not descriptor.flags & GroupFlag.BLOCK_UNINIT:
            bitmap = int.from_bytes(image.read(descriptor.block_bitmap), "little")
            assert [bool(bitmap >> at & 1) for at in range(GROUP_BLOCKS)] == used + [True] * (GROUP_BLOCKS - len(used))
        else:
            # The kernel takes it that nothing but a superblock and what follows it is in use.
            assert used.count(True) == geometry.head(group)
    assert superblock.free_blocks_count_lo == free
    assert superblock.blocks_count_lo == geometry.blocks


def test_inodes_are_counted() -> None:
    image, geometry, superblock = written(512 * MiB, 100, last=20)
    first, *others = descriptors(image, geometry)
    assert first.free_inodes_count == first.itable_unused == geometry.inodes_per_group - 20
    assert all(each.free_inodes_count == geometry.inodes_per_group for each in others)
    assert all(each.flags & GroupFlag.INODE_UNINIT for each in others)
    assert superblock.free_inodes_count == geometry.inodes_per_group * geometry.groups - 20
    bitmap = int.from_bytes(image.read(first.inode_bitmap), "little")
    assert bitmap == (1 << 20) - 1 | (1 << 8 * BLOCK) - (1 << geometry.inodes_per_group)


def test_the_last_group_always_has_a_bitmap() -> None:
    """Its end is nowhere else."""
    image, geometry, _ = written(512 * MiB - 40 * MiB, 100)
    assert not descriptors(image, geometry)[-1].flags & GroupFlag.BLOCK_UNINIT


def test_every_superblock_has_its_group_and_all_descriptors() -> None:
    image, geometry, first = written(2 << 30, 100)
    groups = list(geometry.superblocks())
    assert groups == [0, 1, 3, 5, 7, 9]
    for group in groups[1:]:
        at = group * GROUP_BLOCKS
        assert Superblock.unpack(image.read(at)) == first._replace(block_group_nr=group)
        assert descriptors(image, geometry, at + 1) == descriptors(image, geometry)


def test_descriptors_have_the_old_checksum() -> None:
    image, geometry, superblock = written(512 * MiB, 100)
    assert superblock.feature_ro_compat & RoCompat.GDT_CSUM
    for group, descriptor in enumerate(descriptors(image, geometry)):
        covered = superblock.uuid + group.to_bytes(4, "little") + descriptor.pack()[:-2]
        assert descriptor.checksum == crc16(0xFFFF, covered)


@pytest.mark.parametrize(("label", "stored"), [("root", b"root"), ("x" * 20, b"x" * 16), ("ö" * 10, "ö".encode() * 8)])
def test_a_label_is_cut_between_letters(label: str, stored: bytes) -> None:
    image, geometry = Image(), Geometry(64 * MiB, 10)
    write_groups(image, geometry, InodeTables(image, geometry), 100, ABOUT._replace(label=label))
    assert Superblock.unpack(image.read(0)[1024:]).volume_name.rstrip(b"\0") == stored


def test_a_label_is_not_cut_within_a_letter() -> None:
    image, geometry = Image(), Geometry(64 * MiB, 10)
    write_groups(image, geometry, InodeTables(image, geometry), 100, ABOUT._replace(label="x" + "ö" * 10))
    assert Superblock.unpack(image.read(0)[1024:]).volume_name.rstrip(b"\0") == b"x" + "ö".encode() * 7


def test_identifiers() -> None:
    identity = bytes(range(32))
    uuid = uuid_of(identity)
    assert uuid[6] >> 4 == 5, "a UUID of version 5 (RFC 9562, 5.5)"
    assert uuid[8] >> 6 == 0b10, "of the usual variant"
    assert hash_seed_of(identity) == identity[16:]
    assert uuid_of(bytes(32)) != uuid
