"""Words for the person at the terminal: lists of choices, and what a misspelt word may have been meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Longer words are no typos; difflib is quadratic in their length.
_LONGEST = 200


def either(choices: Iterable[str]) -> str:
    """Return ``a, b or c``."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def nearest(word: object, choices: Iterable[str]) -> str | None:
    """Return the one of `choices` that `word` may have been meant to be: what looks like it, else what it begins.

    >>> nearest("stauts", ["list", "status"]), nearest("ubu", ["debian", "ubuntu-24.04"])
    ('status', 'ubuntu-24.04')
    """
    from difflib import get_close_matches

    text = str(word)[:_LONGEST]
    known = sorted(choices)
    close = get_close_matches(text, known, n=1)
    begun = [each for each in known if len(text) > 2 and each.startswith(text)]
    return next(iter([*close, *begun]), None)


def meant(word: object, choices: Iterable[str]) -> str:
    """Return the end of a message about `word`: what it may have been meant to be, if anything is near.

    >>> meant("stauts", ["list", "status"]), meant("x", ["list", "status"])
    ('; did you mean status?', '')
    """
    found = nearest(word, choices)
    return f"; did you mean {found}?" if found else ""
