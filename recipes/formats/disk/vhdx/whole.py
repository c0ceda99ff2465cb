"""A whole disk as a dynamic VHDX, for Hyper-V."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.formats.disk.ahead import encoded
from recipes.formats.io.blkhash import BlockHasher
from recipes.formats.io.sparse import removed_on_error

from .write import BLOCK_SIZE, VhdxWriter

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.disk.reading import Disk
    from recipes.formats.io.context import Context
    from recipes.model import BlockHash


def write_whole(disk: Disk, path: Path, context: Context, *, known: BlockHash | None = None) -> BlockHash:
    """Write `disk` to a VHDX at `path`, which must not exist; return the blkhash of the file.

    Only blocks of 1 MiB with data are in it. Its GUIDs follow from the blkhash of the disk, which may be `known`. The
    meter is told the bytes of data. After an error nothing is at `path`. Errors: those of `VhdxWriter` and of
    `Disk.read`.
    """
    hasher = BlockHasher()

    def read(start: int, stop: int) -> tuple[bytearray, int]:
        data = disk.read(start, stop)
        if known is None:
            hasher.update(start, memoryview(data))
        return data, start

    with (
        removed_on_error(path),
        VhdxWriter(path, virtual_size=disk.size, durable=context.durable) as target,
        context.meter(disk.data_size(BLOCK_SIZE)) as meter,
    ):
        for data, start in encoded(read, disk.chunks(BLOCK_SIZE), context.jobs):
            target.pwrite(data, start)
            meter.advance(len(data))
        blkhash = known or hasher.result(disk.size)
        return target.finish(blkhash.hex.encode())
