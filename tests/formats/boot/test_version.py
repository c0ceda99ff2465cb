"""Which version is the newer one, as the specification and `systemd-analyze compare-versions` have it."""

from __future__ import annotations

import random

import pytest

from recipes.formats.boot import version


@pytest.mark.parametrize(
    "older_first",
    [
        # The examples of the specification, and names as they are on disks.
        ("11~rc1", "11", "12"),
        ("1.0~rc1", "1.0", "1.0-1", "1.0^post1", "1.0.1", "1.0a", "1.1"),
        ("6.9.12-200.fc44", "6.10.0-1.fc44", "6.10.0-200.fc44", "6.10.1-1.fc44"),
        ("ostree-1", "ostree-2", "ostree-10"),
        ("", "a", "b", "0", "1", "02", "10"),
    ],
)
def test_order(older_first: tuple[str, ...]) -> None:
    shuffled = list(older_first)
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=version.key) == list(older_first)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0"), ("1_0", "1+0"), ("007", "7"), ("", "_")])
def test_the_same(one: str, other: str) -> None:
    assert version.compare(one, other) == 0
