"""JSON that anybody may have written, or half written."""

from __future__ import annotations

import json
from typing import Any


def loads(data: bytes | str) -> Any:
    """Return the document `data` (RFC 8259); raise ValueError for anything else, arrays nested too deeply included."""
    try:
        return json.loads(data)
    except RecursionError:
        # What it is about is the document, not this program: callers that catch ValueError mean this as well.
        raise ValueError("nested too deeply") from None
