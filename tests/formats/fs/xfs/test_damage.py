"""Damaged and hostile XFS: always an error that says where, never a traceback, a loop or more than is there."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from recipes.errors import CorruptImage, ImageError, LimitExceeded
from recipes.formats.fs import walk
from recipes.formats.fs.xfs import extents
from tests.kit.ext4_images import ACL
from tests.kit.xfs_images import SMALL, facts, make, mended, mounted

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1024
#: Of a directory: what mkfs.xfs takes with smaller blocks.
FOLDER = 4096


class Image(NamedTuple):
    """A file system, and where in it things are."""

    path: Path
    #: Name -> inode.
    numbers: dict[str, int]

    def inode(self, name: str) -> int:
        """Return the first byte of an inode."""
        number = self.numbers[name]
        data = self.path.read_bytes()
        group = number >> data[124] + data[123]
        inside = number & (1 << data[124] + data[123]) - 1
        return (group * int.from_bytes(data[84:88], "big") * BLOCK) + inside * 512

    def block(self, name: str, fork: str = "data") -> int:
        """Return the first byte of what the first extent of a file, or of its attributes, begins with."""
        data = self.path.read_bytes()
        at = self.inode(name)
        at += 176 + (data[at + 82] * 8 if fork == "attributes" else 0)
        high, low = struct.unpack_from(">QQ", data, at)
        return self.byte((high & 511) << 43 | low >> 21)

    def byte(self, block: int) -> int:
        """Return the first byte of a block."""
        data = self.path.read_bytes()
        group = int.from_bytes(data[84:88], "big")
        return ((block >> data[124]) * group + (block & (1 << data[124]) - 1)) * BLOCK

    def change(self, at: int, data: bytes) -> None:
        """Write `data`, and mend the checksum of what it is in."""
        mended(self.path, {at: data})

    def refused(self, match: str, kind: type[ImageError] = CorruptImage) -> None:
        with pytest.raises(kind, match=match) as caught:
            facts(self.path)
        assert str(self.path) in str(caught.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Image:
    path = make(tmp_path_factory.mktemp("xfs") / "image", SMALL, "-b", "size=1024")
    with mounted(path) as folder:
        (folder / "folder/inner").mkdir(parents=True)
        (folder / "folder/file").write_bytes(b"data" * 1000)
        (folder / "block").mkdir()
        for number in range(20):
            (folder / f"block/name-{number:05}").touch()
        (folder / "blocks").mkdir()
        for number in range(200):
            (folder / f"blocks/name-{number:05}").touch()
        (folder / "short").symlink_to("target")
        (folder / "long").symlink_to("t" * 900)
        os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
        with (folder / "pieces").open("wb") as file:
            for number in range(300):
                os.pwrite(file.fileno(), b"%d" % number, number * 2048)
        for name, count, size in (("inline", 2, 10), ("leaf", 9, 40), ("node", 60, 40), ("remote", 1, 5000)):
            (folder / name).touch()
            for number in range(count):
                os.setxattr(folder / name, f"user.{number:03}", b"v" * size)
        (folder / "acl").touch()
        os.setxattr(folder / "acl", "system.posix_acl_access", ACL)
        numbers = {str(each.relative_to(folder)): each.lstat().st_ino for each in folder.rglob("*")}
        numbers["."] = folder.stat().st_ino
    return Image(path, numbers)


@pytest.fixture
def image(made: Image, tmp_path: Path) -> Image:
    path = tmp_path / "image"
    path.write_bytes(made.path.read_bytes())
    return Image(path, made.numbers)


def test_it_is_whole_before(image: Image) -> None:
    assert len(facts(image.path)) > 230


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


def tree_block(image: Image) -> int:
    """Return the first byte of the first leaf of the tree that `pieces` has."""
    data = image.path.read_bytes()
    at = image.inode("pieces") + 176
    fork = data[at - 176 + 82] * 8 or 512 - 176
    (block,) = struct.unpack_from(">Q", data, at + 4 + 8 * ((fork - 4) // 16))
    return image.byte(block)


def remote_block(image: Image) -> int:
    return image.path.read_bytes().index(b"XARM")


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


INODES = [
    ("short", 0, b"XX", "expected inode"),
    ("short", 4, b"\2", "expected inode"),
    ("short", 2, b"\0\0", "has a name and is no file"),
    ("short", 2, b"\xf1\xff", "has a name and is no file"),
    ("short", 16, bytes(4), "has a name and is no file"),
    ("short", 127, b"\x20", "has a name and is no file"),
    ("short", 152, struct.pack(">Q", 9), "is not inode"),
    ("short", 5, b"\5", "forks of the formats 5"),
    ("short", 56, struct.pack(">Q", 5000), "symbolic link inode .* has 5000 bytes"),
    ("short", 56, struct.pack(">Q", 1 << 63), "has 9223372036854775808 bytes"),
    ("short", 56, struct.pack(">Q", 1000), "expected a target of 1000 bytes"),
    ("short", 56, bytes(8), "symbolic link inode .* has 0 bytes"),
    ("short", 178, b"\0", "without NUL"),
    ("long", 56, struct.pack(">Q", 1024), "expected a target of 1024 bytes"),
    ("null", 5, b"\2", "device inode .* has no numbers"),
    ("inline", 82, b"\xff", "and attributes at byte"),
    ("inline", 83, b"\7", "forks of the formats 2 and 7"),
    ("folder/file", 5, b"\1", "a fork of format 1"),
    ("folder/file", 5, b"\3", "a tree of"),
    ("folder/file", 76, struct.pack(">I", 9), "extents of 4 blocks"),
    ("pieces", 76, struct.pack(">I", 299), "expected 299 extents"),
    ("pieces", 176, b"\xff\xff", "a tree of 65535 levels"),
    ("pieces", 178, b"\xff\xff", "entries"),
    ("pieces", 178, b"\0\0", "0 of"),
    (".", 2, b"\x81\xff", "the root is not a directory"),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), INODES)
def test_inodes(image: Image, name: str, at: int, value: bytes, match: str) -> None:
    image.change(image.inode(name) + at, value)
    image.refused(match)


def extent(at: int, block: int, length: int, unwritten: bool = False) -> bytes:
    return struct.pack(">QQ", unwritten << 63 | at << 9 | block >> 43, (block << 21 | length) % (1 << 64))


@pytest.mark.parametrize(
    ("record", "match"),
    [
        (extent(0, 1 << 51, 4), "outside of the file system"),
        (extent(0, 20, 0), "twice, or out of order"),
        (extent(0, 20, (1 << 21) - 1), "outside of the file system or across groups"),
        (extent((1 << 54) - 1, 20, 4), None),
    ],
)
def test_extents(image: Image, record: bytes, match: str | None) -> None:
    image.change(image.inode("folder/file") + 176, record)
    if match:
        image.refused(match)
    else:
        # Behind the end of the file, which is legal: it was allocated ahead.
        facts(image.path)


def test_extents_that_overlap(image: Image) -> None:
    at = image.inode("folder/file")
    data = image.path.read_bytes()
    image.change(at + 176, data[at + 176 : at + 192] * 2)
    image.change(at + 76, struct.pack(">I", 2))
    image.refused("a fork twice, or out of order")


def test_a_tree_that_leads_to_itself(image: Image) -> None:
    at = image.inode("pieces") + 176
    data = image.path.read_bytes()
    fork = data[at - 176 + 82] * 8 or 512 - 176
    pointer = at + 4 + 8 * ((fork - 4) // 16)
    assert data[at + 3] > 1
    image.change(pointer + 8, data[pointer : pointer + 8])
    image.refused("is in use twice")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, b"BMAX", "found 424d4158"),
        (4, b"\0\5", "expected level 0"),
        (6, b"\0\0", "and 0$"),
        (6, b"\xff\xff", "65535"),
    ],
)
def test_blocks_of_a_tree(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(tree_block(image) + at, value)
    with pytest.raises(CorruptImage, match=match.replace("$", "")):
        facts(image.path)


def test_more_blocks_than_there_are(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "MAX_RUNS", 20)
    image.refused("in more than 20 pieces", LimitExceeded)


# Directories.


def entry(image: Image, folder: str, name: bytes) -> int:
    """Return where the entry for a name is, in the first block of a directory."""
    at = image.block(folder)
    return at + image.path.read_bytes()[at : at + BLOCK].index(name) - 9


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (b"name-0000/", "not allowed"),
        (b"name-0000\0", "not allowed"),
        (b"name-00003", "the name 'name-00003', twice"),
        (b"///////////"[:10], "not allowed"),
    ],
)
def test_names_that_no_file_can_have(image: Image, name: bytes, match: str) -> None:
    image.change(entry(image, "block", b"name-00002") + 9, name)
    image.refused(match)


@pytest.mark.parametrize("target", ["folder", "."])
def test_directories_that_are_in_themselves_or_twice(image: Image, target: str) -> None:
    number = image.numbers[target]
    image.change(entry(image, "block", b"name-00002"), struct.pack(">Q", number))
    image.refused(f"directory inode {number} has more than one name")


@pytest.mark.parametrize("number", [0, 1, 3, 1 << 40, (1 << 56) - 1])
def test_names_for_inodes_that_are_not_there(image: Image, number: int) -> None:
    image.change(entry(image, "block", b"name-00002"), struct.pack(">Q", number))
    image.refused("inode")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (8, b"\0", "an entry of"),
        (8, b"\xff", "an entry of"),
        (8, b"\x0f", "an entry of"),
        (0, b"\xff\xff\0\0", "0 unused bytes"),
        (0, b"\xff\xff\0\7", "7 unused bytes"),
        (0, b"\xff\xff\xff\xf8", "65528 unused bytes"),
        (22, b"\0\0", "an entry of 24 bytes"),
    ],
)
def test_entries(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(entry(image, "block", b"name-00002") + at, value)
    image.refused(match)


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, b"XDXX", "begins with 58445858"),
        (0, b"XDF3", "begins with 58444633"),
        (FOLDER - 8, b"\xff\xff\xff\xff", "bytes of hashes"),
    ],
)
def test_blocks_of_directories(image: Image, at: int, value: bytes, match: str) -> None:
    block = image.block("block")
    with image.path.open("r+b") as file:
        os.pwrite(file.fileno(), value, block + at)
    mended(image.path, {block + 4: bytes(4)})
    image.refused(match)


def test_the_only_block_among_several(image: Image) -> None:
    image.change(image.block("blocks"), b"XDB3")
    image.refused("begins with 58444233")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (56, struct.pack(">Q", 2), "2 bytes in its inode"),
        (56, struct.pack(">Q", 4000), "4000 bytes in its inode"),
        (176, b"\xff", "an entry at byte"),
        (182, b"\xff", "an entry at byte"),
        (182, b"\0", "not allowed"),
    ],
)
def test_directories_in_their_inode(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(image.inode("folder") + at, value)
    image.refused(match)


@pytest.mark.parametrize(
    ("records", "match"),
    [
        (lambda _: extent(1, 20, 4), "a hole before block 1"),
        (lambda _: extent(0, 20, 3), "a hole at its end"),
        (lambda _: extent(0, 20, 4), "begins with"),
        (lambda old: b"\x80" + old[1:], "blocks that were never written"),
    ],
)
def test_extents_of_directories(image: Image, records: object, match: str) -> None:
    assert callable(records)
    at = image.inode("block") + 176
    image.change(at, records(image.path.read_bytes()[at : at + 16]))
    image.refused(match)


def test_a_path_that_is_too_long(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PATH_MAX", 14)
    image.refused("has a path of more than 14 bytes", LimitExceeded)
    monkeypatch.setattr(walk, "MAX_NAMES", 20)
    image.refused("more than 20 files", LimitExceeded)


# Extended attributes.


def fork(image: Image, name: str) -> int:
    """Return where the attribute fork of an inode is."""
    at = image.inode(name)
    return at + 176 + 8 * image.path.read_bytes()[at + 82]


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
