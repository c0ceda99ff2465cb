"""XFS to a `Tree`, without mounting it; the data stays where it is.

What comes out is what Linux shows of a mount, a log that was not written back replayed (in memory), except for sockets:
no archive can hold one, and whoever listens on it makes it anew. Damage is refused, with the number of the inode where
it is (``find -inum N`` on a mount tells its path).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from recipes.formats.fs.walk import Walk
from recipes.formats.tree.tree import Extent, Node

from .attributes import Attributes
from .directory import Directories
from .extents import Extents
from .inode import Inode, inodes
from .layout import DEVICE, FLAG2_METADATA, FLAG_REALTIME, U32
from .replay import replay
from .symlink import target
from .volume import Disk, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from recipes.formats.io.source import Source
    from recipes.formats.tree.tree import Tree

_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})
#: Bits of a device's minor number (sysv_encode_dev).
_MINOR_BITS = 18


def open(source: Source) -> Xfs:
    """Return the XFS in `source`, which has to stay open as long as the tree that is filled.

    Errors: `CorruptImage`; `UnsupportedFeature`, which names the feature; `LimitExceeded`.
    """
    return Xfs(source)


class Xfs:
    """The file system in `source`. Errors: as `open`."""

    def __init__(self, source: Source) -> None:
        volume = Volume(Disk(source))
        # The superblock too may be among what is replayed.
        self._volume = Volume(replay(volume))

    def exists(self, path: bytes) -> bool:
        """Say whether something is at `path`; symbolic links are followed within the file system, as by chroot(2)."""
        return Walk(_Reader(self._volume)).exists(path)

    def fill(self, tree: Tree) -> None:
        """Make the root directory that of `tree`, whose extents refer to `source`."""
        tree.root = Walk(_Reader(self._volume)).root(tree.spend)


class _Reader:
    """Reads each directory and each file once."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._extents = Extents(volume)
        self._directories = Directories(volume, self._extents)
        self._attributes = Attributes(volume, self._extents)
        self.root = volume.superblock.rootino
        self.name = volume.name
        self.corrupt = volume.corrupt

    def inodes(self, numbers: Iterable[int]) -> Iterator[Inode]:
        """Yield the inodes of these numbers, which are in ascending order."""
        return inodes(self._volume, numbers)

    def names(self, inode: Inode) -> dict[bytes, int]:
        """Return the names in a directory with their inodes."""
        return self._directories.names(inode)

    def target(self, inode: Inode) -> bytes:
        """Return the target of a symbolic link."""
        return target(self._volume, self._extents, inode)

    def node(self, inode: Inode) -> Node:
        """Return what is no name of a file."""
        kind = stat.S_IFMT(inode.mode)
        if kind not in _TYPES or not inode.links or inode.flags2 & FLAG2_METADATA:
            raise self._volume.corrupt(
                f"inode {inode.number} has a name and is no file: mode {inode.mode:#o}, {inode.links} links, flags "
                f"{inode.flags2:#x}"
            )
        node = Node(inode.mode, inode.uid, inode.gid, inode.mtime_ns, xattrs=self._attributes.read(inode))
        if kind == stat.S_IFREG:
            if inode.flags & FLAG_REALTIME:
                raise self._volume.unsupported(f"files on a realtime device (inode {inode.number})")
            node.size = inode.size
            node.data = tuple(self._data(inode))
        elif kind == stat.S_IFLNK:
            node.target = self.target(inode)
        elif node.is_device:
            if inode.data.format != DEVICE or len(inode.data.data) < U32.size:
                raise self._volume.corrupt(f"device inode {inode.number} has no numbers")
            (device,) = U32.unpack_from(inode.data.data)
            node.device = device >> _MINOR_BITS, device & (1 << _MINOR_BITS) - 1
        return node

    def _data(self, inode: Inode) -> Iterator[Extent]:
        """Yield where the data of a regular file is; neighbours together, what was never written left out."""
        volume = self._volume
        log = volume.block_log
        source = volume.disk.source
        at = offset = end = 0
        for run in self._extents.data(inode):
            # What is behind the end was allocated ahead, and the last block may be longer than the file.
            length = min(run.length << log, inode.size - (run.at << log))
            if run.unwritten or length <= 0:
                continue
            place = volume.offset(run.block, run.length, f"block {run.at} of inode {inode.number}")
            if run.at << log == end and place == offset + end - at:
                end += length
                continue
            if end > at:
                yield Extent(at, end - at, source, offset)
            at, offset, end = run.at << log, place, (run.at << log) + length
        if end > at:
            yield Extent(at, end - at, source, offset)
