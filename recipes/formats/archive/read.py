"""The files in an archive, tar or zip, by its magic."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded
from recipes.formats.io.bounds import metadata_limit
from recipes.formats.tar import read as tar_read

from . import zip as zip_read
from .member import CHUNK, Member

if TYPE_CHECKING:
    from recipes.formats.io.source import Source

#: What `probe` calls the archives that a disk may be in.
FORMATS = frozenset({"tar", "zip"})


def members(source: Source, form: str, *, stored: int, piece: int = CHUNK) -> list[Member]:
    """Return the regular files of the archive `source`, which is one of `FORMATS`.

    `stored` are the bytes of the outermost file, which bound what the names may cost; members are read in pieces of
    `piece` bytes, `CHUNK` at the most. No path is ever made of a name.
    Errors: those of `tar_read.members` and `zip_read.members`; `LimitExceeded` for more files than an archive with a
    disk has.
    """
    if form == "zip":
        return zip_read.members(source, piece)
    limit = metadata_limit(stored)
    spent = 0

    def spend(weight: int) -> None:
        nonlocal spent
        spent += weight
        if spent > limit:
            raise LimitExceeded(f"{source.name}: its names and maps are larger than {stored} bytes justify")

    found: list[Member] = []
    for path, node, _ in tar_read.members(source, spend=spend):
        if node is None or not node.is_file:
            continue
        if len(found) == zip_read.MAX_MEMBERS:
            raise LimitExceeded(f"{source.name}: more than {zip_read.MAX_MEMBERS} files, in an archive with a disk")
        found.append(Member(os.fsdecode(path).removeprefix("./"), node.size, partial(node.chunks, piece)))
    return found
