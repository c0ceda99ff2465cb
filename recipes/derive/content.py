"""content: the wrapper without its outer compression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from recipes.cache import store
from recipes.errors import DigestMismatch
from recipes.formats.codec import compression
from recipes.formats.io import digests
from recipes.formats.io.arrival import Arrival
from recipes.formats.io.bounds import content_limit
from recipes.formats.wrapper import unwrap
from recipes.formats.wrapper.follow import Follower
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
    unwrapped = unwrap.unwrap(path, work.temporary, context._replace(limit=limit), published=_published(work))
    content = unwrapped.content
    _verify(work, work.temporary, content)
    return Made(work.temporary, Artifact(digest=content.digest, blkhash=unwrapped.blkhash), content)


class Ahead:
    """The content of a wrapper while it arrives; see `recipe.Ahead`."""

    def __init__(self, work: Work) -> None:
        self.arrival = Arrival(work.held.entry.part, work.identity.size)
        self._work = work
        self._follower = Follower(self.arrival, work.context("content"), published=_published(work))

    def __enter__(self) -> Self:
        self._follower.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.__exit__()

    def made(self) -> Made | None:
        """Return the content, unless it is not what upstream lists: then it is made again, and refused."""
        followed = self._follower.result()
        if followed is None:
            return None
        content = followed.unwrapped.content
        try:
            _verify(self._work, followed.path, content)
        except DigestMismatch:
            return None
        return Made(followed.path, Artifact(digest=content.digest, blkhash=followed.unwrapped.blkhash), content)


def _published(work: Work) -> str | None:
    expected = work.identity.content
    return expected.algorithm if expected else None


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
    ahead=Ahead,
)
