"""What is read from a document of any form, and the problems that were found on the way.

Values of the wrong type are passed over: the schema says that already (`declaration`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recipes.units import MAX_SIZE, parse_size

from .validate import Problem, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tomlpos import Path


class Findings:
    """The problems of a document, in the order in which they were found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, path: Path, message: str, *, key: bool = False) -> None:
        """Add a problem; `key` is whether it is about the key and not about its value."""
        self.problems.append(Problem(path, message, key))

    def distinct(self, path: Path, value: object) -> Iterator[tuple[Path, str]]:
        """Yield each string of a list once, with its path."""
        seen = set()
        for where, text in strings(path, value):
            if text in seen:
                self.wrong(where, f"{quoted(text)} is listed twice")
            else:
                seen.add(text)
                yield where, text

    def size(self, path: Path, value: object, *, units: bool = False) -> int | None:
        """Return a number of bytes, None for what is none; with `units`, "8 GiB" is one as well."""
        if units and isinstance(value, str):
            try:
                value = parse_size(value)
            except ValueError as error:
                self.wrong(path, str(error))
                return None
        # JSON schema takes 1.0 for a whole number.
        if isinstance(value, float) and value.is_integer():
            self.wrong(path, f"expected a whole number of bytes, got {quoted(value)}")
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        if not 1 <= value <= MAX_SIZE:
            self.wrong(path, f"expected a number of bytes from 1 to {MAX_SIZE}, got {value}")
        return value


def table(value: object) -> dict[str, Any]:
    """Return a table, empty for what is none."""
    return value if isinstance(value, dict) else {}


def strings(path: Path, value: object) -> Iterator[tuple[Path, str]]:
    """Yield the strings of a list, each with its path."""
    for index, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, str):
            yield (*path, index), item
