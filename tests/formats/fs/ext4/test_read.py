"""The reader against Linux: what a mount shows is what we read. Damage is in test_ext4_damage.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.fs.ext4.read import Ext4
from recipes.formats.io.source import FileSource, Window, read_exact
from recipes.formats.tree.tree import Extent, Tree
from tests.kit.ext4_images import (
    KiB,
    MiB,
    agrees_with_the_kernel,
    copy,
    debugfs,
    facts,
    kernel_facts,
    make,
    mounted,
    populate,
    tool,
)
from tests.kit.trees import differences, of_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEATURES = {
    "ext2": ("-t", "ext2"),
    "ext2 of revision 0, 1 KiB": ("-t", "ext2", "-r", "0", "-b", "1024"),
    "ext3, 1 KiB": ("-t", "ext3", "-b", "1024"),
    "ext4": ("-t", "ext4"),
    "1 KiB": ("-t", "ext4", "-b", "1024"),
    "2 KiB, inodes of 512 bytes": ("-t", "ext4", "-b", "2048", "-I", "512"),
    "inodes of 128 bytes": ("-t", "ext4", "-I", "128"),
    "block maps": ("-t", "ext4", "-O", "^extents,^64bit"),
    "inline data": ("-t", "ext4", "-O", "inline_data"),
    "inline data, inodes of 1 KiB": ("-t", "ext4", "-O", "inline_data", "-I", "1024"),
    "gdt_csum": ("-t", "ext4", "-O", "^metadata_csum,^64bit,uninit_bg"),
    "gdt_csum, 64bit": ("-t", "ext4", "-O", "^metadata_csum,64bit,uninit_bg"),
    "no checksums": ("-t", "ext4", "-O", "^metadata_csum,^uninit_bg"),
    "metadata_csum_seed": ("-t", "ext4", "-O", "metadata_csum_seed"),
    "bigalloc": ("-t", "ext4", "-O", "bigalloc", "-C", "16384"),
    "meta_bg": ("-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"),
    "sparse_super2": ("-t", "ext4", "-b", "1024", "-O", "sparse_super2,meta_bg,^resize_inode"),
    "no flex_bg, no sparse_super": ("-t", "ext4", "-b", "1024", "-O", "^flex_bg,^sparse_super,^resize_inode"),
    "no filetype": ("-t", "ext4", "-O", "^filetype"),
    "no dir_index": ("-t", "ext4", "-O", "^dir_index"),
    "no journal": ("-t", "ext4", "-O", "^has_journal"),
    "others": ("-t", "ext4", "-O", "mmp,orphan_file,fast_commit,large_dir,stable_inodes,encrypt,verity"),
}


@pytest.mark.parametrize("options", FEATURES.values(), ids=FEATURES)
def test_every_feature(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = tmp_path / "image"
    make(image, 80 * MiB, *options)
    with mounted(image) as folder:
        populate(folder)
    agrees_with_the_kernel(image)


def test_values_in_inodes_of_their_own(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 16 * MiB, "-t", "ext4", "-O", "ea_inode")
    with mounted(image) as folder:
        for name in ("one", "other"):
            (folder / name).touch()
            os.setxattr(folder / name, "user.large", b"v" * 60_000)
            os.setxattr(folder / name, "user.small", b"s")
    agrees_with_the_kernel(image)


def test_a_tree_of_extents_that_is_deep(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 32 * MiB, "-t", "ext4", "-b", "1024")
    with mounted(image) as folder, (folder / "file").open("wb") as file:
        # 84 in a node, and 4 in the inode.
        for number in range(1000):
            os.pwrite(file.fileno(), b"%d" % number, number * 2 * KiB)
    assert " 2/ 2 " in debugfs(image, "dump_extents file")
    agrees_with_the_kernel(image)


def test_a_directory_that_is_deeply_indexed(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 32 * MiB, "-t", "ext4", "-b", "1024", "-N", "4000")
    with mounted(image) as folder:
        (folder / "d").mkdir()
        for number in range(2000):
            (folder / f"d/{number:0200}").touch()
    assert "Indirect levels: 1" in debugfs(image, "htree d")
    agrees_with_the_kernel(image)


@pytest.mark.parametrize(("kind", "size"), [("ext4", 8), ("ext4", 32), ("ext4", 64), ("ext2", 64)])
def test_large_blocks(tmp_path: Path, kind: str, size: int) -> None:
    # Linux mounts no blocks that are larger than its pages: mke2fs -d is the oracle.
    source, image = tmp_path / "source", tmp_path / "image"
    (source / "folder").mkdir(parents=True)
    for number in range(700):
        (source / f"folder/{number}-{'n' * (number % 200)}").symlink_to("x" * (number + 1))
    (source / "large").write_bytes(os.urandom(3 * MiB + 5))
    make(image, 96 * MiB, "-t", kind, "-b", str(size * KiB), "-d", str(source), "-E", "root_owner=0:0")
    found = {path: each for path, each in facts(image).items() if path != b"lost+found"}
    expected = of_folder(source)
    assert found.keys() == expected.keys()
    for path, each in found.items():
        assert (each.digest, each.target) == (expected[path].digest, expected[path].target)


@pytest.mark.parametrize("feature", ["encrypt", "casefold", "verity", "project", "quota"])
def test_features_of_single_files_do_no_harm_to_others(tmp_path: Path, feature: str) -> None:
    # Not every kernel mounts them: mke2fs -d is the oracle.
    source, image = tmp_path / "source", tmp_path / "image"
    source.mkdir()
    (source / "file").write_text("text")
    make(image, 8 * MiB, "-t", "ext4", "-O", feature, "-d", str(source))
    assert facts(image)[b"file"].digest == of_folder(source)[b"file"].digest


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    source, image = tmp_path / "source", tmp_path / "image"
    source.mkdir()
    (source / "file").write_text("text")
    make(image, 8 * MiB, "-t", "ext4", "-O", "encrypt", "-d", str(source))
    debugfs(image, "set_inode_field file flags 0x80800")
    with pytest.raises(UnsupportedFeature, match="encrypted files"):
        facts(image)


@pytest.mark.parametrize(("bits", "name"), [(0x1000, "dirdata"), (0x80000000, "0x80000000"), (0x1, "compression")])
def test_unknown_features_are_named(tmp_path: Path, bits: int, name: str) -> None:
    image = tmp_path / "image"
    make(image, 8 * MiB, "-t", "ext4", "-O", "^metadata_csum")
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), (bits | 0x2C2).to_bytes(4, "little"), 1024 + 0x60)
    with pytest.raises(UnsupportedFeature, match=f"the feature {name} "):
        facts(image)


def test_data_stays_where_it_is(tmp_path: Path) -> None:
    image, source = tmp_path / "image", tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"d" * 100_000)
    make(image, 16 * MiB, "-t", "ext4", "-d", str(source))
    shifted = tmp_path / "shifted"
    shifted.write_bytes(bytes(512) + image.read_bytes())
    with shifted.open("rb") as file, Tree() as tree:
        Ext4(Window(FileSource(file.fileno(), "image"), 512, image.stat().st_size)).fill(tree)
        node = tree.find(b"file")
        assert node is not None
        (extent,) = node.data
        assert isinstance(extent, Extent)
        assert (extent.at, extent.length, extent.source.name) == (0, 100_000, "image")
        assert read_exact(extent.source, extent.offset, 100_000) == b"d" * 100_000


def test_a_file_of_more_than_four_gigabytes(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 8 * MiB, "-t", "ext4")
    with mounted(image) as folder, (folder / "file").open("wb") as file:
        os.pwrite(file.fileno(), b"end", (9 << 30) - 3)
    with image.open("rb") as opened, Tree() as tree:
        Ext4(FileSource(opened.fileno(), "image")).fill(tree)
        node = tree.find(b"file")
        assert node is not None
        assert node.size == 9 << 30
        assert list(node.chunks(MiB)) == [((9 << 30) - 4096, bytes(4093) + b"end")]


def test_exists_follows_symbolic_links(tmp_path: Path) -> None:
    source, image = tmp_path / "source", tmp_path / "image"
    for folder in ("etc", "usr/lib", "loop"):
        (source / folder).mkdir(parents=True)
    (source / "usr/lib/os-release").write_text("ID=debian\n")
    (source / "etc/os-release").symlink_to("../usr/lib/os-release")
    (source / "etc/absolute").symlink_to("/usr/lib/os-release")
    (source / "etc/above").symlink_to("../../../../usr/./lib//os-release")
    (source / "etc/dangling").symlink_to("nothing")
    (source / "etc/self").symlink_to("self")
    (source / "lib").symlink_to("/usr/" + "lib/../" * 20 + "lib")
    make(image, 8 * MiB, "-t", "ext4", "-d", str(source))
    with image.open("rb") as file:
        fs = Ext4(FileSource(file.fileno(), "image"))
        there = {b"", b"etc/os-release", b"etc/absolute", b"etc/above", b"lib/os-release", b"usr/lib"}
        gone = {b"etc/dangling", b"etc/self", b"nothing", b"usr/lib/os-release/x", b"etc/self/x"}
        assert {path for path in there | gone if fs.exists(path)} == there


JOURNALS = {
    "csum_v3": ("-t", "ext4"),
    "csum_v3, 1 KiB": ("-t", "ext4", "-b", "1024"),
    "no checksums": ("-t", "ext4", "-O", "^metadata_csum"),
    "no checksums, 32 bits": ("-t", "ext4", "-O", "^metadata_csum,^64bit"),
    "ext3": ("-t", "ext3", "-b", "1024"),
}


def write(path: Path, data: bytes) -> None:
    """Write a file, and have its transaction committed."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replaced(folder: Path) -> None:
    """Make blocks of metadata, commit them, free them, and write a file's data into them."""
    (folder / "d").mkdir()
    for number in range(300):
        (folder / f"d/{number:0100}").touch()
        (folder / f"d/{number}").symlink_to("s" * 200)
    write(folder / "d/file", b"committed")
    for each in (folder / "d").iterdir():
        each.unlink()
    (folder / "d").rmdir()
    write(folder / "empty", b"")
    write(folder / "data", b"D" * (6 * MiB))


def journaled(folder: Path) -> None:
    """Have a file's data in the journal, some with the journal's own magic at the beginning of a block."""
    data = bytearray(b"J" * 50_000)
    for block in range(0, 50_000, 8192):
        data[block : block + 4] = bytes.fromhex("c03b3998")
    write(folder / "data", bytes(data))
    write(folder / "short", bytes.fromhex("c03b39"))


@pytest.mark.parametrize(
    ("change", "mount"),
    [
        pytest.param(populate, (), id="everything"),
        pytest.param(replaced, (), id="revoked"),
        pytest.param(journaled, ("data=journal",), id="data"),
    ],
)
@pytest.mark.parametrize("options", JOURNALS.values(), ids=JOURNALS)
def test_a_journal_is_replayed(
    tmp_path: Path, options: tuple[str, ...], change: Callable[[Path], None], mount: tuple[str, ...]
) -> None:
    image, dirty = tmp_path / "image", tmp_path / "dirty"
    make(image, 80 * MiB, "-J", "size=8", *options)
    with mounted(image, "commit=600", *mount) as folder:
        change(folder)
        write(folder / "last", b"last")
        copy(image, dirty)
    before = dirty.read_bytes()
    found = facts(dirty)
    assert dirty.read_bytes() == before
    assert "needs_recovery" in tool("dumpe2fs", "-h", str(dirty))
    tool("sh", "-c", 'e2fsck -fp "$1" || test $? -le 2', "sh", str(dirty))
    assert differences(found, kernel_facts(dirty)) == []


@pytest.mark.parametrize("version", [2, 3])
def test_transactions_that_debugfs_writes(tmp_path: Path, version: int) -> None:
    image, data = tmp_path / "image", tmp_path / "data"
    make(image, 16 * MiB, "-t", "ext4")
    with mounted(image) as folder:
        (folder / "file").write_bytes(b"o" * 4096 * 3)
    first = int(debugfs(image, "bmap file 0").split()[-1])
    data.write_bytes(bytes.fromhex("c03b3998") + b"n" * 4092)
    debugfs(
        image,
        f"journal_open -c -v {version}",
        f"journal_write -b {first} {data}",
        f"journal_write -b {first + 1} {data}",
        f"journal_write -r {first + 1}",
        "journal_close",
    )
    with image.open("rb") as opened, Tree() as tree:
        Ext4(FileSource(opened.fileno(), "image")).fill(tree)
        node = tree.find(b"file")
        assert node is not None
        found = b"".join(piece for _at, piece in node.chunks(MiB))
    assert found == data.read_bytes() + b"o" * 8192


def test_a_journal_that_is_not_as_its_checksums_say_is_refused(tmp_path: Path) -> None:
    image, data = tmp_path / "image", tmp_path / "data"
    make(image, 16 * MiB, "-t", "ext4")
    data.write_bytes(b"unique" * 1000)
    debugfs(image, "journal_open -c", f"journal_write -b 3000 {data}", "journal_close")
    whole = image.read_bytes()
    at = whole.index(b"uniqueunique")
    image.write_bytes(whole[:at] + b"U" + whole[at + 1 :])
    with pytest.raises(CorruptImage, match="for block 3000, is not as its checksum says"):
        facts(image)


def test_a_fast_commit_is_refused_and_a_full_one_is_not(tmp_path: Path) -> None:
    image, fast, message = tmp_path / "image", tmp_path / "fast", ""
    make(image, 64 * MiB, "-t", "ext4", "-O", "fast_commit")
    with mounted(image) as folder:
        write(folder / "one", b"1")
        tool("sync", "-f", str(folder))
        for number in range(20):
            write(folder / f"two-{number}", b"2")
            copy(image, fast)
            try:
                facts(fast)
            except UnsupportedFeature as error:
                # Until then the commit was a full one, as the kernel sees fit.
                message = str(error)
                break
    assert "a fast commit in its journal" in message
    assert "e2fsck" in message
    with mounted(fast):
        pass
    assert facts(fast).keys() == kernel_facts(fast).keys()


def test_a_journal_on_another_device_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 16 * MiB, "-t", "ext4", "-O", "^metadata_csum")
    with pytest.raises(UnsupportedFeature, match="journal on another device"):
        facts(patched(image, {0x60: 0x2C6, 0xE0: 0, 0xE4: 0x801}))


def test_a_journal_alone_is_no_file_system(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 16 * MiB, "-O", "journal_dev")
    with pytest.raises(UnsupportedFeature, match="another file system's journal"):
        facts(image)


def patched(image: Path, words: dict[int, int]) -> Path:
    """Write these words of the superblock."""
    with image.open("r+b") as file:
        for offset, value in words.items():
            os.pwrite(file.fileno(), value.to_bytes(4, "little"), 1024 + offset)
    return image
