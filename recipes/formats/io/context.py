"""How a piece of work is to be done: what travels together through every conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.progress import SILENCE
from recipes.units import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from recipes.progress import Meter, Progress


class Context(NamedTuple):
    """Who watches, with what means, and within which bounds."""

    progress: Progress = SILENCE
    #: What meters are called.
    label: str = ""
    #: Threads.
    jobs: int = 1
    #: The most bytes that what is made may have, holes included: a disk's, a content's, all layers' together.
    limit: int = MAX_SIZE
    #: Whether the result is to be on the storage when the work is done.
    durable: bool = True
    #: Gives a new path for a temporary file on each call; None for work that needs none.
    scratch: Callable[[], Path] | None = None

    def meter(self, total: int | None = None, *, what: str = "") -> AbstractContextManager[Meter]:
        """Open a meter of the work, or of `what` about it."""
        return self.progress.meter(f"{self.label}: {what}" if what else self.label, total)
