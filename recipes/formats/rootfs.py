"""A root file system, wherever it is: on a disk, in a tarball, in the layers of an image; and as one canonical tar."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.model import Digest
from recipes.rootplace import ANYWHERE

from .disk import foreign
from .disk.table import FORMATS, readable
from .fs import root as disk_tree
from .io import probe
from .io.bounds import content_limit
from .io.files import os_errors
from .io.sparse import SparseFile, data_size, removed_on_error
from .oci import layers
from .oci import layout as oci_layout
from .root_check import require_root
from .tar import header as tar_header
from .tar import read as tar_read
from .tar import write as tar_write

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import Arch, Kind
    from recipes.rootplace import RootPlace

    from .io.context import Context
    from .tree.tree import Tree


class Wanted(NamedTuple):
    """Which root file system of a file."""

    #: What the file is to be; None leaves that to its content.
    kind: Kind | None
    #: Of an archive with images for several architectures, the one.
    arch: Arch
    #: The folder of a tarball that is the root, if it is not the tarball's own.
    strip: str = ""
    #: Where on a disk the root is, if that is not to be found out.
    place: RootPlace = ANYWHERE


def open_tree(path: Path, context: Context, wanted: Wanted, *, stored: int | None = None) -> Tree:
    """Return the root file system in the file at `path`; nothing is unpacked, the tree reads from the file.

    The layers of an image are decompressed into files named by `context.scratch`, which have no name any more once they
    are open; together they may have `context.limit` bytes. `stored` are the bytes of what the file was made of, where
    that was compressed: what may come of it depends on them.

    Errors: `UnsupportedFeature` for what is none of the three or holds no root file system, `CorruptImage`,
    `LimitExceeded`, `NoSpace`, `StoreError` for what the operating system refuses.
    """
    strip = wanted.strip
    with os_errors(path):
        kind = wanted.kind or _kind(path)
        if strip and kind != "rootfs":
            raise UnsupportedFeature(f"{path}: a folder to strip is for a tarball, and this is none")
        if wanted.place != ANYWHERE and kind != "disk":
            raise UnsupportedFeature(f"{path}: a partition, volume or subvolume is on a disk, and this is none")
        if kind == "disk":
            tree = disk_tree.load(path, context, stored=stored, place=wanted.place)
            return _checked(tree, stored or data_size(path), path)
        if kind == "rootfs":
            _require_tarball(path)
            with context.meter(what="reading") as meter:
                tree = tar_read.load(path, stored=stored, strip=os.fsencode(strip), meter=meter)
            return _checked(tree, stored or path.stat().st_size, path, archive=not strip)
        with oci_layout.open_image(path, arch=wanted.arch) as image:
            tree = layers.flatten(image, context)
            return _checked(tree, image.stored, path)


def _checked(tree: Tree, stored: int, path: Path, *, archive: bool = False) -> Tree:
    """Return `tree`, or close it and raise what `_require_bounded` and `require_root` do."""
    try:
        _require_bounded(tree, stored, path)
        require_root(tree, path, archive=archive)
    except BaseException:
        tree.__exit__()
        raise
    return tree


def _require_bounded(tree: Tree, stored: int, path: Path) -> None:
    """Raise LimitExceeded for more in `tree` than an input of `stored` bytes justifies.

    Formats let files share what others have: blocks, attributes, and by symbolic links the longest of paths. A disk may
    be a hole for the most part, with files on it all the same. Whatever is made of the tree has each of them in full.
    """
    limit = content_limit(stored)
    nodes: set[int] = set()
    total = 0
    for name, node in tree.walk():
        total += tar_header.BLOCK + len(name)
        if id(node) not in nodes:
            nodes.add(id(node))
            total += node.stored + sum(map(len, node.xattrs.values()))
    if total > limit:
        raise LimitExceeded(f"{path}: its files have {total} bytes, and {stored} bytes of data justify {limit}")


def _require_tarball(path: Path) -> None:
    """Raise UnsupportedFeature for what is something else for certain; of zeros `tar_read` says what they are."""
    name = probe.probe(path)
    if name not in ("tar", "raw"):
        raise foreign.refusal(path, name, "a tarball")


def _kind(path: Path) -> Kind:
    if path.is_dir():
        if oci_layout.is_image(path):
            return "oci"
        raise UnsupportedFeature(
            f"{path}: expected a file, or the folder of an image layout, found one without oci-layout"
        )
    name = probe.probe(path)
    if name == "tar":
        return "oci" if oci_layout.is_image(path) else "rootfs"
    if name in probe.RAW_FORMATS or name in FORMATS:
        return "disk"
    raise foreign.refusal(path, name, f"a disk ({readable()}), a tarball or an archive of an image")


def write(tree: Tree, path: Path, context: Context) -> Digest:
    """Write `tree` to `path`, which must not exist, as `tar_write.write` does; return the digest of the file.

    On success the file is on the disk if it is to be durable; after an error nothing is there. Errors: `NoSpace`,
    `CorruptImage`, `StoreError` for what else the operating system refuses.
    """
    with (
        os_errors(path),
        context.meter() as meter,
        removed_on_error(path),
        SparseFile(path, durable=context.durable) as file,
    ):
        sink = _Hashed(file)
        tar_write.write(tree, sink, meter=meter)
        file.finish(file.position)
        return Digest("sha256", sink.digest.hexdigest())


class _Hashed:
    """Writes to a file, and hashes what it writes."""

    def __init__(self, file: SparseFile) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.digest.update(data)
        self.file.write(data)
