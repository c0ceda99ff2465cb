from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.ext4.inode import Inode
from recipes.formats.fs.ext4.layout import XATTR_BLOCK_HEADER, XATTR_ENTRY, XATTR_MAGIC, InodeFlag
from recipes.formats.fs.ext4.xattr_read import AttributeReader, Attributes
from tests.kit.ext4_volumes import BLOCK, INODE_SIZE, TABLE, raw_inode, volume

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD = XATTR_BLOCK_HEADER.size


def entry(index: int, name: bytes, offset: int, size: int, holder: int = 0) -> bytes:
    return XATTR_ENTRY.pack(len(name), index, offset, holder, size, 0) + name.ljust(len(name) + 3 & ~3, b"\0")


def block(*entries: bytes, tail: bytes = b"", magic: int = XATTR_MAGIC, blocks: int = 1) -> bytes:
    data = XATTR_BLOCK_HEADER.pack(magic, 1, blocks, 0) + b"".join(entries)
    return data.ljust(BLOCK - len(tail), b"\0") + tail


def body(*entries: bytes, tail: bytes = b"", room: int = 96) -> bytes:
    data = b"".join(entries)
    return struct.pack("<I", XATTR_MAGIC) + data.ljust(room - len(tail), b"\0") + tail


def read(
    inline: bytes = b"",
    acl: int = 0,
    on: Mapping[int, bytes] | None = None,
    content: bytes = b"",
    checked: bool = False,
) -> Attributes:
    reader = AttributeReader(volume(on, checked=checked), lambda inode: content)
    return reader.read(Inode(12, 0o100644, 0, 0, 0, 0, 1, 0, bytes(60), 0, acl, inline))


def test_in_the_inode_values_are_counted_from_behind_its_head() -> None:
    assert read(body(entry(1, b"a", 92, 4), tail=b"vvvv")).xattrs == {b"user.a": b"vvvv"}


def test_in_a_block_from_its_beginning() -> None:
    assert read(acl=10, on={10: block(entry(6, b"a", BLOCK - 4, 4), tail=b"vvvv")}).xattrs == {b"security.a": b"vvvv"}


def test_the_inode_goes_before_the_block() -> None:
    on = {10: block(entry(1, b"a", BLOCK - 4, 4), entry(1, b"b", BLOCK - 4, 3), tail=b"wwww")}
    assert read(body(entry(1, b"a", 92, 4), tail=b"vvvv"), 10, on).xattrs == {b"user.a": b"vvvv", b"user.b": b"www"}


def test_inline_data_is_no_attribute() -> None:
    found = read(body(entry(7, b"data", 92, 4), tail=b"more"))
    assert found == Attributes({}, b"more")


@pytest.mark.parametrize("index", [0, 5, 7, 8, 77])
def test_what_the_kernel_does_not_show_is_left_out(index: int) -> None:
    assert read(body(entry(index, b"a", 92, 4), tail=b"vvvv")) == Attributes({}, b"")


@pytest.mark.parametrize("inline", [b"", bytes(4), bytes(96), struct.pack("<I", XATTR_MAGIC), b"\xff" * 96])
def test_no_attributes(inline: bytes) -> None:
    assert read(inline) == Attributes({}, b"")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([entry(1, b"a", 1000, 4)], "larger than what it is in"),
        ([entry(1, b"a", 0xFFFF, 65536)], "larger than what it is in"),
        ([entry(1, b"a", 0, 0xFFFFFFFF)], "larger than what it is in"),
        ([entry(1, b"a", 92, 5)], "larger than what it is in"),
        ([entry(1, b"a", 0, 60), entry(1, b"b", 0, 60)], "larger than what it is in"),
        ([XATTR_ENTRY.pack(255, 1, 0, 0, 0, 0)], "larger than what it is in"),
        ([entry(1, b"a" * 14, 0, 0)] * 3, "do not end"),
        ([entry(1, b"", 92, 4)], "called b'' of type 1"),
        ([entry(1, b"a\0b", 92, 4)], "of type 1"),
        ([entry(2, b"a", 92, 4)], "called b'a' of type 2"),
        ([entry(2, b"", 92, 4)], "inode 12: "),
    ],
)
def test_entries_that_cannot_be(entries: list[bytes], match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        read(body(*entries))


@pytest.mark.parametrize(("magic", "blocks"), [(0, 1), (XATTR_MAGIC + 1, 1), (XATTR_MAGIC, 0), (XATTR_MAGIC, 2)])
def test_a_block_that_is_none(magic: int, blocks: int) -> None:
    with pytest.raises(CorruptImage, match="block 10 of extended attributes, of inode 12: expected the magic"):
        read(acl=10, on={10: block(magic=magic, blocks=blocks)})


@pytest.mark.parametrize("acl", [1, 64, 1 << 40])
def test_a_block_that_is_not_there(acl: int) -> None:
    with pytest.raises(CorruptImage, match="outside of the 64 blocks"):
        read(acl=acl)


def test_a_block_that_files_share_is_read_once() -> None:
    found = volume({10: block(entry(1, b"a", BLOCK - 4, 4), tail=b"vvvv")})
    reader = AttributeReader(found, lambda inode: b"")
    inode = Inode(12, 0o100644, 0, 0, 0, 0, 1, 0, bytes(60), 0, 10, b"")
    first = reader.read(inode)
    found.read = None  # type: ignore[method-assign, assignment]
    assert reader.read(inode._replace(number=13)) == first


def test_the_checksum_of_a_block() -> None:
    data = block(entry(1, b"a", BLOCK - 4, 4), tail=b"vvvv")
    clean = data[:0x10] + bytes(4) + data[0x14:]
    found = volume(checked=True).checksum(struct.pack("<Q", 10), clean)
    good = data[:0x10] + struct.pack("<I", found) + data[0x14:]
    assert read(acl=10, on={10: good}, checked=True).xattrs == {b"user.a": b"vvvv"}
    with pytest.raises(CorruptImage, match="expected the checksum"):
        read(acl=10, on={10: data}, checked=True)
    with pytest.raises(CorruptImage, match="expected the checksum"):
        read(acl=11, on={11: good}, checked=True)


class TestValuesInInodes:
    def holder(self, size: int, flags: int = InodeFlag.EA_INODE) -> dict[int, bytes]:
        """Return a table whose inode 3 is one."""
        return {TABLE: bytes(2 * INODE_SIZE) + raw_inode(size=size, flags=flags)}

    def test_that_hold(self) -> None:
        assert read(body(entry(1, b"a", 0, 4, 3)), on=self.holder(4), content=b"vvvv").xattrs == {b"user.a": b"vvvv"}

    def test_of_another_size(self) -> None:
        with pytest.raises(CorruptImage, match="expected 5 bytes in inode 3, found 4"):
            read(body(entry(1, b"a", 0, 5, 3)), on=self.holder(4), content=b"vvvv")

    @pytest.mark.parametrize(("size", "flags"), [(4, 0), (65537, InodeFlag.EA_INODE)])
    def test_that_are_none(self, size: int, flags: int) -> None:
        with pytest.raises(CorruptImage, match="inode 3 is no value"):
            read(body(entry(1, b"a", 0, 4, 3)), on=self.holder(size, flags))

    def test_that_are_not_there(self) -> None:
        with pytest.raises(CorruptImage, match="expected an inode from 1 to 32, found 99"):
            read(body(entry(1, b"a", 0, 4, 99)))
