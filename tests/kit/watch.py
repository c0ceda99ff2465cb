"""A progress that remembers, and that can interrupt."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from recipes.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watch:
    """Remember what is told; raise `Interrupted` once `interrupt_at` bytes are done."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.done = 0
        self.lowest_step = 0
        self.total: int | None = None
        self.labels: list[str] = []
        self.notes: list[str] = []
        self._interrupt_at = interrupt_at

    def advance(self, count: int) -> None:
        self.done += count
        self.lowest_step = min(self.lowest_step, count)
        if self._interrupt_at is not None and self.done >= self._interrupt_at:
            raise Interrupted("told to stop")

    def expect(self, total: int | None) -> None:
        self.total = total

    def note(self, message: str) -> None:
        self.notes.append(message)

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Watch]:
        self.labels.append(label)
        self.total = total
        yield self
