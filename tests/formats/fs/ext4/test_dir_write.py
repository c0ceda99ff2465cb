from __future__ import annotations

import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.formats.fs.ext4.dir import entries
from recipes.formats.fs.ext4.dir_write import DirEntry, directory, half_md4
from recipes.formats.fs.ext4.inode import Inode
from recipes.formats.fs.ext4.layout import DIR_ENTRY, FileType
from recipes.formats.io.sparse import BLOCK
from tests.kit.ext4_images import tool
from tests.kit.ext4_volumes import volume
from tests.kit.oracles import need

SEED = bytes(range(16))
WORDS = struct.unpack("<4I", SEED)


def named(count: int, length: int = 20) -> list[DirEntry]:
    return [DirEntry(b"%0*d" % (length, number), 100 + number, FileType.REGULAR) for number in range(count)]


def read(data: bytes) -> dict[bytes, int]:
    """Return the names as the reader, which knows no index, finds them."""
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    return entries(volume(), Inode(12, 0o040755, 0, 0, len(data), 0, 2, 0, bytes(60), 0, 0, b""), blocks)


@pytest.mark.parametrize("count", [0, 1, 127, 128, 146, 147, 1000])
def test_every_name_is_there_once(count: int) -> None:
    made, indexed = directory(12, 2, named(count), SEED)
    assert len(made) % BLOCK == 0
    assert indexed == (len(made) > BLOCK)
    assert read(bytes(made)) == {entry.name: entry.number for entry in named(count)}


def test_it_begins_with_itself_and_its_parent() -> None:
    for count in (0, 1000):
        made, _ = directory(12, 2, named(count), SEED)
        first = DIR_ENTRY.unpack_from(made)
        assert (first[0], first[2], first[3]) == (12, 1, FileType.DIRECTORY)
        second = DIR_ENTRY.unpack_from(made, first[1])
        assert (second[0], second[2], second[3]) == (2, 2, FileType.DIRECTORY)


def test_no_entry_crosses_a_block_and_each_block_is_full() -> None:
    made, _ = directory(12, 2, named(500, 255), SEED)
    for start in range(0, len(made), BLOCK):
        at = start
        while at < start + BLOCK:
            at += DIR_ENTRY.unpack_from(made, at)[1]
        assert at == start + BLOCK


@pytest.mark.parametrize(
    ("count", "length", "deep"), [(147, 20, 0), (2000, 20, 0), pytest.param(9_800, 200, 1, marks=pytest.mark.long)]
)
def test_the_index_leads_to_the_block_with_the_name(count: int, length: int, deep: int) -> None:
    made, _ = directory(12, 2, named(count, length), SEED)
    _, version, size, levels, _ = struct.unpack_from("<I4B", made, 24)
    assert (version, size) == (1, 8)
    leaves: list[tuple[int, int]] = []

    def node(block: int, at: int, first: int, level: int) -> None:
        limit, found = struct.unpack_from("<2H", made, block * BLOCK + at)
        assert 0 < found <= limit == (BLOCK - at) // 8
        words = struct.unpack_from(f"<{2 * found}I", made, block * BLOCK + at)
        hashes = [first, *words[2::2]]
        assert hashes == sorted(hashes)
        for each, number in zip(hashes, words[1::2], strict=True):
            leaves.append((each, number)) if not level else node(number, 8, each, level - 1)

    node(0, 32, 0, levels)
    assert levels == deep
    bounds = [first for first, _ in leaves[1:]] + [0xFFFFFFFF]
    for (first, number), stop in zip(leaves, bounds, strict=True):
        for name in read(bytes(made[number * BLOCK : (number + 1) * BLOCK])):
            assert first & ~1 <= half_md4(name, WORDS) <= stop


@given(st.binary(min_size=1, max_size=255))
def test_a_hash_is_even_and_never_the_end_of_a_directory(name: bytes) -> None:
    found = half_md4(name, WORDS)
    assert found % 2 == 0
    assert 0 <= found < 0xFFFFFFFE


@pytest.mark.parametrize("name", ["a", "abc", "abcd", "x" * 31, "y" * 32, "z" * 33, "n" * 255])
def test_hashes_are_those_of_debugfs(name: str) -> None:
    """Which takes bytes for signed ones: that makes no difference to ASCII."""
    need("debugfs")
    uuid = "-".join(SEED.hex()[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
    try:
        said = tool("debugfs", "-R", f"dx_hash -h half_md4 -s {uuid} {name}", "/dev/null")
    except subprocess.CalledProcessError as error:
        said = error.output
    assert f"is {half_md4(name.encode(), WORDS):#x} " in said


def test_without_a_seed_it_is_md4s() -> None:
    assert half_md4(b"a", (0, 0, 0, 0)) == half_md4(b"a", (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476))
    assert half_md4(b"a", (0, 0, 0, 0)) != half_md4(b"a", WORDS)
