"""What is not read is refused by name, and damage is found, or mended from the second copy."""

from __future__ import annotations

import os
import shutil
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LarderError, LimitExceeded, UnsupportedFeature
from recipes.formats.fs import btrfs
from recipes.formats.fs.btrfs.layout import SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE
from recipes.formats.io.source import FileSource
from recipes.formats.tree.tree import Tree
from tests.kit.btrfs_images import (
    MiB,
    agrees_with_the_kernel,
    facts,
    kernel_facts,
    make,
    mounted,
    noise,
    patch_superblock,
    reflink,
    text,
)
from tests.kit.ext4_images import copy, tool
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        (folder / "file").write_bytes(noise(100_000))
    return image


@pytest.mark.parametrize(
    ("at", "value", "named"),
    [
        (188, 0x1341, "the feature zoned "),
        (188, 0x341 | 1 << 14, "the feature raid_stripe_tree "),
        (188, 0x341 | 1 << 13 | 1 << 40, "the feature extent_tree_v2 and 0x10000000000 "),
        (56, 1 << 33, "the state metadump"),
        (56, 1 << 36 | 1, "the state changing_fsid_v2"),
        (136, 3, r"several devices \(3, seed devices included, of which this is number 1\)"),
    ],
)
def test_what_the_superblock_says(image: Path, at: int, value: int, named: str) -> None:
    patch_superblock(image, at, value.to_bytes(8, "little"))
    with pytest.raises(UnsupportedFeature, match=named):
        facts(image)


def test_an_unknown_checksum(image: Path) -> None:
    patch_superblock(image, 196, b"\4\0")
    with pytest.raises(UnsupportedFeature, match="checksums of type 4"):
        facts(image)


def test_several_devices(tmp_path: Path) -> None:
    need("mkfs.btrfs")
    one, two = tmp_path / "one", tmp_path / "two"
    for each in (one, two):
        with each.open("wb") as file:
            file.truncate(128 * MiB)
    tool("mkfs.btrfs", "-q", "-f", "-d", "raid1", "-m", "raid1", str(one), str(two))
    for number, each in enumerate((one, two), 1):
        with pytest.raises(UnsupportedFeature, match=rf"several devices \(2, .* number {number}\)") as caught:
            facts(each)
        assert "btrfs device remove" in str(caught.value)
        # Whatever the superblock says, the chunks do not lie.
        patch_superblock(each, 136, (1).to_bytes(8, "little"))
        with pytest.raises(UnsupportedFeature, match="data on other devices"):
            facts(each)


def test_raid5_is_named(tmp_path: Path) -> None:
    need("mkfs.btrfs")
    images = [tmp_path / name for name in "abc"]
    for each in images:
        with each.open("wb") as file:
            file.truncate(256 * MiB)
    tool("mkfs.btrfs", "-q", "-f", "-d", "raid5", "-m", "raid5", *map(str, images))
    patch_superblock(images[0], 136, (1).to_bytes(8, "little"))
    with pytest.raises(UnsupportedFeature, match=r"btrfs with RAID5 \(the chunk at"):
        facts(images[0])


def test_a_log_that_was_not_replayed(image: Path, tmp_path: Path) -> None:
    frozen = tmp_path / "copy"
    with mounted(image) as folder:
        with (folder / "late").open("wb") as file:
            file.write(b"late")
            file.flush()
            os.fsync(file.fileno())
        copy(image, frozen)
    with pytest.raises(UnsupportedFeature, match="a log that was not replayed") as caught:
        facts(frozen)
    assert "mount and unmount it once" in str(caught.value)
    # What the hint says does help.
    with mounted(frozen):
        pass
    assert agrees_with_the_kernel(frozen)[b"late"].size == 4


def test_a_seed(image: Path) -> None:
    need("btrfstune")
    tool("btrfstune", "-S", "1", str(image))
    assert facts(image)[b"file"].size == 100_000


@pytest.mark.parametrize(
    ("package", "options", "mount"), [("xxhash", ("--csum", "xxhash"), ()), ("lzallright", (), ("compress-force=lzo",))]
)
def test_a_package_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, options: tuple[str, ...], mount: tuple[str, ...]
) -> None:
    image = tmp_path / "image"
    make(image, *options)
    with mounted(image, *mount) as folder:
        (folder / "file").write_bytes(text(100_000))
    agrees_with_the_kernel(image)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnsupportedFeature, match="takes a package that is not installed") as caught:
        facts(image)
    assert "larder-images[btrfs]" in str(caught.value)
    assert package in str(caught.value)


def test_a_file_system_that_was_cut_off(image: Path) -> None:
    os.truncate(image, 200 * MiB)
    with pytest.raises(CorruptImage, match="truncated: the file system has 268435456 bytes, and what it is on has"):
        facts(image)


def found_at(image: Path, data: bytes) -> list[int]:
    """Return where on the disk `data` is."""
    raw, found, at = image.read_bytes(), [], -1
    while (at := raw.find(data, at + 1)) >= 0:
        found.append(at)
    return found


def test_damaged_data_is_found(image: Path) -> None:
    (at,) = found_at(image, noise(100_000)[50_000:50_100])
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), b"?", at)
    with pytest.raises(CorruptImage, match="is not what its checksums say"):
        facts(image)


def test_the_second_copy_serves(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, "-m", "dup", "-d", "dup")
    with mounted(image) as folder:
        (folder / "file with a name").write_bytes(noise(100_000))
    expected = kernel_facts(image)
    name = found_at(image, b"file with a name")
    one, other = found_at(image, noise(100_000)[50_000:50_100])
    for victims in ([one, name[0]], [other, *name]):
        broken = tmp_path / "broken"
        shutil.copy(image, broken)
        with broken.open("r+b") as file:
            for at in victims[:2]:
                os.pwrite(file.fileno(), b"?", at)
        assert facts(broken) == expected
    with image.open("r+b") as file:
        for at in name:
            os.pwrite(file.fileno(), b"?", at)
    with pytest.raises(CorruptImage, match=r"the node at 0x[0-9a-f]+: expected the checksum"):
        facts(image)


def test_a_compressed_extent_with_many_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    make(image)
    with mounted(image, "compress-force=zstd") as folder:
        (folder / "file").write_bytes(bytes(128 << 10))
        for number in range(200):
            reflink(folder / "file", folder / f"clone {number}")
        # Once in many files, and many times in one.
        for number in range(200):
            reflink(folder / "file", folder / "long", to=number * (128 << 10))
    agrees_with_the_kernel(image)
    with mounted(image) as folder:
        for number in range(100):
            (folder / f"clone {number}").unlink()
    monkeypatch.setattr("recipes.formats.io.bounds.FREE_CONTENT", 20 << 20)
    with pytest.raises(
        LimitExceeded, match=r"reading its files takes more than .* bytes, and .* have 4096 on the disk"
    ):
        facts(image)


def test_shared_nodes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        tool("btrfs", "subvolume", "create", str(folder / "one"))
        for number in range(300):
            (folder / f"one/{number}-{'n' * 100}").touch()
        for number in range(20):
            tool("btrfs", "subvolume", "snapshot", str(folder / "one"), str(folder / f"s{number}"))
    monkeypatch.setattr("recipes.formats.io.bounds.FREE_METADATA", 5_000_000)
    with image.open("rb") as file, Tree(0) as tree:
        system = btrfs.open(FileSource(file.fileno(), "the image"))
        one = system.subvolume(b"one")
        assert one is not None
        one.fill(tree)
    with image.open("rb") as file, Tree(0) as tree, pytest.raises(LimitExceeded, match="too many files"):
        btrfs.open(FileSource(file.fileno(), "the image")).fill(tree)


def test_errors_are_larders_own(image: Path) -> None:
    # Each of the numbers of the superblock, with the checksum mended.
    with image.open("rb") as file:
        raw = os.pread(file.fileno(), SUPERBLOCK_SIZE, SUPERBLOCK_OFFSET)
    refused = 0
    for at in (*range(48, 216, 4), *range(811, 908, 8)):
        for value in (0, 0xFFFFFFFF):
            patch_superblock(image, at, struct.pack("<I", value))
            try:
                with image.open("rb") as file, Tree() as tree:
                    btrfs.open(FileSource(file.fileno(), "the image")).fill(tree)
            except LarderError:
                refused += 1
            patch_superblock(image, 0, raw)
    assert refused > 40
