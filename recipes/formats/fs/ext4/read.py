"""ext2, ext3 and ext4 to a `Tree`, without mounting them; the data stays where it is.

What comes out is what Linux shows of a read-only mount, an unfinished journal replayed (in memory), except for sockets:
no archive can hold one, and whoever listens on it makes it anew. Files that cannot be read rightly (encrypted ones)
are refused. Damage is refused too, with the number of the inode where it is (``debugfs -R 'ncheck N'`` tells its path).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from recipes.formats.fs.walk import Walk
from recipes.formats.io.source import read_exact
from recipes.formats.tree.tree import PATH_MAX, Extent, Node

from .dir import entries, verify
from .inode import Inode, inodes
from .journal import replay
from .layout import FAST_SYMLINK, ROOT_INODE, Compat, Incompat, InodeFlag, unpack_device
from .map import BlockMaps
from .volume import Disk, Volume
from .xattr_read import AttributeReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
        #: What it is called, and whether it has a journal.
        self.label = volume.superblock.volume_name.rstrip(b"\0").decode(errors="replace")
        self.has_journal = Compat.HAS_JOURNAL in volume.compat

    def exists(self, path: bytes) -> bool:
        """Say whether something is at `path`; symbolic links are followed within the file system, as by chroot(2)."""
        return Walk(_Reader(self._volume)).exists(path)

    def fill(self, tree: Tree) -> None:
        """Make the root directory that of `tree`, whose extents refer to the source: it has to stay open as long."""
        tree.root = Walk(_Reader(self._volume)).root(tree.spend)


class _Reader:
    """Reads each directory and each file once."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._maps = BlockMaps(volume)
        self._attributes = AttributeReader(volume, self._content)
        self.root = ROOT_INODE
        self.name = volume.disk.name
        self.corrupt = volume.corrupt

    def inodes(self, numbers: Iterable[int]) -> Iterator[Inode]:
        """Yield the inodes of these numbers, which are in ascending order."""
        return inodes(self._volume, numbers)

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

    def node(self, inode: Inode) -> Node:
        """Return what is no name of a file."""
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
