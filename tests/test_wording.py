from __future__ import annotations

import pytest

from recipes.wording import either, meant, nearest


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("stauts", "status"),
        ("ubu", "ubuntu-24.04"),
        ("ub", None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_what_is_near(word: str, found: str | None) -> None:
    assert nearest(word, ["list", "status", "ubuntu-24.04"]) == found
    assert meant(word, ["list", "status", "ubuntu-24.04"]) == (f"; did you mean {found}?" if found else "")


def test_choices() -> None:
    assert either(["a"]) == "a"
    assert either(["a", "b", "c"]) == "a, b or c"
