"""vhd: the disk as a fixed VHD, which Azure takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Put a footer behind the RAW disk: a clone of it, which shares its extents where that can be."""
    from recipes.formats.disk.vhd import write
    from recipes.formats.io import blkhash
    from recipes.formats.io.sparse import clone, removed_on_error

    path, receipt = work.input()
    context = work.context("vhd")
    assert receipt.artifact.blkhash is not None, "a RAW disk is known by its blkhash"
    with removed_on_error(work.temporary):
        with context.meter() as meter:
            clone(path, work.temporary, meter=meter, durable=False)
        write.finish(work.temporary, receipt.artifact.blkhash.hex.encode())
        with context.meter(what="hashing") as meter:
            digest = blkhash.of_file(work.temporary, jobs=context.jobs, meter=meter)
    return Made(work.temporary, Artifact(blkhash=digest), receipt.content)


RECIPE = Recipe(
    kind="vhd",
    version=1,
    make=make,
)
