"""hyperv: the whole disk as a dynamic VHDX, which Hyper-V starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Write the blocks of the RAW disk that have data."""
    from recipes.formats.disk.reading import open_raw
    from recipes.formats.disk.vhdx.whole import write_whole

    path, receipt = work.input()
    context = work.context("hyperv")
    with open_raw(path) as disk:
        digest = write_whole(disk, work.temporary, context, known=receipt.artifact.blkhash)
    return Made(work.temporary, Artifact(blkhash=digest), receipt.content)


RECIPE = Recipe(
    kind="hyperv",
    version=1,
    make=make,
)
