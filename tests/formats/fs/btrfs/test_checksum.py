from __future__ import annotations

import sys

import pytest

from recipes.errors import UnsupportedFeature
from recipes.formats.fs.btrfs.checksum import checksum

#: Number, bytes, and the sum of "123456789" in the order in which it is on the disk.
KNOWN = [
    (0, 4, "839206e3"),
    (1, 8, "83aee640db41b88c"),
    (2, 32, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    (3, 32, "16e0bf1f85594a11e75030981c0b670370b3ad83a43f49ae58a2fd6f6513cde9"),
]


@pytest.mark.parametrize(("number", "size", "expected"), KNOWN)
def test_known_sums(number: int, size: int, expected: str) -> None:
    found = checksum(number, "disk")
    assert found.size == size
    assert found.of(b"123456789").hex() == expected


@pytest.mark.parametrize("number", range(4))
def test_pieces_are_summed_up_each(number: int) -> None:
    found = checksum(number, "disk")
    assert found.of_each(b"aaaabbbbcc", 4) == found.of(b"aaaa") + found.of(b"bbbb") + found.of(b"cc")
    assert found.of_each(b"", 4) == b""


@pytest.mark.parametrize("number", [4, 65535])
def test_one_that_nobody_knows(number: int) -> None:
    with pytest.raises(UnsupportedFeature, match=f"disk: btrfs with checksums of type {number}"):
        checksum(number, "disk")


def test_one_that_a_wheel_is_missing_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xxhash", None)
    with pytest.raises(UnsupportedFeature, match="disk: btrfs with xxhash64") as caught:
        checksum(1, "disk")
    assert "pip install xxhash" in (caught.value.hint or "")
