"""Extended attributes: in the inode, in leaves and nodes, in blocks of their own."""

from __future__ import annotations

import os
import struct

import pytest

from tests.kit.xfs_damage import Image, fork, remote_block
from tests.kit.xfs_images import facts


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, b"\0\0", "has 0 bytes of attributes, and more"),
        (2, b"\xff", "bytes of attributes, and more|do not end"),
        (4, b"\xff", "bytes of attributes, and more"),
        (5, b"\xff", "bytes of attributes, and more"),
        (6, b"\6", "twice or not allowed"),
        (4, b"\0", "twice or not allowed"),
        (7, b"001", "twice or not allowed"),
        (7, b"0\x001", "twice or not allowed"),
    ],
)
def test_attributes_in_the_inode(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(fork(image, "inline") + at, value)
    image.refused(match)


def test_attributes_that_are_hidden(image: Image) -> None:
    before = dict(facts(image.path)[b"inline"].xattrs)
    at = fork(image, "inline")
    image.change(at + 6, b"\x80")
    after = dict(facts(image.path)[b"inline"].xattrs)
    assert len(before) == 2
    assert len(after) == 1
    image.change(at + 6, b"\x08")
    assert dict(facts(image.path)[b"inline"].xattrs) == after


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (8, b"\0\0", "has the magic 0x0"),
        (56, b"\xff\xff", "has 65535 entries"),
        (84, b"\xff\xf0", "is at byte 65520"),
        (84, b"\3\xfe", "is at byte 1022"),
        (84, b"\3\xf8", "is larger than the block"),
    ],
)
def test_leaves_of_attributes(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(image.block("leaf", "attributes") + at, value)
    image.refused(match)


def test_values_that_overlap(image: Image) -> None:
    at = image.block("leaf", "attributes")
    data = image.path.read_bytes()
    (place,) = struct.unpack_from(">H", data, at + 84)
    image.change(at + 56, struct.pack(">H", 60))
    # Each entry means the same 43 bytes.
    image.change(at + 80, b"".join(struct.pack(">IHBB", n, place, 1, 0) for n in range(60)))
    image.refused("is larger than the block|twice or not allowed")


@pytest.mark.parametrize("child", [0, 1 << 20, (1 << 32) - 1])
def test_nodes_of_attributes(image: Image, child: int) -> None:
    image.change(image.block("node", "attributes") + 68, struct.pack(">I", child))
    image.refused("is in use twice|is in no extent")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, b"XARX", "expected byte 0 of it"),
        (4, struct.pack(">I", 5), "expected byte 0 of it"),
        (8, bytes(4), "expected byte 0 of it"),
        (8, struct.pack(">I", 2000), "expected byte 0 of it"),
    ],
)
def test_values_in_blocks_of_their_own(image: Image, at: int, value: bytes, match: str) -> None:
    block = remote_block(image)
    with image.path.open("r+b") as file:
        os.pwrite(file.fileno(), value, block + at)
    image.refused(match)


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [(4, struct.pack(">I", 1 << 30), "a value of 1073741824 bytes"), (0, struct.pack(">I", 0), "is in use twice")],
)
def test_where_values_are(image: Image, at: int, value: bytes, match: str) -> None:
    block = image.block("remote", "attributes")
    (place,) = struct.unpack_from(">H", image.path.read_bytes(), block + 84)
    image.change(block + place + at, value)
    image.refused(match)


def test_lists_that_are_none(image: Image) -> None:
    at = fork(image, "acl")
    data = image.path.read_bytes()
    value = data.index(b"SGI_ACL_FILE", at) + 12
    image.change(value, struct.pack(">I", 4))
    image.refused("an access control list of 4 entries")
    image.change(value, struct.pack(">II", 5, 99))
    image.refused("expected an access control list")
