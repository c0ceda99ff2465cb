"""fetch: the wrapper, downloaded and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import Artifact
from recipes.receipt import Served
from recipes.sources import download

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Download the wrapper; bytes that are not the identity's are never published."""
    identity = work.identity
    done = download.download(
        download.with_mirrors(identity.urls, work.limits.mirrors),
        work.held.entry.part,
        digest=identity.digest,
        size=identity.size,
        offline=work.limits.offline,
        progress=work.progress,
        label=f"fetch:{work.image.name}",
    )
    return Made(
        path=work.held.entry.part,
        artifact=Artifact(size=done.size, digest=identity.digest),
        served=Served(done.url, done.etag, done.last_modified, done.content_type),
    )


RECIPE = Recipe(
    kind="fetch",
    version=1,
    input=None,
    make=make,
    doc="the original of {title}, kept",
)
