"""Trees of nodes: everything in one in order, ranges of keys, and the item at or before a key."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from .layout import NODE
from .nodes import Pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .nodes import Key, Node, Nodes


class Item(NamedTuple):
    """What is filed under a key."""

    key: Key
    body: bytes


class BTree:
    """The tree below a root, called `what` in errors."""

    def __init__(self, nodes: Nodes, root: Pointer, what: str) -> None:
        self._nodes = nodes
        self._root = root
        self._what = what

    def leaves(self, spend: Callable[[int], None] | None = None) -> Iterator[Node]:
        """Yield all leaves in the order of their keys; `spend` is told what each node weighs.

        Errors: `CorruptImage` for what is no tree, for instance because a node comes twice.
        """
        volume = self._nodes.volume
        seen: set[int] = set()
        last: tuple[int, ...] = ()
        todo = [self._root]
        while todo:
            pointer = todo.pop()
            if pointer.bytenr in seen:
                raise volume.corrupt(f"{self._what} has the node at {pointer.bytenr:#x} twice")
            seen.add(pointer.bytenr)
            if spend:
                # A leaf full of items takes about 15 ns for each of its bytes.
                spend(volume.node_size)
            node = self._nodes.read(pointer)
            if node.level:
                todo += [_child(node, index) for index in range(len(node.items) - 1, -1, -1)]
            elif node.items:
                if node.items[0][:3] <= last:
                    raise volume.corrupt(f"{self._what} has keys that are not in ascending order")
                last = node.items[-1][:3]
                yield node

    def items(self) -> Iterator[Item]:
        """Yield all items in the order of their keys."""
        for node in self.leaves():
            for index in range(len(node.items)):
                yield item(node, index)

    def range(self, first: Key, last: Key) -> Iterator[Item]:
        """Yield the items from `first` to `last`, both included. The nodes are kept for the next who looks."""
        todo = [self._root]
        while todo:
            node = self._nodes.kept(todo.pop())
            start = bisect_left(node.items, first)
            stop = bisect_right(node.items, (*last, _MOST, _MOST))
            if node.level:
                # What is before the first key that is large enough may end with what is wanted.
                todo += [_child(node, index) for index in range(stop - 1, max(0, start - 1) - 1, -1)]
            else:
                yield from (item(node, index) for index in range(start, stop))

    def floor(self, key: Key) -> tuple[Item | None, Key | None]:
        """Return the last item at or before `key`, and the key of the one that follows it; None if there is none."""
        pointer: Pointer | None = self._root
        following: Key | None = None
        while pointer:
            node = self._nodes.kept(pointer)
            index = bisect_right(node.items, (*key, _MOST, _MOST)) - 1
            if index + 1 < len(node.items):
                following = node.items[index + 1][:3]
            if index < 0:
                break
            if not node.level:
                return item(node, index), following
            pointer = _child(node, index)
        return None, following


_MOST = 1 << 64


def item(node: Node, index: int) -> Item:
    """Return an item of a leaf."""
    objectid, kind, offset, at, size = node.items[index]
    return Item((objectid, kind, offset), node.raw[NODE.size + at : NODE.size + at + size])


def _child(node: Node, index: int) -> Pointer:
    objectid, kind, offset, bytenr, generation = node.items[index]
    return Pointer(bytenr, node.level - 1, generation, (objectid, kind, offset))
