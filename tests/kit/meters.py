"""Meters that remember."""

from __future__ import annotations

#: Bytes that a file system may take for itself beside a sparse file's data.
METADATA = 16 * 1024


class Count:
    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None

    def advance(self, count: int) -> None:
        self.done += count

    def expect(self, total: int | None) -> None:
        self.total = total
