"""The machines that a root file system is for: what its programs are started by says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.errors import ImageError

from . import rootfs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from recipes.model import Arch

    from .io.context import Context
    from .tree.tree import Tree

#: Where programs look for their dynamic linker: the paths are part of each machine's ABI (glibc's "ABI list", musl's
#: reference manual), so that distributions have them there, or links that lead there.
_LINKERS: Mapping[Arch, tuple[bytes, ...]] = {
    "x86_64": (b"lib64/ld-linux-x86-64.so.2", b"lib/ld-musl-x86_64.so.1"),
    "aarch64": (b"lib/ld-linux-aarch64.so.1", b"lib/ld-musl-aarch64.so.1"),
}


def of_tree(tree: Tree) -> Arch | None:
    """Return the architecture whose dynamic linker `tree` has; None where it has none, or several."""
    found = [arch for arch, paths in _LINKERS.items() if any(tree.find(path) is not None for path in paths)]
    return found[0] if len(found) == 1 else None


def of_file(path: Path, context: Context, here: Arch) -> Arch | None:
    """Return the architecture of the root file system on the disk, or in the archive, at `path`; None for none.

    It is opened for that, and its metadata read; what is compressed is not. `here` is taken of several images.
    """
    try:
        with rootfs.open_tree(path, context, rootfs.Wanted(None, here)) as tree:
            return of_tree(tree)
    except ImageError:
        # Whatever is wrong with it, making something of it will say so better.
        return None
