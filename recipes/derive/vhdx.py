"""vhdx: the root file system as a disk that WSL2 loads: ext4 in a dynamic VHDX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.model import Identity, Image

    from .recipe import Work


def make(work: Work) -> Made:
    """Write the root file system straight into the VHDX; only its blocks with data take room."""
    # Here and not above, as in rootfs and oci: a run that has nothing to do needs none of the formats.
    from recipes.formats.tar import read as tar_read
    from recipes.formats.wsl import write_vhdx

    path, receipt = work.input()
    context = work.context("vhdx")
    with context.meter(what="reading") as meter:
        loaded = tar_read.load(path, meter=meter)
    with loaded as tree:
        blkhash = write_vhdx(tree, work.temporary, context, size=work.image.vhdx_size)
    return Made(work.temporary, Artifact(blkhash=blkhash), receipt.content)


def parameters(image: Image, identity: Identity) -> Mapping[str, object]:
    """Return what decides about the disk beside its files."""
    return {"size": image.vhdx_size}


RECIPE = Recipe(
    kind="vhdx",
    # 2: what fstab mounts from the same disk is part of it.
    version=2,
    make=make,
    parameters=parameters,
)
