"""rootfs: the root file system as a tar archive, from whatever upstream offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact

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
    with rootfs.open_tree(
        path, context, kind=image.kind, arch=image.arch, strip=image.source.strip, stored=receipt.wrapper.size
    ) as tree:
        digest = rootfs.write(tree, work.temporary, context)
    return Made(work.temporary, Artifact(digest=digest), receipt.content)


def parameters(image: Image, identity: Identity) -> Mapping[str, object]:
    """Return what decides about the files beside the content; nothing where the root is the archive's own."""
    return {"strip": image.source.strip} if image.source.strip else {}


RECIPE = Recipe(
    kind="rootfs",
    # 2: what fstab mounts from the same disk is part of it.
    version=2,
    make=make,
    parameters=parameters,
)
