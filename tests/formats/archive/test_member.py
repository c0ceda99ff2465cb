from __future__ import annotations

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.archive.member import Member, corrupt


def test_holes_are_zeros() -> None:
    member = Member("a/b.raw", 10, lambda: iter([(2, b"xy"), (6, b"z")]))
    assert member.base == "b.raw"
    assert member.read(10) == b"\0\0xy\0\0z\0\0\0"
    assert member.head(3) == b"\0\0x"
    assert member.head(100) == member.read(10)


def test_no_more_is_read_than_is_allowed() -> None:
    with pytest.raises(LimitExceeded, match="has 10 bytes, and 9 are allowed"):
        Member("a", 10, lambda: iter(())).read(9)


def test_errors_say_where() -> None:
    assert str(corrupt("x.zip", "a", "is odd")).startswith("x.zip: a: is odd")
    assert str(corrupt("x.zip", "", "is odd")).startswith("x.zip: is odd")
