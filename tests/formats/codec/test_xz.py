"""The structure of xz; what comes out of it is tested in test_compression.py."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.codec import xz
from recipes.formats.codec.compressed import CompressedFile

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = b"some text, " * 1000


def file(data: bytes) -> CompressedFile:
    return CompressedFile("file.xz", "xz", len(data), lambda offset, count: data[offset : offset + count])


def sizes(data: bytes) -> Sequence[int]:
    return [block.content for block in xz.blocks(file(data))]


def test_blocks_of_several_streams_and_padding() -> None:
    one = lzma.compress(DATA)
    assert sizes(one) == [len(DATA)]
    assert sizes(one + bytes(8) + lzma.compress(b"x") + bytes(4)) == [len(DATA), 1]
    assert xz.declared_size(file(one + one)) == 2 * len(DATA)
    assert sizes(lzma.compress(b"")) == []


def test_each_block_decodes_by_itself() -> None:
    wrapper = file(lzma.compress(DATA) + lzma.compress(b"second"))
    assert [b"".join(xz.decode(wrapper, block)) for block in xz.blocks(wrapper)] == [DATA, b"second"]
    assert b"".join(xz.decompress(wrapper, 2)) == DATA + b"second"


@pytest.mark.parametrize("cut", [1, 4, 12, 13, 20])
def test_what_is_cut_off(cut: int) -> None:
    with pytest.raises(CorruptImage, match=r"file\.xz"):
        xz.blocks(file(lzma.compress(DATA)[:-cut]))


def test_padding_that_is_no_multiple_of_four() -> None:
    with pytest.raises(CorruptImage):
        xz.blocks(file(lzma.compress(DATA) + bytes(3)))


def test_too_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    one = lzma.compress(b"x")
    monkeypatch.setattr(xz, "BLOCK_LIMIT", 10)
    assert len(sizes(one * 5)) == 5
    with pytest.raises(LimitExceeded):
        xz.blocks(file(one * 11))


@pytest.mark.parametrize("behind", [b"", b"more", bytes(40), b"x" * 100_000], ids=["0", "4", "40", "100000"])
@pytest.mark.parametrize("content", [0, -1, 1, 5000])
def test_a_block_that_holds_another_streams_end(behind: bytes, content: int) -> None:
    """liblzma ends where that does, with an index and a footer that hold; the file's own index says otherwise."""
    whole = lzma.compress(DATA)
    inner = whole[xz.EDGE :] + behind
    made = whole[: xz.EDGE] + inner + xz.stream_end([(len(inner), len(DATA) + content)], whole[6:8])
    (block,) = xz.blocks(file(made))
    assert block.content == len(DATA) + content
    with pytest.raises(CorruptImage, match=r"near byte \d+ of \d+: "):
        b"".join(xz.decode(file(made), block))
