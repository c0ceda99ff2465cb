from __future__ import annotations

import struct

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.ext4.dir import entries, verify
from recipes.formats.fs.ext4.inode import Inode
from recipes.formats.fs.ext4.layout import DIR_ENTRY, InodeFlag
from tests.kit.ext4_volumes import BLOCK, volume

PLAIN = volume()
CHECKED = volume(checked=True)


def folder(flags: int = 0) -> Inode:
    return Inode(12, 0o040755, 0, 0, BLOCK, 0, 2, flags, bytes(60), 7, 0, b"")


def entry(name: bytes, number: int = 20, length: int | None = None, name_length: int | None = None) -> bytes:
    size = DIR_ENTRY.size + len(name) + 3 & ~3
    head = DIR_ENTRY.pack(
        number, size if length is None else length, len(name) if name_length is None else name_length, 1
    )
    return (head + name).ljust(size, b"\0")


def block(*packed: bytes) -> bytes:
    """Return a block with these entries; one that is deleted has the rest."""
    data = b"".join(packed)
    return data + DIR_ENTRY.pack(0, BLOCK - len(data), 0, 0).ljust(BLOCK - len(data), b"\0")


def names(*areas: bytes) -> dict[bytes, int]:
    return entries(PLAIN, folder(), areas)


def test_names_and_their_inodes() -> None:
    assert names(block(entry(b".", 12), entry(b"..", 2), entry(b"a", 21)), block(entry(b"b" * 255, 22))) == {
        b"a": 21,
        b"b" * 255: 22,
    }


def test_nothing() -> None:
    assert names() == {}
    assert names(block()) == {}


def test_what_was_deleted_has_any_name() -> None:
    assert names(block(entry(b"a/b", 0), entry(b"a", 21))) == {b"a": 21}


def test_an_entry_has_room_behind_its_name() -> None:
    data = entry(b"a", 21, length=BLOCK).ljust(BLOCK, b"x")
    assert names(data) == {b"a": 21}


@pytest.mark.parametrize("name", [b"", b"a/b", b"a\0b", b"/"])
def test_names_that_no_file_has(name: bytes) -> None:
    with pytest.raises(CorruptImage, match="directory inode 12 has the name"):
        names(block(entry(name, length=12)) if not name else block(entry(name)))


@pytest.mark.parametrize("across", [False, True])
def test_the_same_name_twice(across: bool) -> None:
    areas = [block(entry(b"a")), block(entry(b"a"))] if across else [block(entry(b"a"), entry(b"a"))]
    with pytest.raises(CorruptImage, match="the name 'a', twice"):
        names(*areas)


@pytest.mark.parametrize(
    "data",
    [
        entry(b"a", length=0) + bytes(BLOCK),
        entry(b"a", length=8) + bytes(BLOCK),
        entry(b"abcde", length=12) + bytes(BLOCK),
        entry(b"a", length=14) + bytes(BLOCK),
        entry(b"a", length=BLOCK + 4).ljust(BLOCK, b"\0"),
        entry(b"a", name_length=5) + bytes(BLOCK),
    ],
    ids=["0", "less than any", "less than its name", "odd", "more than its block", "a name that is longer"],
)
def test_entries_of_a_wrong_length(data: bytes) -> None:
    with pytest.raises(CorruptImage, match=r"an entry of .* bytes at byte 0"):
        names(data)


@pytest.mark.parametrize("rest", [1, 4, 7])
def test_an_entry_that_is_cut_off(rest: int) -> None:
    with pytest.raises(CorruptImage, match=f"an entry at byte 12 of {12 + rest}"):
        names(entry(b"a") + bytes(rest))


@pytest.mark.parametrize("length", [0, 0xFFFF, 0xFFFC | 0])
def test_lengths_in_blocks_of_64_kib(length: int) -> None:
    """A whole block has no room in 16 bits; the lower two of others count on."""
    wide = volume()
    wide.block_size = 1 << 16
    data = entry(b"a", 21, length=length).ljust(1 << 16, b"\0")
    if length == 0xFFFC:
        data = data[:length] + DIR_ENTRY.pack(0, 0, 0, 0)[:4]
        with pytest.raises(CorruptImage, match="an entry at byte 65532 of 65536"):
            entries(wide, folder(), [data.ljust(1 << 16, b"\0")])
    else:
        assert entries(wide, folder(), [data]) == {b"a": 21}


def sealed(data: bytes) -> bytes:
    """Return a leaf with its checksum, which takes its last 12 bytes."""
    body = data[: BLOCK - 12]
    return body + struct.pack("<IHBBI", 0, 12, 0, 0xDE, CHECKED.checksum(folder().salt, body))


def indexed(data: bytes, at: int, most: int, count: int) -> bytes:
    """Return an inner node whose limit and count are at `at`, with its checksum."""
    node = bytearray(data.ljust(BLOCK, b"\0"))
    struct.pack_into("<2H", node, at, most, count)
    tail = at + most * 8
    if tail + 8 <= BLOCK:
        found = CHECKED.checksum(folder().salt, bytes(node[: at + count * 8]), bytes(node[tail : tail + 4]), bytes(4))
        struct.pack_into("<I", node, tail + 4, found)
    return bytes(node)


ROOT = DIR_ENTRY.pack(12, 12, 1, 2) + b".\0\0\0" + DIR_ENTRY.pack(2, BLOCK - 12, 2, 2) + b"..\0\0"
NODE = DIR_ENTRY.pack(0, BLOCK, 0, 0)
INDEX = folder(InodeFlag.INDEX)


class TestChecksums:
    def test_of_a_leaf(self) -> None:
        good = sealed(block(entry(b"a"), entry(b"b")))
        verify(CHECKED, folder(), good)
        verify(CHECKED, INDEX, good)
        with pytest.raises(CorruptImage, match="a block with the checksum"):
            verify(CHECKED, folder(), good[:8] + b"c" + good[9:])
        with pytest.raises(CorruptImage, match="a block with the checksum"):
            verify(CHECKED, folder()._replace(number=13), good)

    def test_a_leaf_without_one(self) -> None:
        with pytest.raises(CorruptImage, match="a block without a checksum"):
            verify(CHECKED, folder(), block(entry(b"a")))

    @pytest.mark.parametrize(("head", "at"), [(ROOT, 0x20), (NODE, 0x8)], ids=["root", "node"])
    def test_of_an_inner_node(self, head: bytes, at: int) -> None:
        good = indexed(head, at, 50, 3)
        verify(CHECKED, INDEX, good)
        # What is behind the last hash that is there does not count.
        verify(CHECKED, INDEX, good[: at + 24] + b"x" + good[at + 25 :])
        with pytest.raises(CorruptImage, match="a block with the checksum"):
            verify(CHECKED, INDEX, good[: at + 4] + b"x" + good[at + 5 :])

    @pytest.mark.parametrize(("most", "count"), [(50, 51), (127, 3), (0xFFFF, 3)])
    def test_of_more_hashes_than_there_can_be(self, most: int, count: int) -> None:
        with pytest.raises(CorruptImage, match=f"{count} of {most} hashes in a block"):
            verify(CHECKED, INDEX, indexed(NODE, 8, most, count))

    def test_without_an_index_there_are_no_inner_nodes(self) -> None:
        with pytest.raises(CorruptImage, match="a block without a checksum"):
            verify(CHECKED, folder(), indexed(NODE, 8, 50, 3))
