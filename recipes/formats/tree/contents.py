"""The text of small files in a tree: settings, lists, links that lead to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded

from .tree import show

if TYPE_CHECKING:
    from .tree import Tree


def contents(tree: Tree, path: bytes, limit: int) -> bytes | None:
    """Return what the regular file at `path` holds; None if there is none. Symbolic links are followed.

    Errors: `LimitExceeded` for more than `limit` bytes; `CorruptImage` for data that ends too early, and for links that
    are a loop.
    """
    node = tree.follow(path)
    if node is None or not node.is_file:
        return None
    if node.size > limit:
        raise LimitExceeded(f"{show(path)} has {node.size} bytes, and {limit} are read")
    text = bytearray(node.size)
    for at, piece in node.chunks(limit):
        text[at : at + len(piece)] = piece
    return bytes(text)
