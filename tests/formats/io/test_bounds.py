from __future__ import annotations

from recipes.formats.io.bounds import content_limit


def test_content_limit() -> None:
    assert content_limit(0, 2 << 40) == 1 << 30
    assert content_limit(400_000_000, 2 << 40) == (1 << 30) + 400_000_000_000
    assert content_limit(400_000_000, 10 << 30) == 10 << 30
