from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.fs.ext4.inode import Inode
from recipes.formats.fs.ext4.layout import XATTR_MAGIC
from recipes.formats.fs.ext4.xattr import encode
from recipes.formats.fs.ext4.xattr_read import AttributeReader
from recipes.formats.io.sparse import BLOCK
from tests.kit.ext4_images import ACL
from tests.kit.ext4_volumes import volume

INODE = 256
#: Bytes of an entry without its name and value, and what an inode of 256 bytes has for all of them and the end.
ENTRY = 16
ROOM = 256 - 128 - 32 - 4


def decode(inode: bytes, block: bytes) -> dict[bytes, bytes]:
    """Return what the reader finds."""
    # Blocks of 4 KiB are four of the kit's.
    found = volume({4 * 8: block})
    found.block_size = BLOCK
    node = Inode(12, 0o100644, 0, 0, 0, 0, 1, 0, bytes(60), 0, 8 if block else 0, inode)
    return AttributeReader(found, lambda inode: b"").read(node).xattrs


def test_nothing_costs_no_block() -> None:
    inode, block = encode({}, INODE)
    assert block == b""
    assert decode(inode, block) == {}


def test_in_the_inode_until_there_is_no_room() -> None:
    most = ROOM - 4 - ENTRY - 4
    inode, block = encode({b"user.a": b"v" * most}, INODE)
    assert (len(inode), block) == (ROOM + 4, b"")
    inode, block = encode({b"user.a": b"v" * (most + 1)}, INODE)
    assert inode == b""
    assert len(block) == BLOCK
    assert struct.unpack_from("<3I", block) == (XATTR_MAGIC, 1, 1)


def test_in_a_block_until_there_is_no_room() -> None:
    most = BLOCK - 32 - 4 - ENTRY - 4
    _, block = encode({b"user.a": b"v" * most}, INODE)
    assert decode(b"", block) == {b"user.a": b"v" * most}
    with pytest.raises(UnsupportedFeature, match=r"extended attributes of \d+ bytes; ext4 has room for 4064"):
        encode({b"user.a": b"v" * (most + 1)}, INODE)


NAMES = st.builds(
    bytes.__add__,
    st.sampled_from([b"user.", b"trusted.", b"security."]),
    st.binary(min_size=1, max_size=60).filter(lambda name: 0 not in name),
)


@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=8))
def test_what_is_written_is_read(xattrs: dict[bytes, bytes]) -> None:
    assert decode(*encode(xattrs, INODE)) == xattrs


def test_acls_come_back_as_getxattr_gives_them() -> None:
    xattrs = {b"system.posix_acl_access": ACL, b"system.posix_acl_default": ACL}
    assert decode(*encode(xattrs, INODE)) == xattrs


@pytest.mark.parametrize(
    "name",
    [
        b"system.nfs4_acl",
        b"system.posix_acl_access.more",
        b"user.",
        b"user." + b"n" * 256,
        b"system.richacl",
        b"btrfs.compression",
        b"",
    ],
)
def test_names_that_ext4_has_no_place_for(name: bytes) -> None:
    with pytest.raises(UnsupportedFeature, match="for which ext4 has no place"):
        encode({name: b"v"}, INODE)


def test_an_acl_that_is_none() -> None:
    with pytest.raises(CorruptImage):
        encode({b"system.posix_acl_access": b"v"}, INODE)


def test_entries_are_in_the_order_that_the_kernel_searches_in() -> None:
    """By prefix, length of the name, name."""
    _, block = encode({b"trusted.a": b"v" * 300, b"user.bb": b"v", b"user.c": b"v", b"user.a": b"v"}, INODE)
    found, at = [], 32
    while block[at : at + 4] != bytes(4):
        length, prefix = block[at], block[at + 1]
        found.append((prefix, length, block[at + 16 : at + 16 + length]))
        at += 16 + (length + 3 & ~3)
    assert found == [(1, 1, b"a"), (1, 1, b"c"), (1, 2, b"bb"), (4, 1, b"a")]
