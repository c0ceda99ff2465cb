from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.codec.compressed import READ, CompressedFile, open_wrapper

if TYPE_CHECKING:
    from pathlib import Path


def test_reads_are_whole_or_say_where_the_file_ends(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(bytes(range(100)))
    told: list[int] = []
    with open_wrapper(tmp_path / "a.gz", "gzip", told.append) as wrapper:
        assert wrapper.at(10, 5) == bytes(range(10, 15))
        for offset, count in ((96, 5), (100, 1), (200, 1)):
            with pytest.raises(CorruptImage, match=r"a\.gz: gzip: near byte 100 of 100: the file ends"):
                wrapper.at(offset, count)
        assert wrapper.take(0, 40) == bytes(range(40))
        assert wrapper.take(40, 40) == b""
    assert told == [40, 0]


def test_a_bite_is_bounded() -> None:
    wrapper = CompressedFile("a", "xz", 1 << 40, lambda offset, count: bytes(count))
    assert len(wrapper.take(0, 1 << 40)) == READ
