from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.btrfs.btree import BTree
from tests.kit.btrfs_volumes import LOGICAL, SIZE, inner, leaf, nodes, pointer

if TYPE_CHECKING:
    from recipes.formats.fs.btrfs.nodes import Key


def at(index: int) -> int:
    return LOGICAL + SIZE * index


def key(number: int) -> Key:
    return number, 1, 0


def tree(*leaves: list[int], order: list[int] | None = None) -> BTree:
    """Return a tree with a root above leaves that hold the items with these numbers."""
    made = [leaf(at(1 + index), [(key(n), b"%d" % n) for n in numbers]) for index, numbers in enumerate(leaves)]
    children = [(key(leaves[index][0]), at(1 + index)) for index in order or range(len(leaves))]
    return BTree(nodes(inner(LOGICAL, 1, children), *made), pointer(level=1), "the tree")


THREE = ([10, 20], [30, 40], [50])


def test_everything_in_order() -> None:
    assert [(item.key, item.body) for item in tree(*THREE).items()] == [
        (key(n), b"%d" % n) for n in (10, 20, 30, 40, 50)
    ]


def test_a_leaf_alone_and_nothing() -> None:
    alone = BTree(nodes(leaf(LOGICAL, [(key(1), b"1")])), pointer(), "the tree")
    assert [item.key for item in alone.items()] == [key(1)]
    assert list(BTree(nodes(leaf(LOGICAL, [])), pointer(), "the tree").items()) == []


def test_each_node_weighs() -> None:
    told: list[int] = []
    assert len(list(tree(*THREE).leaves(told.append))) == 3
    assert told == [SIZE] * 4


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (10, 50, [10, 20, 30, 40, 50]),
        (20, 30, [20, 30]),
        (11, 19, []),
        (25, 45, [30, 40]),
        (0, 9, []),
        (51, 99, []),
        (50, 50, [50]),
        (0, 10, [10]),
        (40, 30, []),
    ],
)
def test_ranges_have_both_ends(first: int, last: int, found: list[int]) -> None:
    assert [item.key for item in tree(*THREE).range(key(first), key(last))] == [key(n) for n in found]


@pytest.mark.parametrize(
    ("number", "found", "following"),
    [
        (9, None, 10),
        (10, 10, 20),
        (19, 10, 20),
        (20, 20, 30),
        (29, 20, 30),
        (45, 40, 50),
        (50, 50, None),
        (99, 50, None),
    ],
)
def test_the_item_at_or_before(number: int, found: int | None, following: int | None) -> None:
    item, after = tree(*THREE).floor(key(number))
    assert (item and item.key) == (found and key(found))
    assert after == (following and key(following))


def test_the_item_before_in_nothing() -> None:
    assert BTree(nodes(leaf(LOGICAL, [])), pointer(), "the tree").floor(key(1)) == (None, None)


def test_a_node_twice() -> None:
    again = nodes(inner(LOGICAL, 1, [(key(10), at(1)), (key(20), at(1))]), leaf(at(1), [(key(10), b"")]))
    with pytest.raises(CorruptImage, match=f"the tree has the node at {at(1):#x} twice"):
        list(BTree(again, pointer(level=1), "the tree").leaves())


def test_leaves_that_overlap() -> None:
    with pytest.raises(CorruptImage, match="the tree has keys that are not in ascending order"):
        list(tree([10, 35], [30, 40]).leaves())


def test_a_loop() -> None:
    loop = nodes(inner(LOGICAL, 1, [(key(1), LOGICAL)]))
    with pytest.raises(CorruptImage, match="twice"):
        list(BTree(loop, pointer(level=1), "the tree").leaves())
    # Lookups do not note where they were: a level less each time is what ends them.
    with pytest.raises(CorruptImage, match="expected address, level"):
        BTree(loop, pointer(level=1), "the tree").floor(key(1))
