from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.fs import walk
from recipes.formats.fs.walk import Walk
from recipes.formats.io.bounds import NAME_WEIGHT, PIECE_WEIGHT, XATTR_WEIGHT
from recipes.formats.io.source import BytesSource
from recipes.formats.tree.tree import Extent, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIR, REG, LNK, SOCK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFSOCK | 0o755


class Inode(NamedTuple):
    number: int
    mode: int


class Files:
    """Inodes by their number, each a mode and its names or its target; what was asked for is noted."""

    name = "disk"
    root = 2

    def __init__(self, **changes: tuple[int, dict[bytes, int] | bytes]) -> None:
        self.made: dict[int, tuple[int, dict[bytes, int] | bytes]] = {
            2: (DIR, {b"a": 11, b"d": 12}),
            11: (REG, b""),
            12: (DIR, {b"b": 13, b"hard": 11, b"s": 14, b"up": 15}),
            13: (REG, b""),
            14: (SOCK, b""),
            15: (LNK, b"../a"),
        }
        self.made |= {int(name[1:]): made for name, made in changes.items()}
        self.asked: list[list[int]] = []
        self.read: list[int] = []

    def inodes(self, numbers: Iterable[int]) -> Iterator[Inode]:
        wanted = list(numbers)
        self.asked.append(wanted)
        yield from (Inode(number, self.made[number][0]) for number in wanted)

    def names(self, inode: Inode) -> dict[bytes, int]:
        self.read.append(inode.number)
        found = self.made[inode.number][1]
        assert isinstance(found, dict)
        return found

    def target(self, inode: Inode) -> bytes:
        self.read.append(inode.number)
        found = self.made[inode.number][1]
        assert isinstance(found, bytes)
        return found

    def node(self, inode: Inode) -> Node:
        return Node(inode.mode, uid=inode.number)

    def corrupt(self, message: str) -> CorruptImage:
        return CorruptImage(f"disk: {message}")


def root(files: Files) -> Node:
    return Walk(files).root(lambda weight: None)


def test_the_whole_tree() -> None:
    top = root(Files())
    assert sorted(top.children) == [b"a", b"d"]
    folder = top.children[b"d"]
    assert sorted(folder.children) == [b"b", b"hard", b"up"], "a socket is in no archive"
    assert folder.children[b"hard"] is top.children[b"a"], "one file with two names"


def test_inodes_are_read_forwards_and_once() -> None:
    files = Files(n2=(DIR, {b"z": 13, b"y": 12, b"x": 11}), n12=(DIR, {b"w": 14, b"v": 13}))
    root(files)
    assert files.asked == [[2], [11, 12, 13], [14]]


@pytest.mark.parametrize(
    "changes",
    [
        {"n12": (DIR, {b"loop": 12})},
        {"n12": (DIR, {b"loop": 2})},
        {"n2": (DIR, {b"d": 12, b"again": 12})},
        {"n12": (DIR, {b"e": 16}), "n16": (DIR, {b"up": 12})},
    ],
    ids=["in itself", "the root", "twice in one", "in what is in it"],
)
def test_directories_have_one_name(changes: dict[str, tuple[int, dict[bytes, int] | bytes]]) -> None:
    with pytest.raises(CorruptImage, match="has more than one name"):
        root(Files(**changes))


def test_a_root_that_is_none() -> None:
    with pytest.raises(CorruptImage, match="the root is not a directory"):
        root(Files(n2=(REG, b"")))


def test_so_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_NAMES", 6)
    root(Files())
    monkeypatch.setattr(walk, "MAX_NAMES", 5)
    with pytest.raises(LimitExceeded, match="disk: more than 5 files"):
        root(Files())


def test_paths_are_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PATH_MAX", len("/d/hard"))
    root(Files())
    monkeypatch.setattr(walk, "PATH_MAX", len("/d/hard") - 1)
    with pytest.raises(LimitExceeded, match="disk: inode 11 has a path of more than 6 bytes"):
        root(Files())


def test_what_everything_weighs() -> None:
    class Heavy(Files):
        def node(self, inode: Inode) -> Node:
            node = super().node(inode)
            if node.is_file:
                node.xattrs[b"user.a"] = b""
                source = BytesSource(b"", "disk")
                node.data = tuple(Extent(at, 1, source, 0) for at in range(3))
            return node

    weights: list[int] = []
    Walk(Heavy()).root(weights.append)
    assert sum(weights) == 6 * NAME_WEIGHT + 2 * (XATTR_WEIGHT + 3 * PIECE_WEIGHT)


@pytest.mark.parametrize(
    ("path", "found"), [(b"a", True), (b"d/up", True), (b"d/b/x", False), (b"x", False), (b"", True), (b"d/s", True)]
)
def test_one_path(path: bytes, found: bool) -> None:
    assert Walk(Files()).exists(path) is found


def test_one_path_reads_each_directory_once() -> None:
    files = Files()
    assert Walk(files).exists(b"d/up/../d/up") is False
    assert files.read.count(12) == 1
    assert files.read.count(2) == 1
