"""vmdk: the disk as a streamOptimized VMDK, which vSphere takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Compress the grains of the RAW disk that have data."""
    from recipes.formats.disk.reading import open_raw
    from recipes.formats.disk.vmdk.write import write_stream

    path, receipt = work.input()
    context = work.context("vmdk")
    with open_raw(path) as disk:
        digest = write_stream(disk, work.temporary, context, known=receipt.artifact.blkhash)
    return Made(work.temporary, Artifact(blkhash=digest), receipt.content)


RECIPE = Recipe(
    kind="vmdk",
    # 2: the descriptor has the comments that libvmdk goes by.
    version=2,
    make=make,
)
