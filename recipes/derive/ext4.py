"""ext4: the root file system as a bare ext4 in a sparse file, which a microVM boots from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.model import Identity, Image

    from .recipe import Work


def make(work: Work) -> Made:
    """Write the root file system; say what a machine that boots it will miss."""
    from recipes.formats import microvm
    from recipes.formats.tar import read as tar_read

    path, receipt = work.input()
    image, context = work.image, work.context("ext4")
    with context.meter(what="reading") as meter:
        loaded = tar_read.load(path, meter=meter)
    with loaded as tree:
        for lack in microvm.lacks(tree):
            work.progress.note(f"ext4:{image.name}: {lack}")
        blkhash = microvm.write_ext4(
            tree, work.temporary, context, size=image.ext4_size, label=image.name, journal=image.ext4_journal
        )
    return Made(work.temporary, Artifact(blkhash=blkhash), receipt.content)


def parameters(image: Image, identity: Identity) -> Mapping[str, object]:
    """Return what decides about the file system beside its files."""
    return {"size": image.ext4_size, "journal": image.ext4_journal, "label": image.name}


RECIPE = Recipe(
    kind="ext4",
    version=1,
    make=make,
    parameters=parameters,
)
