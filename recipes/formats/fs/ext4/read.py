"""ext2, ext3 and ext4 to a `Tree`, without mounting them; the data stays where it is.

What comes out is what Linux shows of a read-only mount, an unfinished journal replayed (in memory), except for sockets:
no archive can hold one, and whoever listens on it makes it anew. Files that cannot be read rightly (encrypted ones)
are refused. Damage is refused too, with the number of the inode where it is (``debugfs -R 'ncheck N'`` tells its path).
"""

from __future__ import annotations

import stat
from functools import cache
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded
from recipes.formats.fs import follow
from recipes.formats.io.bounds import NAME_WEIGHT, PIECE_WEIGHT, XATTR_WEIGHT
from recipes.formats.io.source import read_exact
from recipes.formats.tree.tree import MAX_NAMES, PATH_MAX, Extent, Node

from .dir import entries, verify
from .inode import Inode, inodes
from .journal import replay
from .layout import FAST_SYMLINK, ROOT_INODE, Incompat, InodeFlag, unpack_device
from .map import BlockMaps
from .volume import Disk, Volume
from .xattr_read import AttributeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recipes.formats.io.source import Source
    from recipes.formats.tree.tree import Tree

    from .map import Run

_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})
#: Behind the parent's inode of an inline directory begin its entries (inlinedata.rst).
_INLINE_PARENT = 4


class Ext4:
    """The file system in `source`.

    Errors: `CorruptImage`; `UnsupportedFeature`, which names the feature; `LimitExceeded`.
    """

    def __init__(self, source: Source) -> None:
        volume = Volume(Disk(source))
        if Incompat.RECOVER in volume.incompat:
            # The superblock too may be among what is replayed.
            volume = Volume(replay(volume))
        self._volume = volume

    def exists(self, path: bytes) -> bool:
        """Say whether something is at `path`; symbolic links are followed within the file system, as by chroot(2)."""
        reader = _Reader(self._volume)
        known = cache(reader.inode)
        names = cache(lambda number: reader.names(known(number)) if stat.S_ISDIR(known(number).mode) else {})
        target = cache(lambda number: reader.target(known(number)) if stat.S_ISLNK(known(number).mode) else None)
        return follow.exists(path, ROOT_INODE, lambda number, name: names(number).get(name), target)

    def fill(self, tree: Tree) -> None:
        """Make the root directory that of `tree`, whose extents refer to the source: it has to stay open as long."""
        tree.root = _Reader(self._volume).root(tree.spend)


class _Reader:
    """Reads each directory and each file once."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._maps = BlockMaps(volume)
        self._attributes = AttributeReader(volume, self._content)
        self._directories = {ROOT_INODE}

    def root(self, spend: Callable[[int], None]) -> Node:
        """Return the root directory with all that is below it; `spend` is told what that weighs.

        Level by level, and each in the order of its inodes: so inode tables are read forwards and in large pieces.
        """
        inode = self.inode(ROOT_INODE)
        if not stat.S_ISDIR(inode.mode):
            raise self._volume.corrupt("the root is not a directory")
        root = self._node(inode)
        nodes = {ROOT_INODE: root}
        level = [(inode, root, 0)]
        count = 0
        while level:
            #: Inodes that are new -> the directories with names for them: node, name, bytes of the path.
            places: dict[int, list[tuple[Node, bytes, int]]] = {}
            for inode, node, length in level:
                names = self.names(inode)
                count += len(names)
                if count > MAX_NAMES:
                    raise LimitExceeded(f"{self._volume.disk.name}: more than {MAX_NAMES} files")
                spend(NAME_WEIGHT * len(names))
                for name, number in names.items():
                    places.setdefault(number, []).append((node, name, length + 1 + len(name)))
            for number in places.keys() & nodes.keys():
                self._put(number, nodes[number], places.pop(number))
            level = []
            for inode in inodes(self._volume, sorted(places)):
                node = nodes[inode.number] = self._node(inode)
                pieces = 0 if isinstance(node.data, bytes) else len(node.data)
                spend(XATTR_WEIGHT * len(node.xattrs) + PIECE_WEIGHT * pieces)
                self._put(inode.number, node, places[inode.number])
                if node.is_dir:
                    level.append((inode, node, places[inode.number][0][2]))
        return root

    def inode(self, number: int) -> Inode:
        """Return one inode."""
        (inode,) = inodes(self._volume, [number])
        return inode

    def names(self, inode: Inode) -> dict[bytes, int]:
        """Return the names in a directory with their inodes."""
        volume = self._volume
        if inode.has(InodeFlag.INLINE_DATA):
            rest = self._attributes.read(inode).inline
            return entries(volume, inode, [inode.block[_INLINE_PARENT:], rest])
        return entries(volume, inode, self._directory_blocks(inode))

    def target(self, inode: Inode) -> bytes:
        """Return the target of a symbolic link."""
        if not 0 < inode.size < PATH_MAX:
            raise self._volume.corrupt(f"symbolic link inode {inode.number} has {inode.size} bytes")
        if inode.size < FAST_SYMLINK and not inode.flags & (InodeFlag.EXTENTS | InodeFlag.INLINE_DATA).value:
            target = inode.block[: inode.size]
        else:
            target = self._content(inode)
        if len(target) != inode.size or b"\0" in target:
            raise self._volume.corrupt(f"symbolic link inode {inode.number} has a target with NUL")
        return target

    def _put(self, number: int, node: Node, places: list[tuple[Node, bytes, int]]) -> None:
        """Give `node`, of inode `number`, its names."""
        if node.type == stat.S_IFSOCK:
            return
        # A name for a directory that has one already, if only as the root: more than one, and perhaps a loop.
        if node.is_dir and (len(places) > 1 or number in self._directories):
            raise self._volume.corrupt(f"directory inode {number} has more than one name")
        if node.is_dir:
            self._directories.add(number)
        for parent, name, length in places:
            if length > PATH_MAX:
                raise LimitExceeded(
                    f"{self._volume.disk.name}: inode {number} has a path of more than {PATH_MAX} bytes"
                )
            parent.children[name] = node

    def _node(self, inode: Inode) -> Node:
        self._check(inode)
        kind = stat.S_IFMT(inode.mode)
        attributes = self._attributes.read(inode)
        node = Node(inode.mode, inode.uid, inode.gid, inode.mtime_ns, xattrs=attributes.xattrs)
        if kind == stat.S_IFREG:
            node.size = inode.size
            inline = inode.has(InodeFlag.INLINE_DATA)
            node.data = self._inline(inode, attributes.inline) if inline else tuple(self._extents(inode))
        elif kind == stat.S_IFLNK:
            node.target = self.target(inode)
        elif node.is_device:
            node.device = unpack_device(inode.block)
        return node

    def _check(self, inode: Inode) -> None:
        number, volume = inode.number, self._volume
        if number < volume.first_inode and number != ROOT_INODE:
            raise volume.corrupt(f"inode {number}, which is reserved, has a name")
        if stat.S_IFMT(inode.mode) not in _TYPES or not inode.links or inode.has(InodeFlag.EA_INODE):
            raise volume.corrupt(
                f"inode {number} has a name and is no file: mode {inode.mode:#o}, {inode.links} links, flags "
                f"{inode.flags:#x}"
            )
        if inode.has(InodeFlag.ENCRYPT):
            raise volume.unsupported(f"encrypted files (inode {number})")

    def _runs(self, inode: Inode) -> list[Run]:
        return self._maps.runs(inode, -(-inode.size // self._volume.block_size))

    def _extents(self, inode: Inode) -> Iterator[Extent]:
        """Yield where the data of a regular file is."""
        size = self._volume.block_size
        for at, count, block in self._runs(inode):
            # The last block may be longer than the file.
            length = min(count * size, inode.size - at * size)
            yield from self._volume.disk.extents(at * size, block * size, length)

    def _directory_blocks(self, inode: Inode) -> Iterator[bytes]:
        volume = self._volume
        for _at, count, block in self._runs(inode):
            for number in range(block, block + count):
                self._maps.claim(number, inode)
                data = volume.read(number, 1, f"directory inode {inode.number}")
                if volume.seed is not None:
                    verify(volume, inode, data)
                yield data

    def _content(self, inode: Inode) -> bytes:
        """Return the data of an inode that the caller knows to be small: a symbolic link, an attribute's value."""
        if inode.has(InodeFlag.INLINE_DATA):
            return self._inline(inode, self._attributes.read(inode).inline)
        data = bytearray(inode.size)
        for extent in self._extents(inode):
            data[extent.at : extent.at + extent.length] = read_exact(extent.source, extent.offset, extent.length)
        return bytes(data)

    def _inline(self, inode: Inode, rest: bytes) -> bytes:
        data = inode.block + rest
        if inode.size > len(data):
            raise self._volume.corrupt(
                f"inode {inode.number}: expected {inode.size} bytes of data in it, found {len(data)}"
            )
        return data[: inode.size]
