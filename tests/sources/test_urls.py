from __future__ import annotations

import pytest

from recipes.redact import shown
from recipes.sources.urls import with_mirrors

UBUNTU = "https://cloud-images.ubuntu.com/"
NOBLE = "https://cloud-images.ubuntu.com/releases/noble/"


def test_a_mirror_comes_before_the_original() -> None:
    mirrors = {UBUNTU: ["https://one.example/u/", "file:///srv/ubuntu/"]}
    assert with_mirrors([f"{UBUNTU}releases/a.img"], mirrors) == (
        "https://one.example/u/releases/a.img",
        "file:///srv/ubuntu/releases/a.img",
        f"{UBUNTU}releases/a.img",
    )


def test_the_longest_prefix_wins() -> None:
    mirrors = {UBUNTU: ["https://all.example/"], NOBLE: ["https://noble.example/"]}
    assert with_mirrors([f"{NOBLE}a.img"], mirrors) == ("https://noble.example/a.img", f"{NOBLE}a.img")


def test_a_url_without_mirrors_stays_alone() -> None:
    assert with_mirrors(["https://example.org/a"], {UBUNTU: ["https://one.example/"]}) == ("https://example.org/a",)


def test_no_url_comes_twice() -> None:
    mirrors = {UBUNTU: ["https://one.example/", UBUNTU, "https://one.example/"]}
    assert with_mirrors([f"{UBUNTU}a", "https://one.example/a"], mirrors) == ("https://one.example/a", f"{UBUNTU}a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:secret@example.org/a?b=c@d", "https://example.org/a?b=c@d"),
        ("HTTP://token@example.org:8080/a", "HTTP://example.org:8080/a"),
        ("https://me:p@ss@example.org", "https://example.org"),
        ("https://example.org/me@here", "https://example.org/me@here"),
        ("file:///srv/a@b", "file:///srv/a@b"),
        ("no adapter for 'ftp://me:secret@h/a' or b@c", "no adapter for 'ftp://h/a' or b@c"),
    ],
)
def test_credentials_are_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected
