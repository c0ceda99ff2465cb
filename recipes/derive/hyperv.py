"""hyperv: the whole disk as a dynamic VHDX, which Hyper-V starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Write the blocks of the RAW disk that have data."""
    from recipes.formats.disk.vhdx.whole import write_whole

    path, receipt = work.input()
    assert receipt.artifact.blkhash is not None, "a RAW disk is known by its blkhash"
    identity = receipt.artifact.blkhash.hex.encode()
    digest = write_whole(path, work.temporary, work.context("hyperv"), identity=identity)
    return Made(work.temporary, Artifact(blkhash=digest), receipt.content)


RECIPE = Recipe(
    kind="hyperv",
    version=1,
    make=make,
)
