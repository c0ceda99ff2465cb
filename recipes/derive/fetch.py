"""fetch: the wrapper, downloaded and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.cache.receipt import Served
from recipes.model import Artifact
from recipes.reference import serves_by_digest

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.model import Identity, Image

    from .recipe import Work


def make(work: Work) -> Made:
    """Download the wrapper; bytes that are not the identity's are never published.

    That of an image from a registry, or from a layout in a folder, is an archive of its blobs. It is the same for the
    same manifest, and its own digest is known only once it is there. A disk from a registry is the
    blob that is the disk, but for one that is a file in a container image.
    """
    from recipes.sources import disk_fetch, download, oci_fetch
    from recipes.sources.access import Access

    identity, image = work.identity, work.image
    urls, part = identity.urls, work.held.entry.part
    access = Access(work.limits.mirrors, work.limits.offline, progress=work.progress)
    label = f"fetch:{image.name}"
    if image.kind == "disk" and serves_by_digest(urls[0]):
        wanted = disk_fetch.Wanted(identity.digest, image.arch, image.source.disktype)
        pulled = disk_fetch.pull(urls, part, access, wanted, label, work.arrival)
        return Made(part, Artifact(size=pulled.size, digest=pulled.digest), served=Served(pulled.served))
    if serves_by_digest(urls[0]):
        pulled = oci_fetch.pull(
            urls,
            part,
            access,
            digest=identity.digest,
            arch=image.arch,
            label=label,
        )
        return Made(part, Artifact(size=pulled.size, digest=pulled.digest), served=Served(pulled.served))
    done = download.download(
        urls,
        part,
        access,
        wanted=download.Wanted(identity.digest, identity.size),
        label=label,
        arrival=work.arrival,
    )
    return Made(
        path=part,
        artifact=Artifact(size=done.size, digest=identity.digest),
        served=Served(done.url, done.etag, done.last_modified, done.content_type),
    )


def parameters(image: Image, identity: Identity) -> Mapping[str, object]:
    """Tell apart what one digest stands for: that of an image index is the same for all architectures."""
    if image.kind == "disk" and serves_by_digest(identity.urls[0]):
        return {"arch": image.arch, "disktype": image.source.disktype}
    return {"arch": image.arch} if image.kind == "oci" else {}


RECIPE = Recipe(
    kind="fetch",
    version=1,
    make=make,
    parameters=parameters,
)
