"""oci: the root file system as an archive that docker, podman, skopeo and Apple container load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact
from recipes.redact import shown
from recipes.reference import component

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.model import Identity, Image

    from .recipe import Work


def make(work: Work) -> Made:
    """Write an image of one layer, which is the root file system."""
    from recipes.formats.oci import archive as oci_archive
    from recipes.formats.tar import read as tar_read

    path, receipt = work.input()
    image, context = work.image, work.context("oci")
    about = oci_archive.About(image.arch, reference(image.name), _annotations(image, work.identity))
    with context.meter(what="reading") as meter:
        loaded = tar_read.load(path, meter=meter)
    with loaded as tree:
        made = oci_archive.write(tree, work.temporary, about, context, compression=image.compression)
    return Made(work.temporary, Artifact(blkhash=made.blkhash), receipt.content)


def reference(name: str) -> str:
    """Return what clients call the image `name` once they have loaded it.

    ``localhost`` says that it is nowhere to be pulled from: without it, a client that has not loaded the image would
    ask Docker Hub for one that a stranger may have put there.
    """
    return f"localhost/{component(name)}:latest"


def parameters(image: Image, identity: Identity) -> Mapping[str, object]:
    """Return what the archive says beside its files."""
    return {
        "arch": image.arch,
        "name": reference(image.name),
        "compression": image.compression,
        "annotations": _annotations(image, identity),
    }


def _annotations(image: Image, identity: Identity) -> dict[str, str]:
    """Return labels and annotations (OCI image-spec, annotations.md, "Pre-Defined Annotation Keys")."""
    return {
        "org.opencontainers.image.title": image.title or image.name,
        "org.opencontainers.image.source": shown(identity.urls[0]),
        "org.opencontainers.image.revision": str(identity.digest),
    }


RECIPE = Recipe(
    kind="oci",
    # 2: what fstab mounts from the same disk is part of it.
    version=2,
    make=make,
    parameters=parameters,
)
