"""Changing values of a TOML document and nothing else: not a blank, comment, line end or spelling of a number.

In-place edits at the offsets that tomlpos knows rather than a document model that is written out again (tomlkit): what
is not touched cannot come out differently, and it costs no dependency.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from . import tomlpos

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .tomlpos import Path, Span


def edit(text: str, changes: Mapping[Path, str | int | None]) -> str:
    """Return `text` with the values at the paths of `changes` replaced; None removes the key with its value.

    Every path leads to a string or number in `text`, and one to be removed is no element of an array. A string keeps
    the quotes that it has where they can hold the new value. A pair on a line of its own goes with the line, comment
    included.
    """
    spans = tomlpos.spans(text)
    result = text
    for path, value in sorted(changes.items(), key=lambda item: spans[item[0]].start, reverse=True):
        span = spans[path]
        if value is None:
            result = _without(result, span)
        else:
            written = _literal(value, result[span.value : span.end])
            result = result[: span.value] + written + result[span.end :]
    return result


def _literal(value: str | int, before: str) -> str:
    if isinstance(value, int):
        return str(value)
    if before.startswith("'") and not before.startswith("'''") and value.isprintable() and "'" not in value:
        return f"'{value}'"
    # A JSON string is a TOML basic string, but for DEL (TOML 1.0.0, "String").
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without(text: str, span: Span) -> str:
    start, end = span.start, span.end
    line = text.rfind("\n", 0, start) + 1
    if not text[line:start].strip(" \t"):
        following = text.find("\n", end)
        return text[:line] + (text[following + 1 :] if following >= 0 else "")
    # In an inline table, which is on one line and has no comments: the pair goes with one of the commas around it.
    rest = text[end:].lstrip(" \t")
    if rest.startswith(","):
        return text[:start] + rest[1:].lstrip(" \t")
    before = text[:start].rstrip(" \t")
    return before.removesuffix(",") + text[end:]
