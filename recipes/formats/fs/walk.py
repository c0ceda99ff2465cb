"""From inodes to a `Tree`: what file systems with directories of names and inode numbers have in common."""

from __future__ import annotations

import stat
from functools import cache
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from recipes.errors import LimitExceeded
from recipes.formats.io.bounds import NAME_WEIGHT, PIECE_WEIGHT, XATTR_WEIGHT
from recipes.formats.tree.tree import MAX_NAMES, PATH_MAX

from . import follow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from recipes.errors import CorruptImage
    from recipes.formats.tree.tree import Node


class _Inode(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def mode(self) -> int: ...


_I = TypeVar("_I", bound=_Inode)


class Inodes(Protocol[_I]):
    """A file system that reads each directory, each file and each symbolic link once."""

    @property
    def name(self) -> str:
        """Return what errors call the file system."""

    @property
    def root(self) -> int:
        """Return the inode of the root directory."""

    def inodes(self, numbers: Iterable[int]) -> Iterator[_I]:
        """Yield the inodes of these numbers, which are in ascending order."""

    def names(self, inode: _I) -> dict[bytes, int]:
        """Return the names in a directory with their inodes, without ``.`` and ``..``."""

    def target(self, inode: _I) -> bytes:
        """Return the target of a symbolic link."""

    def node(self, inode: _I) -> Node:
        """Return everything that a file is but its names; of a directory without what is in it."""

    def corrupt(self, message: str) -> CorruptImage:
        """Return the error that says that the file system contradicts its format."""


class Walk(Generic[_I]):
    """One way through a file system. Errors: those of `files`, `CorruptImage`, `LimitExceeded`."""

    def __init__(self, files: Inodes[_I]) -> None:
        self._files = files
        self._directories = {files.root}

    def exists(self, path: bytes) -> bool:
        """Say whether something is at `path`; symbolic links are followed within the file system, as by chroot(2)."""
        files = self._files
        known = cache(self._inode)

        @cache
        def names(number: int) -> dict[bytes, int]:
            return files.names(known(number)) if stat.S_ISDIR(known(number).mode) else {}

        @cache
        def target(number: int) -> bytes | None:
            return files.target(known(number)) if stat.S_ISLNK(known(number).mode) else None

        return follow.exists(path, files.root, lambda number, name: names(number).get(name), target)

    def root(self, spend: Callable[[int], None]) -> Node:
        """Return the root directory with all that is below it; `spend` is told what that weighs.

        Level by level, and each in the order of its inodes: so they are read forwards and in large pieces.
        """
        files = self._files
        inode = self._inode(files.root)
        if not stat.S_ISDIR(inode.mode):
            raise files.corrupt("the root is not a directory")
        root = files.node(inode)
        nodes = {files.root: root}
        level = [(inode, root, 0)]
        count = 0
        while level:
            #: Inodes that are new -> the directories with names for them: node, name, bytes of the path.
            places: dict[int, list[tuple[Node, bytes, int]]] = {}
            for inode, node, length in level:
                names = files.names(inode)
                count += len(names)
                if count > MAX_NAMES:
                    raise LimitExceeded(f"{files.name}: more than {MAX_NAMES} files")
                spend(NAME_WEIGHT * len(names))
                for name, number in names.items():
                    places.setdefault(number, []).append((node, name, length + 1 + len(name)))
            for number in places.keys() & nodes.keys():
                self._put(number, nodes[number], places.pop(number))
            level = []
            for inode in files.inodes(sorted(places)):
                node = nodes[inode.number] = files.node(inode)
                pieces = 0 if isinstance(node.data, bytes) else len(node.data)
                spend(XATTR_WEIGHT * len(node.xattrs) + PIECE_WEIGHT * pieces)
                self._put(inode.number, node, places[inode.number])
                if node.is_dir:
                    level.append((inode, node, places[inode.number][0][2]))
        return root

    def _inode(self, number: int) -> _I:
        (inode,) = self._files.inodes([number])
        return inode

    def _put(self, number: int, node: Node, places: list[tuple[Node, bytes, int]]) -> None:
        """Give `node`, of inode `number`, its names."""
        # No archive can hold a socket, and whoever listens on it makes it anew.
        if node.type == stat.S_IFSOCK:
            return
        # A name for a directory that has one already, if only as the root: more than one, and perhaps a loop.
        if node.is_dir and (len(places) > 1 or number in self._directories):
            raise self._files.corrupt(f"directory inode {number} has more than one name")
        if node.is_dir:
            self._directories.add(number)
        for parent, name, length in places:
            if length > PATH_MAX:
                raise LimitExceeded(f"{self._files.name}: inode {number} has a path of more than {PATH_MAX} bytes")
            parent.children[name] = node
