"""qcow2: the disk as a QCOW2 with compressed clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Compress the clusters of the RAW disk that have data."""
    from recipes.formats.disk.qcow2.compress import write_compressed
    from recipes.formats.disk.reading import open_raw

    path, receipt = work.input()
    context = work.context("qcow2")
    with open_raw(path) as disk:
        digest = write_compressed(disk, work.temporary, work.image.qcow2_compression, context)
    return Made(work.temporary, Artifact(blkhash=digest), receipt.content)


RECIPE = Recipe(
    kind="qcow2",
    version=1,
    make=make,
    parameters=lambda image, identity: {"compression": image.qcow2_compression},
)
