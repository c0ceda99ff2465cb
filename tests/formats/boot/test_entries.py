"""Whichever boot loader there is."""

from __future__ import annotations

import stat

import pytest

from recipes.formats.boot.entries import MARKS, entries
from recipes.formats.tree.tree import Node, Tree

GRUB = "menuentry 'of grub' {\n linux /vmlinuz\n}\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"grub2/grub.cfg": GRUB}, ["of grub"]),
        ({"grub/grub.cfg": GRUB}, ["of grub"]),
        ({"grub2/grub.cfg": GRUB, "loader/entries/own.conf": "linux /x"}, ["own"]),
        ({"grub2/grub.cfg": "blscfg\n", "loader/entries/own.conf": "linux /x"}, ["own"]),
        ({"grub2/grub.cfg": "blscfg\n"}, []),
        ({}, []),
    ],
)
def test_files_of_their_own_go_first(files: dict[str, str], expected: list[str]) -> None:
    tree = Tree()
    for name, text in files.items():
        tree.add(b"boot/" + name.encode(), Node(stat.S_IFREG | 0o644, size=len(text), data=text.encode()))
    assert [each.name for each in entries(tree, b"boot")] == expected
    assert any(tree.follow(b"boot/" + mark) for mark in MARKS) is bool(files)
