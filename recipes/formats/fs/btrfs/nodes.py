"""The nodes of btrfs's trees, read and verified.

Specification: btrfs.readthedocs.io, "On-disk format", and fs/btrfs/tree-checker.c for what a node has to be like. What
the kernel would refuse is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import CorruptImage
from recipes.formats.io.source import read_exact

from .layout import CHECKSUM_SIZE, ITEM, MAX_LEVEL, NODE, POINTER

if TYPE_CHECKING:
    from .volume import Volume

#: Bytes of nodes that lookups keep.
_KEPT = 4 << 20

#: objectid, type, offset.
Key = tuple[int, int, int]


class Pointer(NamedTuple):
    """What a parent, or the item of a root, says of a node."""

    bytenr: int
    level: int
    generation: int
    #: The first key in it; None of a root.
    first: Key | None = None


class Node(NamedTuple):
    """A node as it is on the disk."""

    raw: bytes
    level: int
    #: Where on the device `raw` was found.
    physical: int
    #: In a leaf: the key's three parts, where in `raw` behind the header the item's data is, and its bytes. In an inner
    #: node: the key's three parts, the child's address, its generation.
    items: list[tuple[int, int, int, int, int]]


class Nodes:
    """Reads nodes, from the second copy if the first is damaged. Threads may share it."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self._most = max(1, _KEPT // volume.node_size)
        self._kept: OrderedDict[tuple[int, int], Node] = OrderedDict()
        self._lock = Lock()

    def kept(self, pointer: Pointer) -> Node:
        """Return the node at `pointer`, as `read` does; the latest ones are kept, for whoever looks things up."""
        key = pointer.bytenr, pointer.level
        with self._lock:
            node = self._kept.get(key)
            if node is not None:
                self._kept.move_to_end(key)
                return node
        node = self.read(pointer)
        with self._lock:
            self._kept[key] = node
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return node

    def read(self, pointer: Pointer) -> Node:
        """Return the node at `pointer`. Errors: `CorruptImage` if no copy is what `pointer` and its checksum say."""
        volume = self.volume
        bytenr = pointer.bytenr
        if bytenr % volume.sector_size:
            raise volume.corrupt(f"a node at {bytenr:#x}, which no sector begins at")
        error: CorruptImage | None = None
        for physical in volume.chunks.find(bytenr, volume.node_size, "a node"):
            try:
                raw = read_exact(volume.source, physical, volume.node_size)
                return self._checked(raw, physical, pointer)
            except CorruptImage as each:
                # What is wrong with the first says more than what is wrong with the others.
                error = error or each
        assert error is not None
        raise error

    def _checked(self, raw: bytes, physical: int, pointer: Pointer) -> Node:
        volume = self.volume
        what = f"the node at {pointer.bytenr:#x}"
        expected = raw[: volume.checksum.size]
        if (computed := volume.checksum.of(raw[CHECKSUM_SIZE:])) != expected:
            raise volume.corrupt(f"{what}: expected the checksum {expected.hex()}, found {computed.hex()}")
        _checksum, fsid, bytenr, _flags, _uuid, generation, _owner, count, level = NODE.unpack_from(raw)
        found = bytenr, level, generation
        # The owner is not the tree's in what snapshots share.
        if found != pointer[:3] or fsid != volume.node_fsid or level >= MAX_LEVEL:
            raise volume.corrupt(
                f"{what}: expected address, level and generation {pointer[:3]} and the fsid {volume.node_fsid.hex()}, "
                f"found {found} and {fsid.hex()}"
            )
        form = POINTER if level else ITEM
        end = NODE.size + count * form.size
        if end > len(raw) or (level and not count):
            raise volume.corrupt(f"{what}: {count} items are in no node of {len(raw)} bytes")
        items: list[tuple[int, int, int, int, int]] = list(form.iter_unpack(raw[NODE.size : end]))
        if level:
            self._check_order(items, what)
        else:
            self._check_leaf(items, len(raw) - NODE.size, what)
        if pointer.first is not None and (not items or items[0][:3] != pointer.first):
            raise volume.corrupt(f"{what}: expected the key {pointer.first} to be the first")
        return Node(raw, level, physical, items)

    def _check_order(self, items: list[tuple[int, int, int, int, int]], what: str) -> None:
        keys = [item[:3] for item in items]
        if any(one >= other for one, other in pairwise(keys)):
            raise self.volume.corrupt(f"{what}: its keys are not in ascending order")

    def _check_leaf(self, items: list[tuple[int, int, int, int, int]], room: int, what: str) -> None:
        """Raise CorruptImage unless the data of the items fills the leaf from its end on, without gaps or overlaps."""
        before: tuple[int, ...] = ()
        end = room
        for objectid, kind, offset, at, size in items:
            key = objectid, kind, offset
            if at + size != end or key <= before:
                raise self.volume.corrupt(f"{what}: the item {key} is not where it belongs")
            before, end = key, at
        if end < len(items) * ITEM.size:
            raise self.volume.corrupt(f"{what}: its items have more data than there is room for")
