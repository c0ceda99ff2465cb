"""What is read is what Linux shows, for everything that mkfs.btrfs makes and mount does, and nothing else is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs import btrfs
from recipes.formats.fs.btrfs.layout import CHUNK, DIR_INDEX, INODE_ITEM, KEY, ROOT_ITEM, ROOT_ITEM_BODY
from recipes.formats.tree.tree import Tree
from tests.kit.btrfs_images import agrees_with_the_kernel, make, mounted, populate_extents
from tests.kit.btrfs_volumes import LOGICAL, SIZE, SYSTEM, entry_body, inode_body, leaf, volume
from tests.kit.ext4_images import populate

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.fs.btrfs.nodes import Key

#: What mkfs.btrfs makes, and how it is mounted while it is filled.
VARIANTS = {
    "as it comes": ((), ()),
    "nodes of 4 KiB, zlib": (("-n", "4096"), ("compress-force=zlib:1",)),
    "nodes of 32 KiB, LZO": (("-n", "32768"), ("compress-force=lzo",)),
    "nodes of 64 KiB, zstd": (("-n", "65536"), ("compress-force=zstd:1",)),
    "xxhash": (("--csum", "xxhash"), ("compress=zstd:15",)),
    "sha256": (("--csum", "sha256"), ("compress=zlib",)),
    "blake2": (("--csum", "blake2"), ("compress=lzo",)),
    "mixed groups": (("--mixed",), ("compress-force=zstd",)),
    "everything once": (("-m", "single", "-d", "single"), ("max_inline=0",)),
    "everything twice": (("-m", "dup", "-d", "dup"), ("compress-force=zstd",)),
    "RAID0 of one device": (("-m", "raid0", "-d", "raid0"), ()),
    "holes are items": (("-O", "^no-holes"), ("compress-force=zlib",)),
    "no extended references, old space cache": (("-O", "^extref,^skinny-metadata", "-R", "^free-space-tree"), ()),
    "quota": (("-R", "quota"), ()),
    "large inline": (("-n", "16384"), ("max_inline=4095", "compress=zstd")),
    "no data checksums": ((), ("nodatasum", "max_inline=4095")),
}


@pytest.mark.parametrize(("options", "mount"), VARIANTS.values(), ids=VARIANTS)
def test_every_variant(tmp_path: Path, options: tuple[str, ...], mount: tuple[str, ...]) -> None:
    image = tmp_path / "image"
    make(image, *options)
    with mounted(image, *mount) as folder:
        populate(folder)
        # A file either has checksums or not, and shares with its like only.
        populate_extents(folder, clone="nodatasum" not in mount)
    agrees_with_the_kernel(image)


# Trees made by hand: the root tree, the chunk tree, and that of the top level.

TREE = LOGICAL + 2 * SIZE
FOLDER = 0o040755


def fill(top: bytes) -> Tree:
    """Return what is read of a file system whose top level is the tree in this leaf."""
    root = leaf(LOGICAL, [((5, ROOT_ITEM, 0), ROOT_ITEM_BODY.pack(1, TREE, 0, 1, 0))])
    chunks = leaf(LOGICAL + SIZE, [((256, CHUNK, LOGICAL), SYSTEM[KEY.size :])])
    made = volume({LOGICAL: root, LOGICAL + SIZE: chunks, TREE: top})
    with Tree() as tree:
        top_level = btrfs.open(made.source).subvolume(5)
        assert top_level is not None
        top_level.fill(tree)
        return tree


def test_a_subvolume_without_a_root_directory() -> None:
    with pytest.raises(CorruptImage, match="the subvolume 5 has no root directory"):
        fill(leaf(TREE, [((257, INODE_ITEM, 0), inode_body(FOLDER))]))


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (entry_body(b"a", 300), "which is not there, is deleted, or of another type"),
        (entry_body(b"a", 257, 2), "or of another type"),
        (entry_body(b"a", 258), "or of another type"),
        (entry_body(b"a", 256, 2), "directory inode 256 has more than one name"),
        (entry_body(b"a", 259, 7), "symbolic link inode 259 has no target"),
        (entry_body(b"a", 257) + entry_body(b"a", 257), "directory inode 256 has the name 'a' twice"),
    ],
)
def test_names_that_cannot_be(body: bytes, match: str) -> None:
    items: list[tuple[Key, bytes]] = [
        ((256, INODE_ITEM, 0), inode_body(FOLDER)),
        ((256, DIR_INDEX, 2), body),
        ((257, INODE_ITEM, 0), inode_body(0o100644)),
        ((258, INODE_ITEM, 0), inode_body(0o100644, links=0)),
        ((259, INODE_ITEM, 0), inode_body(0o120777, 5)),
    ]
    with pytest.raises(CorruptImage, match=match):
        fill(leaf(TREE, items))


def test_sockets_are_in_no_archive() -> None:
    items: list[tuple[Key, bytes]] = [
        ((256, INODE_ITEM, 0), inode_body(FOLDER)),
        ((256, DIR_INDEX, 2), entry_body(b"s", 257, 6)),
        ((256, DIR_INDEX, 3), entry_body(b"f", 258)),
        ((257, INODE_ITEM, 0), inode_body(0o140777)),
        ((258, INODE_ITEM, 0), inode_body(0o100644)),
    ]
    assert list(fill(leaf(TREE, items)).root.children) == [b"f"]
