"""Where the root is, in words."""

from __future__ import annotations

import pytest

from recipes.rootplace import ANYWHERE, RootPlace, declare


@pytest.mark.parametrize(
    ("text", "place", "written"),
    [
        ("partition 3", RootPlace(partition=3), None),
        (" partition  3 ", RootPlace(partition=3), "partition 3"),
        ("volume my-vg/root", RootPlace(volume="my-vg/root"), None),
        ("subvolume @/.snapshots/1/snapshot", RootPlace(subvolume="@/.snapshots/1/snapshot"), None),
        ("subvolume /", RootPlace(subvolume="/"), None),
        ("subvolume a b", RootPlace(subvolume="a b"), None),
        ("partition 3, subvolume /root/", RootPlace(3, subvolume="root"), "partition 3, subvolume root"),
        ("deployment abc.0,volume a/b", RootPlace(volume="a/b", deployment="abc.0"), "volume a/b, deployment abc.0"),
    ],
)
def test_places(text: str, place: RootPlace, written: str | None) -> None:
    assert RootPlace.parse(text) == place
    assert str(place) == (written or text)
    assert RootPlace.parse(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "partition",
        "partition 0",
        "partition -1",
        "partition x",
        "partition 10000",
        "partition " + "9" * 5000,
        "partition \u0663",
        "partition 1, partition 2",
        "partition 1, volume a/b",
        "volume root",
        "volume a/b/c",
        "subvolume a, deployment b",
        "deployment a/b",
        "disk 1",
        "partition 1,",
    ],
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match='expected "partition N", "volume GROUP/NAME"'):
        RootPlace.parse(text)


def test_nothing_said_is_nothing_written() -> None:
    assert str(ANYWHERE) == ""


def test_what_a_person_is_told_can_be_declared() -> None:
    assert declare("subvolume", b"@").startswith('declare root = "subvolume @", or')
