"""Paths through a file system that is read in place, name by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from recipes.formats.tree.tree import MAX_LINKS_FOLLOWED, split

if TYPE_CHECKING:
    from collections.abc import Callable

_Place = TypeVar("_Place")


def exists(
    path: bytes,
    root: _Place,
    child: Callable[[_Place, bytes], _Place | None],
    target: Callable[[_Place], bytes | None],
) -> bool:
    """Say whether something is at `path` below `root`; symbolic links are followed within it, as by chroot(2).

    `child` returns what a name in a directory means, None if there is none, and None for what is no directory; `target`
    returns where a symbolic link leads, None for what is none. Links may lead through the same places thousands of
    times: both have to remember what they read.
    """
    followed = 0
    trail = [root]
    todo = split(path)[::-1]
    while todo:
        name = todo.pop()
        if name == b"..":
            del trail[max(1, len(trail) - 1) :]
            continue
        place = child(trail[-1], name)
        if place is None:
            return False
        leads_to = target(place)
        if leads_to is None:
            trail.append(place)
            continue
        followed += 1
        if followed > MAX_LINKS_FOLLOWED:
            return False
        if leads_to.startswith(b"/"):
            trail = [root]
        todo += [part for part in reversed(leads_to.split(b"/")) if part not in (b"", b".")]
    return True
