"""What a derivation is: a recipe that makes one kind of artifact from another, and the work it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from recipes.formats.io.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from recipes.cache.receipt import Receipt, Served
    from recipes.cache.store import Held
    from recipes.formats.io.arrival import Arrival
    from recipes.model import Artifact, Content, Identity, Image
    from recipes.progress import Progress


@dataclass(frozen=True, slots=True)
class Limits:
    """What the run allows: see images.toml's ``[cache]`` and ``[mirrors]``, and the LARDER_* variables."""

    mirrors: Mapping[str, Sequence[str]]
    max_virtual_size: int
    #: Threads inside one derivation.
    jobs: int
    offline: bool


@dataclass(frozen=True, slots=True)
class Work:
    """One derivation to be done, under the lock of its entry."""

    image: Image
    identity: Identity
    held: Held
    limits: Limits
    progress: Progress
    #: Where the result is to be written; nothing is there yet.
    temporary: Path
    #: The receipt of the input, whose artifact is in place; None for a recipe that has no input.
    source: Receipt | None
    #: Whether the input's artifact is to stay, since somebody asked for it.
    keep_source: bool
    #: To be told how far the result is while it comes; None where nobody follows it.
    arrival: Arrival | None = None

    def context(self, kind: str) -> Context:
        """Return how the work on the artifact of `kind` is to be done."""
        return Context(
            self.progress,
            f"{kind}:{self.image.name}",
            self.limits.jobs,
            self.limits.max_virtual_size,
            scratch=lambda: self.held.temporary("scratch"),
        )

    def input(self) -> tuple[Path, Receipt]:
        """Return the input's artifact and its receipt."""
        if self.source is None:
            raise AssertionError("a recipe without an input asked for it")
        return self.held.entry.artifact(self.source.kind), self.source


@dataclass(frozen=True, slots=True)
class Made:
    """What a recipe made: a file in the entry with its bytes fsynced, and what became known on the way."""

    path: Path
    #: Digest or blkhash of the file; the rest is measured when it is published.
    artifact: Artifact
    #: Known from the content on.
    content: Content | None = None
    #: Known from the download.
    served: Served | None = None


class Ahead(Protocol):
    """A derivation that is done while its input arrives; a context, to be left once the input is there or failed."""

    arrival: Arrival

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def made(self) -> Made | None:
        """Return what was made of the input, which is verified; None where that is still to be made, as ever."""


class Make(Protocol):
    """The function behind a recipe."""

    def __call__(self, work: Work) -> Made:
        """Do the work; where it cannot be done, raise a LarderError and leave nothing but a resumable download."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one kind of artifact."""

    kind: str
    #: Part of the key: raised whenever the same input gives other bytes than before.
    version: int
    make: Make
    #: What the declaration, beyond where the bytes come from, says of the result: part of the key.
    parameters: Callable[[Image, Identity], Mapping[str, object]] = lambda image, identity: {}
    #: Begins the work before the input is there; None for what reads no bytes that are not verified.
    ahead: Callable[[Work], Ahead] | None = None

    @property
    def name(self) -> str:
        """Return name and version, as the key and the receipt have it."""
        return f"{self.kind}/{self.version}"
