from __future__ import annotations

from typing import TYPE_CHECKING, cast

import google_crc32c
import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.btrfs.btree import BTree
from recipes.formats.fs.btrfs.layout import DIR_ITEM, EXTENT_DATA, INODE_ITEM, ROOT_ITEM
from recipes.formats.fs.btrfs.lookup import Lookup
from recipes.formats.fs.btrfs.nodes import Key, Nodes, Pointer
from tests.kit.btrfs_volumes import LOGICAL, SIZE, entry_body, inline_body, inode_body, leaf, volume

if TYPE_CHECKING:
    from recipes.formats.fs.btrfs.subvolumes import Reference, Subvolumes

FOLDER, FILE, LINK = 0o040755, 0o100644, 0o120777
Items = list[tuple[Key, bytes]]


def hashed(name: bytes) -> int:
    """Return a name's hash: a CRC32C that begins with ~1 and is not inverted."""
    return int(google_crc32c.extend(1, name)) ^ 0xFFFFFFFF


def names(directory: int, **found: tuple[int, int]) -> Items:
    """Return the items for these names, each an inode and a type."""
    return [
        (
            (directory, DIR_ITEM, hashed(name.encode())),
            entry_body(name.encode(), number, kind, item=ROOT_ITEM if kind == 9 else 1),
        )
        for name, (number, kind) in found.items()
    ]


class Trees:
    """Subvolumes with these items; 7 is at d/sub of 5 and nowhere else."""

    def __init__(self, trees: dict[int, Items]) -> None:
        places = {number: LOGICAL + index * SIZE for index, number in enumerate(trees)}
        self.volume = volume({places[number]: leaf(places[number], sorted(items)) for number, items in trees.items()})
        nodes = Nodes(self.volume)
        self._trees = {number: BTree(nodes, Pointer(place, 0, 1), "a tree") for number, place in places.items()}
        self.looked: list[int] = []

    def tree(self, number: int) -> BTree:
        self.looked.append(number)
        return self._trees[number]

    def is_at(self, number: int, there: Reference) -> bool:
        return number == 7 and tuple(there) == (5, 257, b"sub")


def lookup(items: Items | None = None) -> tuple[Lookup, Trees]:
    sub = ((257, DIR_ITEM, hashed(b"sub")), entry_body(b"sub", 7, 2, item=ROOT_ITEM))
    gone = ((257, DIR_ITEM, hashed(b"gone")), entry_body(b"gone", 7, 2, item=ROOT_ITEM))
    plain: Items = [
        ((256, INODE_ITEM, 0), inode_body(FOLDER)),
        *names(256, d=(257, 2), up=(259, 7), loop=(260, 7), abs=(261, 7), f=(258, 1), lost=(999, 1), long=(262, 7)),
        ((257, INODE_ITEM, 0), inode_body(FOLDER)),
        *names(257, g=(258, 1)),
        sub,
        gone,
        ((258, INODE_ITEM, 0), inode_body(FILE)),
        *[
            ((number, INODE_ITEM, 0), inode_body(LINK, size))
            for number, size in ((259, 3), (260, 4), (261, 2), (262, 9999))
        ],
        ((259, EXTENT_DATA, 0), inline_body(b"d/g")),
        ((260, EXTENT_DATA, 0), inline_body(b"loop")),
        ((261, EXTENT_DATA, 0), inline_body(b"/d")),
    ]
    inside: Items = [
        ((256, INODE_ITEM, 0), inode_body(FOLDER)),
        *names(256, inner=(257, 1)),
        ((257, INODE_ITEM, 0), inode_body(FILE)),
    ]
    trees = Trees({5: items or plain, 7: inside})
    return Lookup(trees.volume, cast("Subvolumes", trees)), trees


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"", True),
        (b"d", True),
        (b"d/g", True),
        (b"/d//./g", True),
        (b"g", False),
        (b"f/g", False),
        (b"up", True),
        (b"abs/g", True),
        (b"loop", False),
        (b"d/sub/inner", True),
        (b"d/sub/g", False),
        (b"d/gone", False),
        (b"d/sub/../g", True),
    ],
)
def test_paths(path: bytes, found: bool) -> None:
    assert lookup()[0].exists(5, path) is found


@pytest.mark.parametrize(
    ("path", "number"),
    [(b"", 5), (b"/", 5), (b"d/sub", 7), (b"/d/sub/", 7), (b"d", None), (b"nothing", None), (b"d/gone", None)],
)
def test_subvolumes_by_their_path(path: bytes, number: int | None) -> None:
    assert lookup()[0].subvolume(path) == number


def test_links_are_not_followed_to_a_subvolume() -> None:
    assert lookup()[0].exists(5, b"abs/sub/inner")
    assert lookup()[0].subvolume(b"abs/sub") is None


def test_a_name_for_what_is_not_there() -> None:
    with pytest.raises(CorruptImage, match="a name for inode 999, and no such inode"):
        lookup()[0].exists(5, b"lost/x")


def test_a_link_that_is_longer_than_any_path() -> None:
    with pytest.raises(CorruptImage, match="symbolic link inode 262 has 9999 bytes"):
        lookup()[0].exists(5, b"long")


def test_a_root_that_is_not_there() -> None:
    with pytest.raises(CorruptImage, match="a name for inode 256"):
        lookup([((1, 1, 1), b"")])[0].exists(5, b"d")


def test_names_with_the_same_hash_are_told_apart() -> None:
    body = entry_body(b"other", 258) + entry_body(b"one", 258)
    items: Items = [
        ((256, INODE_ITEM, 0), inode_body(FOLDER)),
        ((256, DIR_ITEM, hashed(b"one")), body),
        ((256, DIR_ITEM, hashed(b"two")), body),
        ((258, INODE_ITEM, 0), inode_body(FILE)),
    ]
    found, _ = lookup(items)
    assert found.exists(5, b"one")
    assert not found.exists(5, b"two")


def test_what_was_found_is_remembered() -> None:
    found, trees = lookup()
    assert found.exists(5, b"abs/g")
    before = len(trees.looked)
    assert found.exists(5, b"abs/g")
    assert len(trees.looked) == before
