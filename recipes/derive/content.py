"""content: the wrapper without its outer compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.cache import store
from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Ahead, Work


def make(work: Work) -> Made:
    """Undo gzip, xz, bzip2 or zstd; an uncompressed wrapper gets a second name instead of a copy."""
    from recipes.formats.codec import compression
    from recipes.formats.io.bounds import content_limit
    from recipes.formats.wrapper import unwrap

    from . import ahead

    path, receipt = work.input()
    wrapper = receipt.wrapper
    if compression.probe_codec(path) is None:
        with path.open("rb") as file:
            content = unwrap.describe(file.fileno(), wrapper.size, wrapper.digest)
        store.link(path, work.temporary)
        ahead.verify(work, work.temporary, content)
        return Made(work.temporary, Artifact(digest=content.digest), content)
    context = work.context("content")
    limit = content_limit(wrapper.size, context.limit)
    unwrapped = unwrap.unwrap(path, work.temporary, context._replace(limit=limit), published=ahead.published(work))
    content = unwrapped.content
    ahead.verify(work, work.temporary, content)
    return Made(work.temporary, Artifact(digest=content.digest, blkhash=unwrapped.blkhash), content)


def _ahead(work: Work) -> Ahead:
    from .ahead import Ahead

    return Ahead(work)


RECIPE = Recipe(
    kind="content",
    version=1,
    make=make,
    ahead=_ahead,
)
