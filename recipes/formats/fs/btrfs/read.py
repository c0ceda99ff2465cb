"""btrfs to a `Tree`, without mounting it; the data stays where it is, and is decompressed as it is read.

What comes out is what Linux shows of a read-only mount of a subvolume, with the subvolumes that are in it, except for
sockets: no archive can hold one. Where a snapshot has but the name of a subvolume, Linux shows an empty directory with
the time of the mount; here it has the time of the snapshot's root.

Which subvolume is the root is for the boot loader and fstab to say, and neither has to be on this file system. Without
them it is the one that a mount shows, or else one of the usual names, that has an ``os-release``; see `Btrfs`.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.tree.tree import MAX_NAMES, PATH_MAX, Node, show
from recipes.rootplace import declare

from .btree import BTree
from .chunks import chunk
from .extents import Extents
from .inodes import Inodes
from .layout import CHECKSUM_TREE, CHUNK, DIRECTORY, FILE_TYPES, ROOT_INODE, SOCKET, SYMLINK, TOP_LEVEL
from .lookup import Lookup
from .nodes import Nodes, Pointer
from .subvolumes import Reference, Subvolumes
from .sums import Sums
from .volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.io.source import Source
    from recipes.formats.tree.tree import Tree

    from .items import DirEntry

#: What every distribution's root has, the one or the other (os-release(5)).
_OS_RELEASE = (b"etc/os-release", b"usr/lib/os-release")
#: Subvolumes that distributions and installers use for the root, in the order in which they are tried.
_USUAL = (b"", b"root", b"@", b"@root", b"@rootfs")
#: Subvolumes that are looked into: each costs a few nodes, and a file system may have any number.
_MAX_TRIED = 1000
_SNAPSHOTS = b".snapshots"


def open(source: Source) -> Btrfs:
    """Return the btrfs in `source`, which has to stay open as long as the tree that is filled.

    Errors: `CorruptImage`; `UnsupportedFeature`, which names the feature; `LimitExceeded`.
    """
    return Btrfs(source)


class Subvolume:
    """A subvolume as a file system: what a mount with ``subvolid=`` shows."""

    def __init__(self, system: Btrfs, number: int) -> None:
        self._system = system
        #: The top level is 5.
        self.number = number

    @property
    def path(self) -> bytes:
        """Where it is from the top level on, as ``subvol=`` has it; the top level itself has an empty one."""
        return self._system.subvolumes.path(self.number)

    @property
    def read_only(self) -> bool:
        """Say whether nothing can be written to it: most often it is a snapshot."""
        return self._system.subvolumes.roots[self.number].read_only

    def exists(self, path: bytes) -> bool:
        """Say whether something is at `path`; symbolic links are followed within the subvolume, as by chroot(2)."""
        return self._system.lookup.exists(self.number, path)

    def fill(self, tree: Tree) -> None:
        """Make the subvolume's root directory that of `tree`, whose extents refer to the source."""
        tree.root = _Reader(self._system, tree.spend).root(self.number)


class Btrfs:
    """A btrfs file system on one device. As a `FileSystem` it is the subvolume that is the root.

    That is the one that was chosen (`choose`), or else the first of these that has an ``os-release``: the default
    subvolume, the top level, those called root, @, @root and @rootfs; else the only one of the others, read-only ones
    and what is below ``.snapshots`` left aside. If there is no ``os-release`` anywhere it is the default subvolume.
    Errors: as `open`; and `UnsupportedFeature`, which
    lists them, if several subvolumes could be the root.
    """

    def __init__(self, source: Source) -> None:
        self.volume = volume = Volume(source)
        self._nodes = nodes = Nodes(volume)
        self._read_chunks()
        self.subvolumes = subvolumes = Subvolumes(nodes)
        self.lookup = Lookup(volume, subvolumes)
        sums = subvolumes.tree(CHECKSUM_TREE) if CHECKSUM_TREE in subvolumes.roots else None
        self.sums = Sums(volume, sums)
        self._root: Subvolume | None = None

    @property
    def default(self) -> Subvolume:
        """The subvolume that a mount without ``subvol=`` shows."""
        return Subvolume(self, self.subvolumes.default)

    @property
    def root(self) -> Subvolume:
        """The subvolume that has the root file system. Errors: as the class says."""
        if self._root is None:
            self._root = self._find_root()
        return self._root

    def all(self) -> list[Subvolume]:
        """Return all subvolumes that have a place, by number; the top level is the first."""
        return [Subvolume(self, number) for number in self.subvolumes.numbers()]

    def subvolume(self, which: int | bytes) -> Subvolume | None:
        """Return the subvolume with this number (``subvolid=``) or at this path (``subvol=``); None if there is none.

        As for mount(8), number 0 is the top level, and a path begins there, with or without a slash.
        """
        number = self.lookup.subvolume(which) if isinstance(which, bytes) else which or TOP_LEVEL
        return Subvolume(self, number) if number in self.subvolumes.numbers() else None

    def choose(self, which: int | bytes) -> bool:
        """Take the subvolume with this number or at this path for the root; say whether there is one."""
        chosen = self.subvolume(which)
        self._root = chosen or self._root
        return chosen is not None

    def exists(self, path: bytes) -> bool:
        """Say whether something is at `path` of the root; symbolic links are followed within it, as by chroot(2)."""
        return self.root.exists(path)

    def fill(self, tree: Tree) -> None:
        """Make the root directory that of `tree`, whose extents refer to the source."""
        self.root.fill(tree)

    def _read_chunks(self) -> None:
        volume = self.volume
        superblock = volume.superblock
        pointer = Pointer(superblock.chunk_root, superblock.chunk_root_level, superblock.chunk_root_generation)
        chunks = [
            chunk(volume, item.key[1], item.key[2], item.body)[0]
            for item in BTree(self._nodes, pointer, "the chunk tree").items()
            if item.key[1] == CHUNK
        ]
        volume.learn(chunks)

    def _find_root(self) -> Subvolume:
        usual = (self.subvolume(path) for path in _USUAL)
        for subvolume in (self.default, *usual):
            if subvolume is not None and _has_os_release(subvolume):
                return subvolume
        others = []
        for subvolume in self.all()[:_MAX_TRIED]:
            if not subvolume.read_only and _SNAPSHOTS not in subvolume.path.split(b"/") and _has_os_release(subvolume):
                others.append(subvolume)
        if len(others) > 1:
            listing = "; ".join(f"{each.number} at {show(each.path)}" for each in others[:20])
            raise UnsupportedFeature(
                f"{self.volume.name}: expected one subvolume with an os-release, found {len(others)}: {listing}",
                hint=declare("subvolume", others[0].path),
            )
        return others[0] if others else self.default


def _has_os_release(subvolume: Subvolume) -> bool:
    return any(subvolume.exists(name) for name in _OS_RELEASE)


class _Nested(NamedTuple):
    """A subvolume that is still to be read."""

    number: int
    #: Bytes of its path.
    length: int
    parent: Node
    name: bytes


class _Reader:
    """Reads a subvolume and those in it, each once."""

    def __init__(self, system: Btrfs, spend: Callable[[int], None]) -> None:
        self._system = system
        self._volume = volume = system.volume
        self._spend = spend
        self._extents = Extents(volume, system.sums, spend)
        self._count = 0
        self._read: set[int] = set()
        self._todo: list[_Nested] = []

    def root(self, number: int) -> Node:
        """Return the root directory of the subvolume with this number, with all that is below it."""
        root = self._subvolume(number, 0)
        while self._todo:
            nested = self._todo.pop()
            nested.parent.children[nested.name] = self._subvolume(nested.number, nested.length)
        return root

    def _subvolume(self, number: int, length: int) -> Node:
        """Return the root directory of one subvolume, whose path has `length` bytes, with all that is its own."""
        if number in self._read:
            raise self._volume.corrupt(f"the subvolume {number} is in two places")
        self._read.add(number)
        tree = self._system.subvolumes.tree(number)
        inodes = Inodes(self._volume, self._extents, tree, self._spend)
        root = inodes.nodes.get(ROOT_INODE)
        if root is None or not root.is_dir:
            raise self._volume.corrupt(f"the subvolume {number} has no root directory")
        todo = [(ROOT_INODE, root, length)]
        seen = {ROOT_INODE}
        while todo:
            directory, node, length = todo.pop()
            for entry in inodes.names.get(directory, ()):
                below = length + 1 + len(entry.name)
                self._check(directory, node, entry, below)
                if entry.is_subvolume:
                    self._nested(number, directory, node, entry, below, root)
                    continue
                child = self._child(inodes, number, entry)
                kind = entry.type
                if kind == DIRECTORY:
                    # A second name for a directory, if only for the root: perhaps a loop.
                    inode = entry.location[0]
                    if inode in seen:
                        raise self._volume.corrupt(f"directory inode {inode} has more than one name")
                    seen.add(inode)
                    todo.append((inode, child, below))
                if kind != SOCKET:
                    node.children[entry.name] = child
        return root

    def _check(self, directory: int, node: Node, entry: DirEntry, length: int) -> None:
        if entry.name in node.children:
            raise self._volume.corrupt(f"directory inode {directory} has the name {show(entry.name)} twice")
        if length > PATH_MAX:
            raise LimitExceeded(
                f"{self._volume.name}: directory inode {directory} has a path of more than {PATH_MAX} bytes in it"
            )
        self._count += 1
        if self._count > MAX_NAMES:
            raise LimitExceeded(f"{self._volume.name}: more than {MAX_NAMES} files")

    def _child(self, inodes: Inodes, number: int, entry: DirEntry) -> Node:
        inode = entry.location[0]
        child = inodes.nodes.get(inode)
        if child is None or inode in inodes.orphans or child.mode >> 12 != FILE_TYPES[entry.type]:
            raise self._volume.corrupt(
                f"the subvolume {number} has the name {show(entry.name)} for inode {inode}, which is not there, is "
                "deleted, or of another type"
            )
        if entry.type == SYMLINK and not child.target:
            raise self._volume.corrupt(f"symbolic link inode {inode} has no target")
        return child

    def _nested(self, number: int, directory: int, node: Node, entry: DirEntry, length: int, root: Node) -> None:
        child = entry.location[0]
        node.children[entry.name] = Node(stat.S_IFDIR | 0o755, mtime_ns=root.mtime_ns)
        if self._system.subvolumes.is_at(child, Reference(number, directory, entry.name)):
            # Later, in the place of the empty directory: subvolumes may be nested deeply.
            self._todo.append(_Nested(child, length, node, entry.name))
