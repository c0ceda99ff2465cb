"""A whole RAW disk as a dynamic VHDX, for Hyper-V."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from recipes.errors import ImageError
from recipes.formats.io.sparse import data_chunks, data_units, removed_on_error

from .write import BLOCK_SIZE, VhdxWriter

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.io.context import Context
    from recipes.model import BlockHash


def write_whole(raw: Path, path: Path, context: Context, *, identity: bytes) -> BlockHash:
    """Write the RAW disk at `raw` to a VHDX at `path`, which must not exist; return the blkhash of the file.

    Only blocks of 1 MiB with data are in it. The meter is told the bytes of data. After an error nothing is at `path`.
    Errors: those of `VhdxWriter`.
    """
    with raw.open("rb", buffering=0) as source:
        fd = source.fileno()
        size = os.fstat(fd).st_size
        with (
            removed_on_error(path),
            VhdxWriter(path, virtual_size=size, identity=identity, durable=context.durable) as disk,
            context.meter(sum(stop - start for start, stop in data_units(fd, size, BLOCK_SIZE))) as meter,
        ):
            for start, stop in data_chunks(fd, size, BLOCK_SIZE):
                data = os.pread(fd, stop - start, start)
                if len(data) != stop - start:
                    raise ImageError(f"{raw}: the file was cut while it was being read")
                disk.pwrite(data, start)
                meter.advance(len(data))
            return disk.finish()
