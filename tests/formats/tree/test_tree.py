"""A root file system in memory."""

from __future__ import annotations

import stat

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.tree import tree
from recipes.formats.tree.tree import Node, Tree

DIR = stat.S_IFDIR | 0o755


def _link(target: bytes) -> Node:
    return Node(stat.S_IFLNK | 0o777, target=target)


def _file() -> Node:
    return Node(stat.S_IFREG | 0o644)


def _fill(made: Tree, folder: bytes) -> None:
    for number in range(1000):
        made.add(folder + b"%d" % number, _file())


class TestDetours:
    """What symbolic links lead over is paid for by the paths that they lead to."""

    def test_links_of_links_of_many_names(self) -> None:
        """Forty links of 1600 names: what is behind them would take 64,000 steps for each path."""
        made = Tree()
        made.add(b"d", Node(DIR))
        for number in range(40):
            made.add(b"a%d" % number, _link(b"d/../" * 800 + (b"a%d" % (number + 1) if number < 39 else b"d")))
        with pytest.raises(LimitExceeded, match="lead over too many names"):
            _fill(made, b"a0/")

    @pytest.mark.parametrize("operation", ["find", "remove", "clear", "link"])
    def test_whatever_is_done_behind_them(self, operation: str) -> None:
        made = Tree()
        made.add(b"d/f", _file())
        made.add(b"a", _link(b"d/../" * 800 + b"d"))

        def repeat() -> None:
            for number in range(1000):
                if operation == "link":
                    made.link(b"%d" % number, b"a/f")
                else:
                    getattr(made, operation)(b"a/g/h")

        with pytest.raises(LimitExceeded, match="lead over too many names"):
            repeat()

    def test_names_that_lead_nowhere_count_as_well(self) -> None:
        made = Tree()
        made.add(b"a", _link(b"./" * 2000))
        with pytest.raises(LimitExceeded, match="lead over too many names"):
            _fill(made, b"a/")

    def test_real_trees_are_far_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """bin -> usr/bin, and every file behind two such links."""
        monkeypatch.setattr(tree, "MAX_DETOUR", 0)
        made = Tree()
        made.add(b"usr/lib/x86_64-linux-gnu", Node(DIR))
        made.add(b"lib", _link(b"usr/lib"))
        made.add(b"usr/lib/modules", _link(b"../../lib/x86_64-linux-gnu"))
        _fill(made, b"lib/modules/")
        assert len(made.root.children[b"usr"].children[b"lib"].children[b"x86_64-linux-gnu"].children) == 1000
