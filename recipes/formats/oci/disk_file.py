"""The disk in a container image: KubeVirt's containerDisk, one file directly in ``/disk``."""

from __future__ import annotations

import os
from operator import itemgetter
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.files import os_errors
from recipes.formats.io.sparse import SparseFile, removed_on_error
from recipes.formats.tree.tree import show

from . import layers, layout

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.io.context import Context
    from recipes.formats.tree.tree import Node, Tree
    from recipes.model import Arch

#: How the archive of an image from a registry begins: the name of its first member. No disk does.
_HEAD = b"oci-layout\0"
_CHUNK = 1 << 20


def is_archive(path: Path) -> bool:
    """Say whether the file `path` is the archive of an image, not a disk."""
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD


def extract(path: Path, destination: Path, context: Context, *, arch: Arch, name: str = "") -> None:
    """Write the disk in the image for `arch` at `path` to the new sparse file `destination`.

    It is the regular file directly in ``disk/`` that all layers together leave there; `name` says which of several. No
    link is followed. On success `destination` is complete and on the disk; after any error nothing is there.

    Errors: UnsupportedFeature where there is none, or several and no name; LimitExceeded for more bytes than the image
    justifies, or than `context.limit`; those of `layout.open_image` and `layers.flatten`.
    """
    with os_errors(path), layout.open_image(path, arch=arch) as image, layers.flatten(image, context) as tree:
        _, node = _found(tree, os.fsencode(name), path)
        limit = content_limit(image.stored, context.limit)
        if node.size > limit:
            raise LimitExceeded(f"{path}: its disk has {node.size} bytes, the limit is {limit}")
        with (
            os_errors(destination),
            context.meter(node.stored) as meter,
            removed_on_error(destination),
            SparseFile(destination, durable=context.durable) as file,
        ):
            for at, piece in node.chunks(_CHUNK):
                file.pwrite(piece, at)
                meter.advance(len(piece))
            file.finish(node.size)


def _found(tree: Tree, name: bytes, path: Path) -> tuple[bytes, Node]:
    folder = tree.root.children.get(b"disk")
    files = [(each, node) for each, node in (folder.children if folder else {}).items() if node.is_file]
    chosen = [(each, node) for each, node in files if name in (b"", each)]
    if len(chosen) == 1:
        return chosen[0]
    if not files:
        raise UnsupportedFeature(
            f"{path}: is a container image without a disk in /disk", hint='declare kind = "oci" for what is in it'
        )
    listed = ", ".join(show(each) for each, _ in sorted(files, key=itemgetter(0))[:20])
    wanted = f", called {show(name)}," if name else ""
    raise UnsupportedFeature(
        f"{path}: expected one disk{wanted} in /disk, found {listed}", hint="declare the file's name as disktype"
    )
