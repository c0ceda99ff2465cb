"""vmdk: the disk as a streamOptimized VMDK, which vSphere imports and OVAs hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Compress the grains of the RAW disk that have data."""
    from recipes.formats.disk.vmdk.write import write_stream

    path, receipt = work.input()
    assert receipt.artifact.blkhash is not None, "a RAW disk is known by its blkhash"
    identity = receipt.artifact.blkhash.hex.encode()
    digest = write_stream(path, work.temporary, work.context("vmdk"), identity=identity)
    return Made(work.temporary, Artifact(blkhash=digest), receipt.content)


RECIPE = Recipe(
    kind="vmdk",
    version=1,
    make=make,
)
