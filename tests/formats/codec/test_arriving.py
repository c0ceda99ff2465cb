from __future__ import annotations

import pytest

from recipes.errors import CorruptImage
from recipes.formats.codec.arriving import arriving

DATA = bytes(range(256)) * 40


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 1000, 20_000])
def test_forwards_and_a_little_back(size: int) -> None:
    wrapper = arriving(iter(chunks(DATA, size)), "it", "zstd", len(DATA), look_back=100)
    assert wrapper.at(0, 4) == DATA[:4]
    assert wrapper.at(2, 300) == DATA[2:302]
    assert wrapper.at(5000, 3) == DATA[5000:5003]
    assert wrapper.at(4900, 200) == DATA[4900:5100]
    assert wrapper.at(len(DATA) - 1, 1) == DATA[-1:]


def test_one_that_ends_early() -> None:
    wrapper = arriving(iter(chunks(DATA, 1000)), "it", "zstd", len(DATA) + 5, look_back=100)
    with pytest.raises(CorruptImage, match=r"it: zstd: .*ends in the middle"):
        wrapper.at(len(DATA), 5)


def test_no_more_than_what_belongs_to_it() -> None:
    left = iter(chunks(DATA, 1000))
    wrapper = arriving(left, "it", "zstd", 1500, look_back=100)
    with pytest.raises(CorruptImage):
        wrapper.at(1400, 200)
    assert next(left) == DATA[2000:3000]
