"""The root file system of a disk, as a `Tree`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from recipes.errors import printable
from recipes.formats.disk.guest import Guest
from recipes.formats.disk.table import FORMATS
from recipes.formats.io.context import Context
from recipes.formats.io.files import os_errors
from recipes.formats.io.probe import probe
from recipes.formats.io.source import FileSource
from recipes.formats.io.sparse import data_size
from recipes.formats.tree.tree import Tree, show
from recipes.rootplace import ANYWHERE

from . import mounts, ostree
from .devices import devices
from .search import Disk, Search

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from recipes.formats.io.source import Source
    from recipes.rootplace import RootPlace

    from .btrfs import Btrfs
    from .devices import Root

#: How the work is done for whoever only wants the tree.
_ALONE = Context(label="root")


def load(path: Path, context: Context = _ALONE, *, stored: int | None = None, place: RootPlace = ANYWHERE) -> Tree:
    """Return the root file system of the disk at `path`. The tree keeps the file open: use it as a context manager.

    The disk is RAW, or an image of at most `context.limit` bytes in a format that is read: that is not converted, only
    what is looked at is decompressed. `stored` are the bytes that it was made of, where that is known: by default its
    own, without holes. Whoever watches is told that it goes on, see `Tree.told`, and what was decided that could be
    otherwise.

    Which file system is the root says `place`, or `Search.root` finds it. If that has the deployments of ostree instead
    of a root, the one that would boot is it, see `ostree.deploy`. What the root's fstab mounts from the same disk is
    part of it, see `mounts.mount`.

    Errors: `UnsupportedFeature`, which names the partitions with their file systems; `CorruptImage`;
    `LimitExceeded`; `StoreError` for what the operating system refuses.
    """
    with ExitStack() as undo:
        with os_errors(path):
            tree = undo.enter_context(Tree(data_size(path) if stored is None else stored))
            disk = _disk(tree, path, context.limit)
            with context.meter(what="reading") as meter, tree.told(meter):
                found = devices(disk)
                say = _say(context)
                search = Search(Disk(disk.name, found, place, say), tree)
                root = search.root()
                search.fill(root)
                if place.deployment or _is_sysroot(tree):
                    ostree.deploy(tree, f"{disk.name}: {root.device}", place.deployment, search.boots.of(root.device))
                mounts.mount(tree, root, search, found, say)
        undo.pop_all()
    return tree


def describe(path: Path, *, limit: int, place: RootPlace = ANYWHERE) -> str:
    """Return what `load` would take for the root, without reading all of it. Errors: as `load`."""
    with os_errors(path), Tree(data_size(path)) as tree:
        disk = _disk(tree, path, limit)
        root = Search(Disk(disk.name, devices(disk), place, lambda _: None), tree).root()
        return _description(root)


def _description(root: Root) -> str:
    text = str(root.device)
    if root.device.filesystem == "btrfs":
        path = cast("Btrfs", root.filesystem).root.path
        text += f", subvolume {show(path)}" if path else ", its top level"
    return text


def _disk(tree: Tree, path: Path, limit: int) -> Source:
    """Return the disk at `path`, which stays open as long as `tree` is."""
    fd = tree.keep(path.open("rb", buffering=0)).fileno()
    name = probe(path)
    return Guest(FORMATS[name].open(fd, path, limit), str(path)) if name in FORMATS else FileSource(fd, str(path))


def _say(context: Context) -> Callable[[str], None]:
    return lambda message: context.progress.note(printable(f"{context.label}: {message}"))


def _is_sysroot(tree: Tree) -> bool:
    os_release = (b"etc/os-release", b"usr/lib/os-release")
    return tree.follow(ostree.DEPLOY) is not None and not any(tree.follow(name) for name in os_release)
