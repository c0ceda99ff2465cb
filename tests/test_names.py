from __future__ import annotations

import pytest

from recipes.names import ends_with, tail, wildcard, with_tail


@pytest.mark.parametrize(
    ("url", "segments", "expected"),
    [
        ("https://h/a/b/c%20d.img?x=/y", 1, "c d.img"),
        ("https://h/a/b/c.img", 2, "b/c.img"),
        ("https://h/c.img", 3, "c.img"),
        ("file:///a/b.img", 2, "a/b.img"),
    ],
)
def test_the_tail_of_a_url(url: str, segments: int, expected: str) -> None:
    assert tail(url, segments) == expected


@pytest.mark.parametrize(
    ("url", "name", "expected"),
    [
        ("https://h/a/b/c.img?x=/y", "d e.img", "https://h/a/b/d%20e.img?x=/y"),
        ("https://h/a/b/c.img", "v~1+2/c@:#?*.img", "https://h/a/v~1+2/c@:%23%3F%2A.img"),
        ("file:///a/b.img", "c/d", "file:///c/d"),
    ],
)
def test_another_tail(url: str, name: str, expected: str) -> None:
    moved = with_tail(url, name)
    assert moved == expected
    assert tail(moved, name.count("/") + 1) == name


@pytest.mark.parametrize(
    ("segment", "matched", "others"),
    [
        ("a-*.img", ["a-.img", "a-1*.img", "a-\n.img"], ["a-1_img", "xa-1.img", "a-1.img.sig"]),
        ("a?[b]", ["a?[b]"], ["axb", "a?b"]),
        ("*", ["", "x"], []),
    ],
)
def test_only_the_star_is_a_wildcard(segment: str, matched: list[str], others: list[str]) -> None:
    assert all(wildcard(segment).fullmatch(name) for name in matched)
    assert not any(wildcard(segment).fullmatch(name) for name in others)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d.img", True),
        ("*/d.img", True),
        ("a/b c/d.img", True),
        ("b/d.img", False),
        ("h/a/b c/d.img", False),
        ("*", True),
    ],
)
def test_what_a_url_ends_with(pattern: str, expected: bool) -> None:
    assert ends_with("https://h/a/b%20c/d.img?e/f", pattern) is expected
