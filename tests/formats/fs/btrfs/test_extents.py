from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LarderError, LimitExceeded, UnsupportedFeature
from recipes.formats.fs.btrfs import extents as btrfs_extents
from recipes.formats.fs.btrfs.extents import Cost, Extents, FileExtents, target
from recipes.formats.fs.btrfs.items import Inode
from recipes.formats.fs.btrfs.layout import EXTENT_HEAD, FILE_EXTENT, NODATASUM, ZLIB
from recipes.formats.fs.btrfs.nodes import Node
from recipes.formats.fs.btrfs.sums import Sums
from recipes.formats.io import bounds
from recipes.formats.io.source import read
from tests.kit.btrfs_volumes import DEVICE, FIRST, LOGICAL, SIZE, inline_body, volume

if TYPE_CHECKING:
    from recipes.formats.fs.btrfs.volume import Volume

TEXT = b"".join(b"line %d\n" % number for number in range(1000))
HUGE = 1 << 62


def inode(size: int = HUGE, flags: int = 0) -> Inode:
    return Inode(size, 1, 0, 0, 0o100644, 0, flags, 0)


def regular(
    address: int = LOGICAL,
    stored: int = SIZE,
    skip: int = 0,
    count: int = SIZE,
    *,
    ram: int = SIZE,
    codec: int = 0,
    kind: int = 1,
) -> bytes:
    return EXTENT_HEAD.pack(1, ram, codec, 0, 0, kind) + FILE_EXTENT.pack(address, stored, skip, count)


class File:
    """A file of this size, to which items are added."""

    def __init__(self, size: int = HUGE, flags: int = 0, made: Volume | None = None) -> None:
        self.volume = made or volume()
        self.weights: list[int] = []
        extents = Extents(self.volume, Sums(self.volume, None), self.weights.append)
        self.extents: FileExtents = extents.file(257, inode(size, flags))

    def add(self, offset: int, body: bytes, physical: int = FIRST) -> File:
        self.extents.add(offset, Node(b"head" + body, 0, physical, []), 4, len(body))
        return self

    @property
    def places(self) -> list[tuple[int, int, int]]:
        return [(each.at, each.length, each.offset) for each in self.extents.found]


class TestRegular:
    def test_where_it_is(self) -> None:
        found = File().add(0, regular(skip=0)).add(SIZE, regular(stored=4 * SIZE, skip=2 * SIZE, count=2 * SIZE))
        assert found.places == [(0, SIZE, LOGICAL), (SIZE, 2 * SIZE, LOGICAL + 2 * SIZE)]

    def test_without_checksums_it_is_the_device(self) -> None:
        (extent,) = File(flags=NODATASUM).add(0, regular(stored=2 * SIZE, skip=SIZE)).extents.found
        assert extent.offset == FIRST + SIZE
        assert extent.source.size == DEVICE

    @pytest.mark.parametrize("body", [regular(address=0, stored=0), regular(kind=2)], ids=["hole", "allotted"])
    def test_what_reads_as_zeros_is_no_extent(self, body: bytes) -> None:
        assert File().add(0, body).places == []

    def test_the_file_ends_before_it(self) -> None:
        assert File(100).add(0, regular()).places == [(0, 100, LOGICAL)]
        assert File(SIZE).add(SIZE, regular()).places == []
        assert File(0).add(0, regular()).places == []

    @pytest.mark.parametrize(
        ("offset", "body"),
        [
            (1, regular()),
            (0, regular(address=LOGICAL + 1)),
            (0, regular(stored=100)),
            (0, regular(stored=2 * SIZE, skip=1)),
            (0, regular(count=100)),
            (0, regular(count=0)),
            ((1 << 63) - SIZE, regular()),
        ],
    )
    def test_what_is_uneven(self, offset: int, body: bytes) -> None:
        with pytest.raises(CorruptImage, match=f"inode 257 has, at {offset} of the file, an extent of"):
            File().add(offset, body)

    def test_what_comes_twice(self) -> None:
        with pytest.raises(CorruptImage, match="at 4096 of the file"):
            File().add(0, regular(stored=2 * SIZE, count=2 * SIZE)).add(SIZE, regular())
        with pytest.raises(CorruptImage, match="at 0 of the file"):
            File().add(0, regular(address=0)).add(0, regular())

    @pytest.mark.parametrize("codec", [0, ZLIB])
    def test_more_than_what_it_refers_to(self, codec: int) -> None:
        File().add(0, regular(stored=2 * SIZE, skip=SIZE, ram=2 * SIZE, codec=codec))
        with pytest.raises(CorruptImage, match="ends behind what it refers to"):
            File().add(0, regular(stored=2 * SIZE, skip=2 * SIZE, ram=2 * SIZE, codec=codec))


class TestInline:
    def test_where_it_is(self) -> None:
        (extent,) = File(5).add(0, inline_body(b"hello")).extents.found
        assert (extent.at, extent.length, extent.offset) == (0, 5, FIRST + 4 + EXTENT_HEAD.size)

    def test_the_file_is_shorter(self) -> None:
        assert [length for _, length, _ in File(3).add(0, inline_body(b"hello")).places] == [3]
        assert File(0).add(0, inline_body(b"hello")).places == []

    def test_what_is_compressed(self) -> None:
        packed = zlib.compress(TEXT[:4000])
        made = volume({LOGICAL + 4 + EXTENT_HEAD.size: packed})
        (extent,) = File(4000, made=made).add(0, inline_body(packed, ram=4000, codec=ZLIB)).extents.found
        assert read(extent.source, extent.offset, extent.length) == TEXT[:4000]

    @pytest.mark.parametrize(
        ("offset", "body"),
        [(SIZE, inline_body(b"x")), (0, inline_body(b"x", ram=SIZE + 1, codec=ZLIB)), (0, inline_body(b"x", ram=2))],
    )
    def test_what_cannot_be(self, offset: int, body: bytes) -> None:
        with pytest.raises(CorruptImage, match="an inline extent of"):
            File().add(offset, body)

    def test_it_has_the_whole_sector(self) -> None:
        with pytest.raises(CorruptImage, match="an extent of"):
            File().add(0, inline_body(b"x")).add(0, regular())
        assert len(File().add(0, inline_body(b"x")).add(SIZE, regular()).places) == 2


class TestCompressed:
    def test_references_share_a_source(self) -> None:
        made = volume({LOGICAL: zlib.compress(TEXT[: 2 * SIZE]).ljust(SIZE, b"\0")})
        body = regular(ram=2 * SIZE, codec=ZLIB)
        found = File(made=made).add(0, body).add(2 * SIZE, regular(skip=SIZE, ram=2 * SIZE, codec=ZLIB)).extents.found
        assert found[0].source is found[1].source
        assert read(found[1].source, found[1].offset, 100) == TEXT[SIZE : SIZE + 100]

    def test_references_that_contradict(self) -> None:
        with pytest.raises(CorruptImage, match="has two descriptions"):
            File().add(0, regular(ram=2 * SIZE, codec=ZLIB)).add(SIZE, regular(ram=3 * SIZE, codec=ZLIB))

    @pytest.mark.parametrize(
        "body",
        [
            regular(stored=132 << 10, ram=128 << 10, codec=ZLIB),
            regular(ram=132 << 10, codec=ZLIB),
            regular(stored=0, ram=SIZE, codec=ZLIB),
        ],
    )
    def test_larger_than_any(self, body: bytes) -> None:
        with pytest.raises(CorruptImage, match="a compressed extent with"):
            File().add(0, body)

    def test_a_codec_that_nobody_knows(self) -> None:
        with pytest.raises(UnsupportedFeature, match="compression of type 9"):
            File().add(0, regular(ram=SIZE, codec=9))


@pytest.mark.parametrize(
    ("body", "kind", "match"),
    [
        (b"", CorruptImage, "an extent of 0 bytes"),
        (regular()[:20], CorruptImage, "an extent of 20 bytes"),
        (regular()[:-1], CorruptImage, "an extent of type 1 with 52 bytes"),
        (regular() + b"x", CorruptImage, "an extent of type 1 with 54 bytes"),
        (regular(kind=3), CorruptImage, "an extent of type 3"),
        (inline_body(b"x", encryption=1), UnsupportedFeature, r"encrypted files \(inode 257\)"),
    ],
)
def test_items_that_cannot_be(body: bytes, kind: type[LarderError], match: str) -> None:
    with pytest.raises(kind, match=match):
        File().add(0, body)


class TestCost:
    def cost(self) -> Cost:
        return Cost(volume(), lambda weight: None)

    def test_what_is_on_the_disk_pays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "FREE_CONTENT", 1000)
        cost = self.cost()
        per_byte = bounds.content_limit(1001) - bounds.content_limit(1000)
        cost.add(0, 10, 1000 + 10 * per_byte)
        # The same bytes pay once.
        with pytest.raises(LimitExceeded, match="have 10 on the disk"):
            cost.add(0, 10, 1)

    def test_no_more_than_the_disk_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "FREE_CONTENT", 0)
        cost = self.cost()
        for number in range(3):
            cost.add(number, DEVICE, 0)
        with pytest.raises(LimitExceeded, match=f"have {DEVICE} on the disk"):
            cost.add(9, 0, bounds.content_limit(DEVICE) + 1)

    def test_so_many_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(btrfs_extents, "MAX_PIECES", 2)
        cost = self.cost()
        cost.add(0, 1, 1)
        cost.add(0, 1, 1)
        with pytest.raises(LimitExceeded, match="more than 2 pieces"):
            cost.add(0, 1, 1)

    def test_each_piece_weighs(self) -> None:
        file = File().add(0, regular()).add(SIZE, regular())
        assert file.weights == [bounds.PIECE_WEIGHT] * 2


class TestTargets:
    @pytest.mark.parametrize("end", [b"", b"\0"])
    def test_with_and_without_an_end(self, end: bytes) -> None:
        assert target(volume(), 257, inode(6), inline_body(b"target" + end)) == b"target"

    @pytest.mark.parametrize(
        ("size", "body"),
        [
            (6, b""),
            (6, inline_body(b"targe")),
            (6, inline_body(b"target" + b"\0\0")),
            (6, inline_body(b"tar\0et")),
            (0, inline_body(b"")),
            (6, inline_body(b"target", codec=ZLIB)),
            (6, inline_body(b"target", encryption=1)),
            (6, inline_body(b"target", ram=7)),
            (6, regular()),
        ],
    )
    def test_that_are_none(self, size: int, body: bytes) -> None:
        with pytest.raises(CorruptImage, match=f"symbolic link inode 257 has no target of {size} bytes"):
            target(volume(), 257, inode(size), body)
