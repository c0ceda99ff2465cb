"""The text of small files in a tree."""

from __future__ import annotations

import stat

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.tree.contents import contents
from recipes.formats.tree.tree import Node, Tree


def _link(target: bytes) -> Node:
    return Node(stat.S_IFLNK | 0o777, target=target)


@pytest.fixture
def tree() -> Tree:
    made = Tree()
    made.add(b"etc/file", Node(stat.S_IFREG | 0o644, size=8, data=b"text"))
    made.add(b"usr/etc/other", Node(stat.S_IFREG | 0o644, size=1, data=b"o"))
    return made


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"file", b"text\0\0\0\0"),
        (b"/etc/file", b"text\0\0\0\0"),
        (b"../etc/../etc/file", b"text\0\0\0\0"),
        (b"../../../../etc/file", b"text\0\0\0\0"),
        (b"../usr/etc/other", b"o"),
        (b"nowhere", None),
        (b"/etc", None),
        (b"file/below", None),
    ],
)
def test_links(tree: Tree, target: bytes, expected: bytes | None) -> None:
    """A file that ends in a hole, by links as chroot(2) has them."""
    tree.add(b"etc/link", _link(target))
    assert contents(tree, b"etc/link", 100) == expected


def test_a_link_below_a_link_leads_on_from_where_it_really_is(tree: Tree) -> None:
    tree.add(b"short", _link(b"usr/etc"))
    tree.add(b"usr/etc/up", _link(b"../etc/other"))
    assert contents(tree, b"short/up", 100) == b"o"


def test_a_loop(tree: Tree) -> None:
    tree.add(b"loop", _link(b"loop"))
    with pytest.raises(CorruptImage, match="loop of symbolic links"):
        contents(tree, b"loop", 100)


def test_too_much(tree: Tree) -> None:
    with pytest.raises(LimitExceeded, match="'etc/file' has 8 bytes, and 7 are read"):
        contents(tree, b"etc/file", 7)
