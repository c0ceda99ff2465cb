from __future__ import annotations

import pytest

from recipes import jsontext


def test_what_json_is_and_what_it_is_not() -> None:
    assert jsontext.loads(b'{"a": [1, null]}') == {"a": [1, None]}
    for text in (b"", b"{", b'{"a": 1} x', b"\xff"):
        with pytest.raises(ValueError):  # noqa: PT011
            jsontext.loads(text)


def test_depth_is_an_error_like_any_other() -> None:
    """Not a RecursionError, which nobody expects of a document."""
    with pytest.raises(ValueError):  # noqa: PT011
        jsontext.loads(b"[" * 1_000_000)
