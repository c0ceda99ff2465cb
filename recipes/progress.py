"""How long work tells whoever watches how far it is, without knowing who watches.

Formats, sources and derivations take a `Progress` and open a `Meter` for each piece of work. A meter's ``advance`` is
also where work that was told to stop stops: an implementation may raise `recipes.errors.Interrupted` from it, so
callers keep their clean-up in ``finally`` and call it at least every few megabytes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Meter(Protocol):
    """One piece of work, measured in bytes; safe to advance from several threads."""

    def advance(self, count: int) -> None:
        """Add `count` bytes to what is done; negative when work has to be done again."""

    def expect(self, total: int | None) -> None:
        """Set the number of bytes that the whole work has, once it is known."""


class Progress(Protocol):
    """Whoever watches."""

    def meter(self, label: str, total: int | None = None) -> AbstractContextManager[Meter]:
        """Open a meter called `label`, for `total` bytes where that is known."""

    def note(self, message: str) -> None:
        """Tell the person something that is worth a line of its own, now."""


class _Silence:
    def advance(self, count: int) -> None:
        """Nobody watches."""

    def expect(self, total: int | None) -> None:
        """Nobody watches."""

    def note(self, message: str) -> None:
        """Nobody watches."""

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        yield self


_SILENCE = _Silence()

#: The progress of work that nobody watches, and a meter of it.
SILENCE: Progress = _SILENCE
SILENT_METER: Meter = _SILENCE
