"""A root file system as the disk that a microVM boots from: ext4 on the whole of a sparse file."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from .fs.ext4 import write as ext4_write
from .fs.ext4.geometry import Shape
from .fs.ext4.read import Ext4
from .io.hashed import HashedFile
from .io.source import FileSource
from .io.sparse import SparseFile, removed_on_error
from .tree.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.model import BlockHash

    from .io.context import Context

#: Mode, owner and group of the ``lost+found`` that is added.
_LOST_FOUND = (stat.S_IFDIR | 0o700, 0, 0)
#: What the kernel tries in turn, without an initrd and ``init=`` (init/main.c, kernel_init).
_INITS = (b"sbin/init", b"etc/init", b"bin/init", b"bin/sh")


def write_ext4(tree: Tree, path: Path, context: Context, *, size: int, label: str, journal: bool) -> BlockHash:
    """Write `tree` to a file at `path`, which must not exist, as an ext4 of `size` bytes; return its blkhash.

    It may grow while it is mounted. The meter is told the bytes of data. After an error nothing is at `path`. Errors:
    those of `ext4_write.write`.
    """
    with removed_on_error(path), HashedFile(path, durable=context.durable) as disk, context.meter() as meter:
        shape = Shape(journal=journal, grows=True)
        ext4_write.write(tree, disk, size=size, label=label, meter=meter, shape=shape)
        disk.finish(size)
        assert disk.blkhash is not None, "it is finished"
        return disk.blkhash


def grow_ext4(source: Path, path: Path, context: Context, *, size: int) -> None:
    """Write the ext4 in the file `source` to `path`, which must not exist, as one of `size` bytes.

    It is the one that `write_ext4` makes of the same files with that size; sockets are left out. Errors: those of
    `write_ext4`, and `CorruptImage` if `source` is none of those.
    """
    with source.open("rb", buffering=0) as file, context.meter() as meter:
        found = Ext4(FileSource(file.fileno(), str(source)))
        with Tree() as tree, removed_on_error(path), SparseFile(path, durable=context.durable) as disk:
            found.fill(tree)
            _forget_lost_found(tree)
            shape = Shape(journal=found.has_journal, grows=True)
            ext4_write.write(tree, disk, size=size, label=found.label, meter=meter, shape=shape)
            disk.finish(size)


def _forget_lost_found(tree: Tree) -> None:
    """Take out the folder that `ext4_write.write` added, and adds again: it is no part of the files."""
    node = tree.find(b"lost+found")
    if node is not None and not node.children and not node.xattrs and (node.mode, node.uid, node.gid) == _LOST_FOUND:
        tree.remove(b"lost+found")


def lacks(tree: Tree) -> Iterator[str]:
    """Say what a machine needs of its root that a container's may lack: nothing of it is added."""
    if not any(tree.follow(name) for name in _INITS[:3]):
        found = "only /bin/sh" if tree.follow(_INITS[3]) else "nothing"
        yield f"it has no init: of what the kernel would start it has {found}; say init= on the command line"
    if not tree.find(b"etc/fstab"):
        yield "it has no /etc/fstab: the root is mounted as the command line says, and nothing else is"
    if not tree.find(b"etc/resolv.conf"):
        yield "it has no /etc/resolv.conf: no name is resolved before something in it writes one"
