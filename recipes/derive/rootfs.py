"""rootfs: the root file system as a tar archive, from whatever upstream offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact
from recipes.rootplace import ANYWHERE

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.model import Identity, Image

    from .recipe import Work


def make(work: Work) -> Made:
    """Read the disk, the tarball or the image's layers, and write one canonical archive; nothing is unpacked."""
    from recipes.formats import rootfs

    path, receipt = work.input()
    image, context = work.image, work.context("rootfs")
    wanted = rootfs.Wanted(image.kind, image.arch, image.source.strip, image.root)
    with rootfs.open_tree(path, context, wanted, stored=receipt.wrapper.size) as tree:
        digest = rootfs.write(tree, work.temporary, context)
    return Made(work.temporary, Artifact(digest=digest), receipt.content)


def parameters(image: Image, identity: Identity) -> Mapping[str, object]:
    """Return what decides about the files beside the content; nothing where the root is found in it."""
    said = {"strip": image.source.strip, "root": str(image.root) if image.root != ANYWHERE else ""}
    return {name: value for name, value in said.items() if value}


RECIPE = Recipe(
    kind="rootfs",
    # 2: what fstab mounts from the same disk is part of it. 3: what ostree deploys; the root that the boot entry names.
    version=3,
    make=make,
    parameters=parameters,
)
