"""A root file system as the disk that WSL starts from: ext4 on the whole of a dynamic VHDX, in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .disk.vhdx.write import VhdxWriter
from .fs.ext4 import write as ext4_write
from .io.sparse import removed_on_error

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import BlockHash

    from .io.context import Context
    from .tree.tree import Tree


def write_vhdx(tree: Tree, path: Path, context: Context, *, size: int) -> BlockHash:
    """Write `tree` to a VHDX at `path`, which must not exist, with a disk of `size` bytes; return the blkhash of the
    file.

    The meter is told the bytes of data. After an error nothing is at `path`. The file system has no label, and the disk
    no partition table: WSL mounts it as it is. Errors: those of `ext4_write.write` and of `VhdxWriter`.
    """
    with (
        removed_on_error(path),
        VhdxWriter(path, virtual_size=size, durable=context.durable) as disk,
        context.meter() as meter,
    ):
        ext4_write.write(tree, disk, size=size, label="", meter=meter)
        return disk.finish(tree.digest())
