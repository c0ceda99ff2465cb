"""What one run of doit works with: the settings, the declared images, the cache.

doit builds its commands, tasks and reporter apart from each other and passes none of ours between them, so this is
the one global of the project: dodo.py opens it, everything in graph/ asks `current` for it.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recipes import declare
from recipes.cache import roots
from recipes.cache.store import Store
from recipes.console import Watch
from recipes.derive import engine
from recipes.derive.engine import Session
from recipes.derive.recipe import Limits
from recipes.errors import DigestMismatch, LarderError
from recipes.settings import Settings, catalogue
from recipes.sources.access import Access
from recipes.sources.lists import TTL, ListRef, Lists
from recipes.sources.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.declare.declaration import Declaration
    from recipes.exchange.pull import Remote
    from recipes.model import Identity, Image
    from recipes.progress import Progress
    from recipes.reference import Namespace

    from .needs import Needs

#: doit's exit status for what is wrong before any task runs.
USAGE_ERROR = 3


@dataclass(slots=True)
class Workspace:
    """The settings, declarations and cache of this process."""

    settings: Settings
    declaration: Declaration
    lists: Lists
    session: Session
    #: The images that are declared for this architecture.
    images: dict[str, Image]
    #: Set when the run is told to stop.
    stop: threading.Event
    #: What this run can need; None for all there is.
    needs: Needs | None = None
    #: The registry to share through, where one is declared.
    remote: Remote | None = None
    _identities: dict[Image, tuple[object, Identity]] = field(default_factory=dict)

    @property
    def needed(self) -> Mapping[str, Image]:
        """The images of `images` that this run can need."""
        return self.images if self.needs is None else self.needs.images

    def is_catalogue_from(self, here: Path) -> bool:
        """Say whether the images are those of the catalogue, for somebody in the folder `here` who is in no project."""
        return self.settings.images == catalogue() and not here.is_relative_to(self.settings.images.parent)

    def identity(self, image: Image) -> Identity:
        """Return what upstream serves of `image` now, as far as its declaration and its list tell.

        Pure but for reading the cached list, so it is right also where doit's database is lost or older than
        images.toml. Raise a LarderError where the list was never seen.
        """
        known = self._identities.get(image)
        version = self.lists.version(image.source)
        if known is None or known[0] != version:
            known = self._identities[image] = (version, resolve(image, self.lists))
        return known[1]

    def supply(self, kind: str, image: Image) -> Receipt | None:
        """Bring an artifact up to date as `engine.supply` does, with upstream's list asked for again if that is behind.

        A floating image that was replaced within the time that a list stays fresh, here or in a proxy, does not have
        the listed digest. If the list has moved, what it says now is taken.
        """
        identity = self.identity(image)
        try:
            return engine.supply(kind, image, identity, self.session)
        except DigestMismatch as error:
            ref = ListRef.of(image.source)
            if ref is None or ref.is_tag or self.settings.offline:
                raise
            try:
                # The last good copy is what has just been tried.
                self.refresh(ref, self.session.progress, strict=True, past_caches=True)
            except LarderError:
                raise error from None
            latest = self.identity(image)
            if latest == identity:
                raise DigestMismatch(
                    error.message,
                    hint=f"the {ref.what}, {self.lists.age(ref)}, was asked for past all caches and says the same: "
                    "upstream is between two releases, or its list is wrong; `--fresh` asks again in a later run",
                ) from error
        self.session.progress.note(f"{kind}:{image.name}: the {ref.what} moved; going on with what it says now")
        return engine.supply(kind, image, latest, self.session)

    def refresh(self, ref: ListRef, progress: Progress, *, strict: bool = False, past_caches: bool = False) -> None:
        """Ask upstream for a checksum list, as the settings of this run allow; see `Lists.refresh`.

        With `strict` the last good copy is an error, whatever the settings say.
        """
        settings = self.settings
        self.lists.refresh(
            ref,
            Access(self.declaration.mirrors, settings.offline, settings.strict or strict, past_caches, progress),
        )


_current: Workspace | None = None


def current() -> Workspace:
    """Return the workspace that dodo.py opened."""
    if _current is None:
        raise AssertionError("dodo.py did not open a workspace")
    return _current


def is_open() -> bool:
    """Say whether the dodo.py that doit loaded is one of larder's."""
    return _current is not None


def stop() -> None:
    """Tell all work of this process to stop."""
    if _current is not None:
        _current.stop.set()


def _remote(namespace: Namespace) -> Remote:
    from recipes.exchange.pull import Remote

    return Remote(namespace)


def open_workspace(here: Path) -> Workspace:
    """Open the workspace of the project that the folder `here` is in, or of the catalogue where it is in none.

    What is wrong with images.toml or the environment goes to standard error as it is, and the process exits with 3:
    doit would prefix the first line, and editors could not jump to it.
    """
    global _current
    try:
        settings = Settings.from_environ(here)
        store = Store(settings.cache)
        store.prepare()
        declaration = declare.load(settings.images, validated=settings.cache / "validated")
        roots.register(settings.cache, settings.images)
    except LarderError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(USAGE_ERROR) from None
    stop = threading.Event()
    limits = Limits(
        mirrors=declaration.mirrors,
        max_virtual_size=declaration.max_virtual_size,
        jobs=settings.jobs,
        offline=settings.offline,
    )
    _current = Workspace(
        settings=settings,
        declaration=declaration,
        lists=Lists(settings.cache / "lists", ttl=0.0 if settings.ci else TTL),
        session=Session(store, limits, Watch(stop)),
        images={
            name: by_arch[settings.arch] for name, by_arch in declaration.images.items() if settings.arch in by_arch
        },
        stop=stop,
        remote=_remote(declaration.registry) if declaration.registry else None,
    )
    return _current
