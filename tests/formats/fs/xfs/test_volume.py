"""Superblocks, and what every block says of itself."""

from __future__ import annotations

import os
import struct

import pytest

from tests.kit.xfs_damage import Image, remote_block, tree_block

SUPERBLOCKS = [
    (0, b"XFSC", "expected the magic"),
    (4, struct.pack(">I", 2048), "expected blocks of 512 to 65536 bytes, found 2048 and 2 \\*\\* 10"),
    (120, b"\x1f", "expected blocks of 512 to 65536"),
    (120, b"\xff", "expected blocks of 512 to 65536"),
    (121, b"\x10", "expected sectors of 512 to 32768"),
    (122, b"\x0c", "expected inodes of 256 to 2048"),
    (123, b"\x05", "whole inodes in a block"),
    (106, b"\0\7", "whole inodes in a block"),
    (192, b"\x07", "directory blocks of at most 64 KiB"),
    (192, b"\xff", "directory blocks of at most 64 KiB"),
    (126, b"\1", "did not finish"),
    (84, bytes(4), "0 blocks in a group"),
    (124, b"\x40", "blocks in a group"),
    (88, bytes(4), "are not 0 groups"),
    (88, b"\xff\xff\xff\xff", "are not 4294967295 groups"),
    (8, struct.pack(">Q", 1 << 60), "are not 1 groups"),
    (56, struct.pack(">Q", 1 << 60), "outside of the file system"),
    (56, struct.pack(">Q", 70), "expected inode 70"),
    (48, struct.pack(">Q", 1 << 60), "the log is at block"),
    (96, b"\xff\xff\xff\xff", "the log is at block"),
    (96, bytes(4), "it has no blocks"),
]


@pytest.mark.parametrize(("at", "value", "match"), SUPERBLOCKS)
def test_superblocks(image: Image, at: int, value: bytes, match: str) -> None:
    with image.path.open("r+b") as file:
        os.pwrite(file.fileno(), value, at)
        raw = bytearray(os.pread(file.fileno(), 512, 0))
        raw[224:228] = bytes(4)
        from google_crc32c import value as crc32c

        os.pwrite(file.fileno(), crc32c(bytes(raw)).to_bytes(4, "little"), 224)
    image.refused(match)


def test_a_file_system_that_was_cut_off(image: Image) -> None:
    os.truncate(image.path, 5 << 20)
    image.refused("truncated: the file system has 16384 blocks")
    os.truncate(image.path, 100)
    image.refused("truncated")


CHECKSUMS = [
    ("the superblock", lambda _: 110),
    ("inode .*", lambda image: image.inode("short") + 170),
    ("a block of directory inode .*", lambda image: image.block("block") + 500),
    ("a block of the tree of extents .*", lambda image: tree_block(image) + 500),
    ("block 0 of the extended attributes .*", lambda image: image.block("leaf", "attributes") + 500),
    ("block 0 of the extended attributes .*", lambda image: image.block("node", "attributes") + 500),
    ("a value of 5000 bytes .*", lambda image: remote_block(image) + 500),
    ("the target of symbolic link .*", lambda image: image.block("long") + 500),
]


@pytest.mark.parametrize(("what", "place"), CHECKSUMS)
def test_checksums(image: Image, what: str, place: object) -> None:
    assert callable(place)
    at = place(image)
    old = image.path.read_bytes()[at]
    with image.path.open("r+b") as file:
        os.pwrite(file.fileno(), bytes([old ^ 1]), at)
    image.refused(f"{what} is not as its checksum says|{what}, at byte .*, is not as its checksum says")


OWNERS = [
    # Where in a block its own address, its UUID and its owner are.
    ("block", "data", (8, 24, 40)),
    ("leaf", "attributes", (16, 32, 48)),
    ("long", "data", (40, 16, 32)),
]


@pytest.mark.parametrize(("name", "fork", "places"), OWNERS)
def test_blocks_that_belong_elsewhere(image: Image, name: str, fork: str, places: tuple[int, int, int]) -> None:
    at = image.block(name, fork)
    whole = image.path.read_bytes()
    for place, match in zip(places, ("and says", "is another file system's", r"is inode \d+'s"), strict=True):
        image.change(at + place, bytes([whole[at + place] ^ 1, *whole[at + place + 1 : at + place + 7]]))
        image.refused(match)
        image.path.write_bytes(whole)
