"""qcow2: the disk as a QCOW2 with compressed clusters, which every hypervisor around QEMU takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.model import Identity, Image

    from .recipe import Work


def make(work: Work) -> Made:
    """Compress the clusters of the RAW disk that have data."""
    from recipes.formats.disk.qcow2.compress import write_compressed

    path, receipt = work.input()
    digest = write_compressed(path, work.temporary, work.image.qcow2_compression, work.context("qcow2"))
    return Made(work.temporary, Artifact(blkhash=digest), receipt.content)


def parameters(image: Image, identity: Identity) -> Mapping[str, object]:
    """Return what decides about the file beside the disk."""
    return {"compression": image.qcow2_compression}


RECIPE = Recipe(
    kind="qcow2",
    version=1,
    make=make,
    parameters=parameters,
)
