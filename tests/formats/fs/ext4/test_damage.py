"""Damaged and hostile ext4: always an error that says where, never a traceback, a loop or more than is there."""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.errors import CorruptImage, ImageError, LimitExceeded
from recipes.formats.fs import walk
from recipes.formats.fs.ext4 import map as ext4_map
from recipes.formats.fs.ext4.read import Ext4
from recipes.formats.io.source import FileSource
from recipes.formats.tree.tree import Tree
from tests.kit.ext4_images import ACL, KiB, MiB, debugfs, facts, make, mounted

if TYPE_CHECKING:
    from collections.abc import Callable

#: Without checksums, so that damage gets as far as it can.
PLAIN = ("-t", "ext4", "-b", "1024", "-N", "64", "-O", "^metadata_csum,^uninit_bg,^resize_inode,^has_journal")
MAPPED = (*PLAIN[:-1], f"{PLAIN[-1]},^extents,^64bit")
INLINE = (*PLAIN[:-1], f"{PLAIN[-1]},inline_data")
CHECKED = ("-t", "ext4", "-b", "1024", "-N", "64", "-O", "^resize_inode,^has_journal")


def content(folder: Path) -> None:
    (folder / "folder/inner").mkdir(parents=True)
    (folder / "folder/file").write_bytes(b"data" * 5000)
    (folder / "link").symlink_to("t" * 100)
    (folder / "short").symlink_to("target")
    with (folder / "holes").open("wb") as file:
        for at in range(0, 200 * KiB, 20 * KiB):
            os.pwrite(file.fileno(), b"x" * 1024, at)
    os.setxattr(folder / "folder/file", "user.small", b"value")
    os.setxattr(folder / "folder", "user.large", b"v" * 500)
    os.setxattr(folder / "folder/inner", "system.posix_acl_access", ACL)


def filled(image: Path, *options: str) -> Path:
    make(image, 512 * KiB, *options)
    with mounted(image) as folder:
        content(folder)
    return image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return filled(tmp_path / "image", *PLAIN)


def write(image: Path, at: int, data: bytes) -> None:
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), data, at)


def refused(image: Path, match: str, kind: type[ImageError] = CorruptImage) -> None:
    with pytest.raises(kind, match=match) as caught:
        facts(image)
    assert str(image) in str(caught.value)


def block_of(image: Path, path: str, number: int = 0) -> int:
    """Return the first byte of a block of the file."""
    return int(debugfs(image, f"bmap {path} {number}").split()[-1]) * 1024


def number_of(image: Path, path: str) -> int:
    """Return the inode of the file."""
    return int(debugfs(image, f"stat {path}").partition("Inode: ")[2].split()[0])


@pytest.mark.parametrize(
    ("offset", "value", "match"),
    [
        (0x38, b"\0\0", "the magic 0xef53"),
        (0x18, b"\x07\0\0\0", "blocks of 1 to 64 KiB"),
        (0x18, b"\xff\xff\xff\xff", "blocks of 1 to 64 KiB"),
        (0x20, bytes(4), "blocks in a group"),
        (0x28, bytes(4), "inodes in a group"),
        (0x28, b"\xff\xff\0\0", "inodes in a group"),
        (0x58, b"\x00\x00", "inodes of 128 to 1024 bytes"),
        (0x58, b"\x90\x01", "inodes of 128 to 1024 bytes"),
        (0x58, b"\x00\x08", "inodes of 128 to 1024 bytes"),
        (0x14, b"\x02\0\0\0", "block 0 or 1 to be the first"),
        (0x00, b"\xff\xff\xff\xff", "at most 64 inodes in 1 groups"),
        (0xFE, b"\x21\x00", "group descriptors of 32 to 1024 bytes"),
        (0x04, b"\xff\xff\xff\x00", "truncated: the file system has 16777215 blocks"),
        (0x150, b"\xff\xff\xff\xff", "truncated"),
    ],
)
def test_superblocks(image: Path, offset: int, value: bytes, match: str) -> None:
    write(image, 1024 + offset, value)
    refused(image, match)


def test_a_file_system_that_was_cut_off(image: Path) -> None:
    os.truncate(image, 500 * KiB)
    refused(image, "truncated")
    os.truncate(image, 1500)
    refused(image, "truncated")


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (1024 + 0x78, "the superblock"),
        (2048 + 0x10, "the descriptor of group 0"),
    ],
)
def test_checksums_of_what_is_at_a_fixed_place(tmp_path: Path, at: int, what: str) -> None:
    image = filled(tmp_path / "image", *CHECKED)
    facts(image)
    write(image, at, b"\x77")
    refused(image, f"expected the checksum .* of {what}")


@pytest.mark.parametrize("gdt", ["uninit_bg,^metadata_csum", "uninit_bg,^metadata_csum,^64bit"])
def test_checksums_of_descriptors_alone(tmp_path: Path, gdt: str) -> None:
    image = filled(tmp_path / "image", *CHECKED[:-1], f"{CHECKED[-1]},{gdt}")
    facts(image)
    write(image, 2048 + 0x10, b"\x77")
    refused(image, "expected the checksum .* of the descriptor of group 0")


@pytest.mark.parametrize(
    ("place", "match"),
    [
        (lambda image: block_of(image, "folder") + 900, "directory inode .* a block with the checksum"),
        (lambda image: xattr_block(image, "folder") + 900, "extended attributes, .*expected the checksum"),
        (lambda image: extent_block(image, "holes") + 30, "extent tree"),
    ],
)
def test_checksums_of_blocks(tmp_path: Path, place: Callable[[Path], int], match: str) -> None:
    image = filled(tmp_path / "image", *CHECKED)
    facts(image)
    write(image, place(image), b"\x42")
    refused(image, match)


def test_the_checksum_of_an_inode(tmp_path: Path) -> None:
    image = filled(tmp_path / "image", *CHECKED)
    number = number_of(image, "short")
    write(image, inode_of(image, "short") + 0x10, b"\x42")
    refused(image, f"expected the checksum .* of inode {number}, found")


def inode_of(image: Path, path: str) -> int:
    """Return the first byte of the inode."""
    block, offset = debugfs(image, f"imap {path}").partition("located at block ")[2].split(", offset ")
    return int(block) * 1024 + int(offset, 16)


def xattr_block(image: Path, path: str) -> int:
    return int(debugfs(image, f"stat {path}").partition("File ACL: ")[2].split()[0]) * 1024


def extent_block(image: Path, path: str) -> int:
    """Return the first byte of the node below the root of an extent tree."""
    return int(debugfs(image, f"stat {path}").partition("(ETB0):")[2].split(",")[0].split()[0]) * 1024


ENTRY = struct.Struct("<IHBB")


def rename(image: Path, folder: str, old: bytes, new: bytes) -> None:
    """Overwrite a name in a directory by one of the same length."""
    at = block_of(image, folder)
    block = image.read_bytes()[at : at + 1024]
    write(image, at + block.index(old), new)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"inner", b"in/er"), (b"inner", b"in\0er"), (b"inner", b"/////")],
)
def test_names_that_no_file_can_have(image: Path, old: bytes, new: bytes) -> None:
    rename(image, "folder", old, new)
    refused(image, "the name .* not allowed")


def test_the_same_name_twice(image: Path) -> None:
    debugfs(image, "link link shore")
    rename(image, "/", b"shore", b"short")
    refused(image, "the name 'short', twice")


@pytest.mark.parametrize("target", ["folder", "/"])
def test_directories_that_are_in_themselves_or_twice(image: Path, target: str) -> None:
    debugfs(image, f"link {target} folder/inner/again")
    refused(image, f"directory inode {number_of(image, target)} has more than one name")


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("mode", "0", "has a name and is no file"),
        ("mode", "0170644", "has a name and is no file"),
        ("links_count", "0", "has a name and is no file"),
        ("flags", "0x280000", "has a name and is no file"),
        ("extra_isize", "3", "bytes of fields behind the first 128"),
        ("extra_isize", "400", "bytes of fields behind the first 128"),
        ("file_acl", "1", "at block 1, outside"),
        ("file_acl", "99999", "at block 99999, outside"),
        ("file_acl", "300", "extended attributes.*expected the magic"),
    ],
)
def test_inodes(image: Path, field: str, value: str, match: str) -> None:
    debugfs(image, f"set_inode_field folder/file {field} {value}")
    refused(image, match)


@pytest.mark.parametrize(("number", "match"), [(9999, "from 1 to 64"), (7, "which is reserved"), (60, "is no file")])
def test_names_for_inodes_that_are_not_there(image: Path, number: int, match: str) -> None:
    at = block_of(image, "folder")
    block = image.read_bytes()[at : at + 1024]
    write(image, at + block.index(b"inner") - ENTRY.size, struct.pack("<I", number))
    refused(image, match)


@pytest.mark.parametrize("length", [0, 4, 8, 11, 14, 4096])
def test_entries_of_a_wrong_length(image: Path, length: int) -> None:
    at = block_of(image, "folder")
    block = image.read_bytes()[at : at + 1024]
    write(image, at + block.index(b"inner") - 4, struct.pack("<H", length))
    refused(image, f"directory inode {number_of(image, 'folder')} has an entry of {length} bytes")


def extents(entries: list[tuple[int, int, int]], *, depth: int = 0, most: int = 4, magic: int = 0xF30A) -> bytes:
    """Return the root of an extent tree: first block of the file, blocks, block on the disk (or of the child)."""
    form = "<I2HI" if depth == 0 else "<2I2H"
    packed = [
        struct.pack(form, at, count, block >> 32, block & 0xFFFFFFFF)
        if depth == 0
        else struct.pack(form, at, block & 0xFFFFFFFF, block >> 32, 0)
        for at, count, block in entries
    ]
    return (struct.pack("<4HI", magic, len(entries), most, depth, 0) + b"".join(packed)).ljust(60, b"\0")


def with_block(image: Path, path: str, block: bytes) -> None:
    """Overwrite the 60 bytes of i_block."""
    write(image, inode_of(image, path) + 0x28, block)


@pytest.mark.parametrize(
    ("block", "match"),
    [
        (extents([(0, 1, 300)], magic=0), "damaged node .magic 0x0"),
        (extents([(0, 1, 300)], most=5), "damaged node"),
        (extents([(0, 1, 300)] * 4, most=2), "damaged node"),
        (extents([], depth=1), "damaged node"),
        (extents([(0, 1, 300)], depth=6), "damaged node"),
        (extents([(0, 1, 300)], depth=1), "damaged node"),
        (extents([(0, 0, 300)]), "an extent without blocks"),
        (extents([(0, 1, 0)]), "at block 0, outside"),
        (extents([(0, 1, 512)]), "at block 512, outside"),
        (extents([(0, 1, 1 << 40)]), "outside"),
        (extents([(0, 20, 500)]), "at block 500, outside"),
        (extents([(0, 2, 300), (1, 2, 310)]), "twice, or out of order"),
        (extents([(4, 2, 300), (0, 2, 310)]), "twice, or out of order"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_extent_trees(image: Path, block: bytes, match: str) -> None:
    with_block(image, "folder/file", block)
    refused(image, match)


def test_an_extent_tree_that_is_in_itself(image: Path) -> None:
    node = extents([(0, 1, 400), (1, 1, 400)], depth=1)
    with_block(image, "folder/file", extents([(0, 1, 400)], depth=2))
    write(image, 400 * 1024, node)
    write(image, 400 * 1024 + 12 + 4, struct.pack("<I", 401))
    write(image, 401 * 1024, extents([(0, 1, 300)]))
    write(image, 400 * 1024 + 24 + 4, struct.pack("<I", 401))
    refused(image, "block 401, of inode .* is in use twice")


def test_a_block_map_that_is_in_itself(tmp_path: Path) -> None:
    image = filled(tmp_path / "image", *MAPPED)
    with_block(image, "folder/file", struct.pack("<15I", *[0] * 13, 400, 0))
    debugfs(image, "set_inode_field folder/file size 0x1000000")
    write(image, 400 * 1024, struct.pack("<2I", 401, 401))
    refused(image, "block 401, of inode .* is in use twice")
    write(image, 400 * 1024, struct.pack("<2I", 401, 70_000))
    refused(image, "at block 70000, outside")


def test_files_that_claim_the_same_blocks_again_and_again(image: Path) -> None:
    debugfs(image, "set_inode_field folder/file size 0x1000000")
    with_block(image, "folder/file", extents([(0, 400, 100), (400, 400, 100)]))
    refused(image, "more blocks than there are")


def test_directories_that_share_a_block(image: Path) -> None:
    with_block(image, "folder/inner", extents([(0, 1, block_of(image, "lost+found") // 1024)]))
    refused(image, "is in use twice|more than one name")


@pytest.mark.parametrize("size", ["0", "5000", "0x7fffffff"])
def test_targets_of_symbolic_links(image: Path, size: str) -> None:
    debugfs(image, f"set_inode_field link size {size}")
    refused(image, "symbolic link inode")


def test_inline_data_that_is_not_all_there(tmp_path: Path) -> None:
    image = filled(tmp_path / "image", *INLINE)
    debugfs(image, "set_inode_field folder/file flags 0x10080000")
    refused(image, "expected 20000 bytes of data in it, found 60")


@pytest.mark.parametrize(
    ("module", "limit", "value", "match"),
    [(walk, "MAX_NAMES", 5, "more than 5 files"), (ext4_map, "MAX_RUNS", 8, "more than 8 pieces")],
)
def test_limits(
    image: Path, monkeypatch: pytest.MonkeyPatch, module: object, limit: str, value: int, match: str
) -> None:
    monkeypatch.setattr(module, limit, value)
    refused(image, match, LimitExceeded)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 4 * MiB, "-t", "ext4", "-b", "1024")
    with mounted(image) as folder:
        here = os.open(folder, os.O_RDONLY)
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=here)
            inner = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)
    refused(image, "a path of more than 4096 bytes", LimitExceeded)


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    images = {}
    kinds = {"extents": PLAIN, "block maps": MAPPED, "inline data": INLINE, "journal": ("-t", "ext3", "-b", "1024")}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in kinds.items():
            image = Path(folder) / "image"
            if name == "journal":
                make(image, 2 * MiB, *options)
                data = Path(folder) / "data"
                data.write_bytes(b"\xc0\x3b\x39\x98" * 512)
                debugfs(image, "journal_open", f"journal_write -b 900-901 -r 902 {data}", "journal_close")
            else:
                filled(image, *options)
            images[name] = image.read_bytes()
    return images


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.parametrize("name", ["extents", "block maps", "inline data", "journal"])
def test_damage_is_refused_and_nothing_else(
    whole: dict[str, bytes], tmp_path: Path, name: str, data: st.DataObject
) -> None:
    image = bytearray(whole[name])
    # Blocks with something in them, the file's data apart.
    used = [at for at in range(1024, len(image), 1024) if any(image[at : at + 1024]) and image[at : at + 2] != b"da"]
    for _ in range(data.draw(st.integers(1, 5))):
        block = data.draw(st.sampled_from(used))
        filled = [at for at in range(block, block + 1024) if image[at]] or [block]
        at = data.draw(st.one_of(st.sampled_from(filled), st.integers(block, block + 1023)))
        value = data.draw(st.sampled_from([b"\0", b"\xff", b"\x01", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x02\0\0\0"]))
        image[at : at + len(value)] = value
    path = tmp_path / "image"
    path.write_bytes(image)
    with suppress(ImageError), path.open("rb") as file, Tree() as tree:
        fs = Ext4(FileSource(file.fileno(), str(path)))
        fs.exists(b"folder/inner/../link")
        fs.fill(tree)
        for _name, node in tree.walk():
            assert sum(len(piece) for _at, piece in node.chunks(MiB)) <= len(image)
