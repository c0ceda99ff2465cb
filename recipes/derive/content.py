"""content: the wrapper without its outer compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.cache import store
from recipes.errors import DigestMismatch
from recipes.formats.codec import compression
from recipes.formats.io import digests
from recipes.formats.io.bounds import content_limit
from recipes.formats.wrapper import unwrap
from recipes.model import Artifact, Content
from recipes.redact import shown

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from .recipe import Work


def make(work: Work) -> Made:
    """Undo gzip, xz, bzip2 or zstd; an uncompressed wrapper gets a second name instead of a copy."""
    path, receipt = work.input()
    wrapper = receipt.wrapper
    if compression.probe_codec(path) is None:
        with path.open("rb") as file:
            content = unwrap.describe(file.fileno(), wrapper.size, wrapper.digest)
        store.link(path, work.temporary)
        _verify(work, work.temporary, content)
        return Made(work.temporary, Artifact(digest=content.digest), content)
    context = work.context("content")
    limit = content_limit(wrapper.size, context.limit)
    published = work.identity.content
    unwrapped = unwrap.unwrap(
        path, work.temporary, context._replace(limit=limit), published=published.algorithm if published else None
    )
    content = unwrapped.content
    _verify(work, work.temporary, content)
    return Made(work.temporary, Artifact(digest=content.digest, blkhash=unwrapped.blkhash), content)


def _verify(work: Work, path: Path, content: Content) -> None:
    """Hold the content against the digest that upstream publishes for it, where it does."""
    expected = work.identity.content
    if expected is None:
        return
    found = content.digest
    # That of an uncompressed wrapper is the wrapper's, in whatever algorithm its list has.
    if found is None or found.algorithm != expected.algorithm:
        found = digests.of_file(path, expected.algorithm)
    if expected != found:
        path.unlink()
        raise DigestMismatch(
            f"the content of {shown(work.identity.urls[0])} is not what upstream lists: expected {expected}, "
            f"got {found}",
            hint="the wrapper is the one that upstream lists, so its list contradicts itself: tell upstream",
        )


RECIPE = Recipe(
    kind="content",
    version=1,
    make=make,
)
