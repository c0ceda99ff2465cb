"""Write a root file system as ext4: with a journal, in one pass over the data, without root.

Specification: Linux, Documentation/filesystems/ext4. 4 KiB blocks, 256-byte inodes, 32-byte group descriptors; the
features of mke2fs 1.46 without 64bit, metadata_csum and resize_inode:

* 64bit is for more than 16 TiB.
* metadata_csum wants a CRC-32C of every inode and block of metadata. gdt_csum, its predecessor, covers the group
  descriptors, and lets groups be that nobody ever wrote to: a disk of 1 TiB costs what its files cost.
* resize_inode is for growing a mounted file system: a `Shape` that grows has it. resize2fs grows any while it is not.

A node gets its inode number when the tree is walked, and its data follows in the same order. So inode tables are
written from front to back, and nothing but the numbers stays in memory.

Everything follows from the tree: two writes of it are equal to the byte, whatever the time and the machine.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.io.sparse import BLOCK, CHUNK, data_runs
from recipes.formats.tree.tree import Node, show

from .alloc import Disk, FreeBlocks
from .dir_write import DirEntry, directory
from .extents import Extents
from .geometry import FIXED, INODE_SIZE, Geometry, Shape, TooSmall, smallest_size
from .groups import About, InodeTables, hash_seed_of, uuid_of, write_groups
from .layout import (
    DIR_ENTRY,
    EXTENT_MAX_BLOCKS,
    EXTENTS_IN_INODE,
    EXTRA_ISIZE,
    FAST_SYMLINK,
    FILE_TYPES,
    FIRST_INODE,
    INODE,
    INODE_EXTRA,
    JOURNAL_HEADER,
    JOURNAL_INODE,
    JOURNAL_MAGIC,
    JOURNAL_SUPERBLOCK,
    JOURNAL_SUPERBLOCK_V2,
    LINK_MAX,
    RESIZE_INODE,
    ROOT_INODE,
    SECTOR,
    InodeFlag,
    pack_device,
    pack_time,
)
from .resize import resize_inode
from .xattr import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from recipes.formats.tree.tree import Tree
    from recipes.progress import Meter

_LOST_FOUND = b"lost+found"
#: A file has at most so many blocks, holes included (fs/ext4/super.c, ext4_max_size).
_MAX_FILE = ((1 << 32) - 1) * BLOCK
#: The last of the 32 bits is "no id" (uid_valid of linux/uidgid.h).
_MAX_ID = (1 << 32) - 2
#: PATH_MAX, which counts the NUL at the end.
_MAX_TARGET = BLOCK - 1
_MAX_MAJOR = (1 << 12) - 1
_MAX_MINOR = (1 << 20) - 1
# As plain numbers: enum's operators would be a twentieth of the time.
_EXTENTS, _INDEX = int(InodeFlag.EXTENTS), int(InodeFlag.INDEX)


def write(
    tree: Tree,
    disk: Disk,
    *,
    size: int,
    label: str,
    meter: Meter,
    shape: Shape = FIXED,
) -> None:
    """Write `tree` to `disk`, which reads as zeros, as an ext4 file system of `size` bytes.

    `size` is rounded down to whole blocks of 4 KiB; the caller gives the disk its length. `label` is cut to the 16
    bytes that there is room for. `meter` is told the bytes of data in files. Holes stay holes, and blocks of zeros
    become some. Times that ext4 does not have become the nearest that it has. A ``lost+found`` is added where there
    is none.

    Errors: `LimitExceeded` for a size that is too small for the tree, with one that is enough, for one above 16 TiB
    less a block, and for what is larger than ext4 has it; `UnsupportedFeature` for attributes that ext4 cannot hold;
    `CorruptImage` where data is missing.
    """
    plan = _Plan(tree)
    meter.expect(plan.data)
    try:
        geometry = Geometry(size, len(plan.numbers), shape)
        _Writer(plan, disk, geometry, tree.digest(), meter).write(label)
    except TooSmall:
        enough = smallest_size(plan.most_blocks(), len(plan.numbers), shape)
        raise LimitExceeded(
            f"an ext4 file system of {size} bytes is too small for these files",
            hint=f"{enough} bytes ({enough >> 20} MiB) are enough",
        ) from None


class _Plan:
    """The inode number of every node, in ascending order, and its links. Errors: as `write`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.root = tree.root
        #: The nanoseconds of the newest file: the time of everything that the tree does not have.
        self.newest = tree.root.mtime_ns
        added = Node(stat.S_IFDIR | 0o700)
        self._lost_found = tree.root.children.get(_LOST_FOUND, added)
        if not self._lost_found.is_dir:
            raise UnsupportedFeature("/lost+found is not a directory, which e2fsck insists on")
        self.numbers = {tree.root: ROOT_INODE, self._lost_found: FIRST_INODE}
        self._links: dict[Node, int] = {}
        self.data = 0
        for path, node in tree.walk():
            if node in self.numbers and not node.is_dir:
                self._links[node] = self._links.get(node, 1) + 1
                if self._links[node] > LINK_MAX:
                    raise LimitExceeded(f"{show(path)} has more than the {LINK_MAX} links that ext4 allows")
                continue
            _check(path, node)
            # The root and lost+found have their numbers.
            self.numbers.setdefault(node, FIRST_INODE - 1 + len(self.numbers))
            self.data += node.stored
            self.newest = max(self.newest, node.mtime_ns)
        added.mtime_ns = self.newest

    def children(self, node: Node) -> Mapping[bytes, Node]:
        """Return the names in a directory, with what is behind them."""
        return {**node.children, _LOST_FOUND: self._lost_found} if node is self.root else node.children

    def links(self, node: Node) -> int:
        """Return the link count: of a directory, the one that it has in its parent, its own and its folders' ``..``."""
        if not node.is_dir:
            return self._links.get(node, 1)
        links = 2 + sum(child.is_dir for child in self.children(node).values())
        return links if links <= LINK_MAX else 1

    def path(self, node: Node) -> bytes:
        """Return the first name of a node of the tree."""
        return next(path for path, other in self._tree.walk() if other is node)

    def most_blocks(self) -> int:
        """Return the number of blocks that all files take if none of their blocks is zeros, or a little more."""
        # A file that metadata of a fixed place splits may need a block for its extents.
        blocks = 64
        for node in self.numbers:
            extents = [(0, len(node.data))] if isinstance(node.data, bytes) else [extent[:2] for extent in node.data]
            data = sum((at + length - 1) // BLOCK - at // BLOCK + 1 for at, length in extents)
            # An entry may leave almost its own size unused at the end of a block, which is a 15th of it; an index has
            # a root, and a block for every 511.
            names = sum(DIR_ENTRY.size + 3 + len(name) for name in self.children(node)) * 14 // 13 // BLOCK + 2
            tree = (len(extents) + data // EXTENT_MAX_BLOCKS) // (EXTENTS_IN_INODE + 1)
            blocks += data + tree + bool(node.xattrs) + (names if node.is_dir else node.is_symlink)
        return blocks


class _Writer:
    """One file system on its way to a disk."""

    def __init__(self, plan: _Plan, disk: Disk, geometry: Geometry, identity: bytes, meter: Meter) -> None:
        self._plan = plan
        self._disk = disk
        self._geometry = geometry
        self._identity = identity
        self._meter = meter
        self._free = FreeBlocks(disk, geometry)
        self._tables = InodeTables(disk, geometry)
        #: Inode number of the parent of each directory whose parent has been written.
        self._parents = {plan.root: ROOT_INODE}

    def write(self, label: str) -> None:
        shape = self._geometry.shape
        journal = self._journal() if shape.journal else None
        resize = resize_inode(self._disk, self._geometry, self._free) if shape.grows else None
        for node, number in self._plan.numbers.items():
            if number == FIRST_INODE:
                # Their numbers are between the root's and all others.
                for special, made in ((RESIZE_INODE, resize), (JOURNAL_INODE, journal)):
                    if made is not None:
                        self._tables.put(special, made, is_dir=False)
            try:
                inode = self._node(node, number)
            except ImageError as error:
                raise type(error)(f"{show(self._plan.path(node))}: {error.message}", hint=error.hint) from error
            self._tables.put(number, inode, is_dir=node.is_dir)
        self._free.flush()
        self._tables.flush()
        write_groups(
            self._disk,
            self._geometry,
            self._tables,
            self._free.position,
            About(self._identity, label, min(max(self._plan.newest // 1_000_000_000, 0), 0xFFFFFFFF), journal),
        )

    def _journal(self) -> bytes:
        """Make the journal, an empty log; return its inode."""
        count = self._geometry.journal_blocks
        extents = Extents()
        for first, length in self._free.take(count):
            extents.add(extents.blocks, first, length)
        header = JOURNAL_HEADER.pack(JOURNAL_MAGIC, JOURNAL_SUPERBLOCK_V2, 0)
        # The log begins at block 1 with sequence 1, and none of it is to be replayed.
        superblock = JOURNAL_SUPERBLOCK.pack(BLOCK, count, 1, 1, 0, 0, 0, 0, 0, uuid_of(self._identity), 1)
        self._disk.pwrite(header + superblock, extents.first * BLOCK)
        node = Node(stat.S_IFREG | 0o600, mtime_ns=self._plan.newest, size=count * BLOCK)
        return self._inode(node, size=node.size, extents=extents)

    def _node(self, node: Node, number: int) -> bytes:
        """Write the data of `node`; return its inode."""
        if node.is_file:
            return self._inode(node, size=node.size, extents=self._file(node))
        if node.is_dir:
            data, indexed = self._directory(node, number)
            flags = _INDEX if indexed else 0
            return self._inode(node, size=len(data), extents=self._contiguous(data), flags=flags)
        if node.is_symlink:
            if len(node.target) < FAST_SYMLINK:
                return self._inode(node, size=len(node.target), block=node.target)
            return self._inode(node, size=len(node.target), extents=self._contiguous(node.target))
        return self._inode(node, block=pack_device(*node.device) if node.is_device else b"")

    def _file(self, node: Node) -> Extents:
        """Write the blocks of a regular file that are not zeros."""
        extents = Extents()
        for at, piece in _whole_blocks(node):
            view = memoryview(piece)
            for start, stop in data_runs(view):
                logical = (at + start) // BLOCK
                for first, length in self._free.append(view[start:stop]):
                    extents.add(logical, first, length)
                    logical += length
            self._meter.advance(len(piece))
        return extents

    def _contiguous(self, data: bytes | bytearray) -> Extents:
        extents = Extents()
        for first, length in self._free.append(data):
            extents.add(extents.blocks, first, length)
        return extents

    def _directory(self, node: Node, number: int) -> tuple[bytes | bytearray, bool]:
        """Return the blocks of a directory, and whether they have an index."""
        entries = []
        for name, child in sorted(self._plan.children(node).items()):
            entries.append(DirEntry(name, self._plan.numbers[child], FILE_TYPES[child.type]))
            if child.is_dir:
                self._parents[child] = number
        return directory(number, self._parents.pop(node), entries, hash_seed_of(self._identity))

    def _inode(
        self, node: Node, *, size: int = 0, extents: Extents | None = None, block: bytes = b"", flags: int = 0
    ) -> bytes:
        """Return the inode (inodes.rst), having written what of the extents and attributes does not fit into it."""
        blocks = 0
        if extents is not None:
            flags |= _EXTENTS
            block = extents.pack(self._free)
            blocks = extents.blocks
        inline = b""
        attributes = 0
        if node.xattrs:
            inline, apart = encode(node.xattrs, INODE_SIZE)
            if apart:
                ((attributes, _),) = self._free.append(apart)
                blocks += 1
        time, extra = pack_time(node.mtime_ns)
        sectors = blocks * (BLOCK // SECTOR)
        return (
            INODE.pack(
                *(node.mode, node.uid & 0xFFFF, size & 0xFFFFFFFF, time, time, time, 0, node.gid & 0xFFFF),
                *(self._plan.links(node), sectors & 0xFFFFFFFF, flags, 0, block, 0, attributes, size >> 32, 0),
                *(sectors >> 32, 0, node.uid >> 16, node.gid >> 16, 0, 0),
            )
            + INODE_EXTRA.pack(EXTRA_ISIZE, 0, extra, extra, extra, time, extra, 0, 0)
            + inline
        )


def _check(path: bytes, node: Node) -> None:
    """Refuse what ext4 has no place for."""
    if node.type not in FILE_TYPES:
        raise UnsupportedFeature(f"{show(path)} has the mode {node.mode:o}, which is of no type that ext4 knows")
    if not (0 <= node.uid <= _MAX_ID and 0 <= node.gid <= _MAX_ID):
        raise LimitExceeded(f"{show(path)} belongs to {node.uid}:{node.gid}; ids go from 0 to {_MAX_ID}")
    if node.size > _MAX_FILE:
        raise LimitExceeded(f"{show(path)} has {node.size} bytes; a file on ext4 has at most {_MAX_FILE}")
    if node.is_symlink and not 1 <= len(node.target) <= _MAX_TARGET:
        raise LimitExceeded(
            f"{show(path)} is a symbolic link of {len(node.target)} bytes; ext4 allows 1 to {_MAX_TARGET}"
        )
    if node.is_symlink and b"\0" in node.target:
        raise CorruptImage(f"{show(path)} is a symbolic link to {show(node.target)}, which has a NUL in it")
    if node.is_device and not (0 <= node.device[0] <= _MAX_MAJOR and 0 <= node.device[1] <= _MAX_MINOR):
        raise LimitExceeded(f"{show(path)} is the device {node.device}; Linux allows up to {(_MAX_MAJOR, _MAX_MINOR)}")


def _whole_blocks(node: Node) -> Iterator[tuple[int, bytes | bytearray]]:
    """Yield the data of a file as pieces that begin at a block and, unless the file ends there, end with one."""
    held = bytearray()
    start = 0
    for at, piece in node.chunks(CHUNK):
        end = start + len(held)
        if held and at - at % BLOCK >= end:
            # What is held ends in a block that has nothing more.
            yield start, held.ljust(-(-len(held) // BLOCK) * BLOCK, b"\0")
            held = bytearray()
        if not held:
            if at % BLOCK == 0 and (len(piece) % BLOCK == 0 or at + len(piece) == node.size):
                yield at, piece
                continue
            start = end = at - at % BLOCK
        held += bytes(at - end)
        held += piece
        whole = len(held) // BLOCK * BLOCK
        if whole:
            yield start, held[:whole]
            held = held[whole:]
            start += whole
    if held:
        yield start, held
