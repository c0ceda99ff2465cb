"""The content of a wrapper, verified, and made while that arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from recipes.errors import DigestMismatch, ImageError
from recipes.formats.io import digests
from recipes.formats.io.arrival import Arrival
from recipes.formats.wrapper import archived
from recipes.formats.wrapper.follow import Follower
from recipes.model import Artifact
from recipes.redact import shown

from .recipe import Made

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import Content

    from .recipe import Work


class Ahead:
    """The content of a wrapper while it arrives; see `recipe.Ahead`."""

    def __init__(self, work: Work) -> None:
        self.arrival = Arrival(work.held.entry.part, work.identity.size)
        self._work = work
        self._follower = Follower(self.arrival, work.context("content"), published=published(work))

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
            verify(self._work, followed.path, content)
        except DigestMismatch:
            return None
        if self._work.image.kind == "disk" and content.format in archived.FORMATS:
            wrapper = self._work.held.entry.artifact("fetch")
            try:
                return disk_of(self._work, followed.path, wrapper.stat().st_size)
            except ImageError:
                # What is wrong with it is said where the content is asked for: the wrapper is as it should be.
                return None
            finally:
                followed.path.unlink()
        return Made(followed.path, Artifact(digest=content.digest, blkhash=followed.unwrapped.blkhash), content)


def disk_of(work: Work, archive: Path, stored: int) -> Made:
    """Take the disk out of the file `archive`; `stored` are the bytes of the wrapper."""
    path = work.held.temporary("content")
    found = archived.take(archive, path, work.context("content"), pattern=work.image.source.member, stored=stored)
    return Made(path, Artifact(digest=found.digest, blkhash=found.blkhash), found.content)


def published(work: Work) -> str | None:
    """Return the algorithm of the digest that upstream publishes of the content."""
    expected = work.identity.content
    return expected.algorithm if expected else None


def verify(work: Work, path: Path, content: Content) -> None:
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
