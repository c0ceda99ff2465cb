from __future__ import annotations

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.fs.btrfs.chunks import Chunk, ChunkMap, chunk
from recipes.formats.fs.btrfs.layout import CHUNK, INODE_ITEM, Profile
from tests.kit.btrfs_volumes import DEVICE, chunk_body, volume

SINGLE = 0


@pytest.mark.parametrize(
    ("flags", "stripes"),
    [
        (SINGLE, 1),
        (Profile.DUP, 2),
        (Profile.RAID1, 2),
        (Profile.RAID1C3, 3),
        (Profile.RAID1C4, 4),
        (Profile.RAID0, 1),
        (1 << 2 | Profile.DUP, 2),
        (1 << 40, 1),
    ],
)
def test_whole_copies(flags: int, stripes: int) -> None:
    places = tuple(index * 65536 for index in range(stripes))
    body = chunk_body(*((1, place) for place in places), length=65536, flags=flags)
    assert chunk(volume(), CHUNK, 1 << 30, body + b"more") == (Chunk(1 << 30, 65536, places), len(body))


@pytest.mark.parametrize(
    ("flags", "stripes", "name"),
    [
        (Profile.RAID0, 2, "RAID0"),
        (Profile.RAID10, 2, "RAID10"),
        (Profile.RAID5, 2, "RAID5"),
        (Profile.RAID6, 3, "RAID6"),
        (Profile.RAID5, 1, "RAID5"),
    ],
)
def test_what_is_spread_is_refused_by_its_name(flags: int, stripes: int, name: str) -> None:
    with pytest.raises(UnsupportedFeature, match=rf"btrfs with {name} \(the chunk at 0x10\)"):
        chunk(volume(), CHUNK, 16, chunk_body(*((1, index) for index in range(stripes)), flags=flags))


def test_other_devices() -> None:
    with pytest.raises(UnsupportedFeature, match="the chunk at 0x10 is on device 3, this is device 1") as caught:
        chunk(volume(), CHUNK, 16, chunk_body((1, 0), (3, 0), flags=Profile.RAID1))
    assert "btrfs device remove" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("kind", "logical", "body", "match"),
    [
        (INODE_ITEM, 0, chunk_body((1, 0)), "an item of type 1"),
        (CHUNK, 0, chunk_body((1, 0))[:47], "with 47 bytes"),
        (CHUNK, 0, chunk_body(), "in 0 stripes"),
        (CHUNK, 0, chunk_body((1, 0), count=2), "in 2 stripes, and 80 bytes to say so"),
        (CHUNK, 0, chunk_body((1, 0), count=0xFFFF), "in 65535 stripes"),
        (CHUNK, 0, chunk_body((1, 0), length=0), "has 0 bytes"),
        (CHUNK, (1 << 64) - 1, chunk_body((1, 0)), "bytes in 1 stripes"),
        (CHUNK, 0, chunk_body((1, 0), (1, 65536), flags=SINGLE), "a single copy in 2 stripes"),
        (CHUNK, 0, chunk_body((1, DEVICE - 1), length=2), "ends behind the end of the device"),
        (CHUNK, 0, chunk_body((1, 0), (1, 1 << 63)), "ends behind the end of the device"),
    ],
)
def test_what_is_no_chunk(kind: int, logical: int, body: bytes, match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        chunk(volume(), kind, logical, body)


class TestMaps:
    CHUNKS = (Chunk(1000, 100, (5, 500)), Chunk(0, 100, (50,)), Chunk(100, 10, (900,)))

    @pytest.mark.parametrize(
        ("logical", "length", "places"),
        [(0, 100, [50]), (99, 1, [149]), (100, 10, [900]), (1000, 1, [5, 500]), (1099, 1, [104, 599])],
    )
    def test_every_copy(self, logical: int, length: int, places: list[int]) -> None:
        assert ChunkMap(volume(), self.CHUNKS).find(logical, length, "it") == places

    @pytest.mark.parametrize(
        ("logical", "length"), [(110, 1), (99, 2), (1099, 2), (1100, 1), (1 << 63, 1), (0, 1 << 62)]
    )
    def test_what_is_in_none_or_in_two(self, logical: int, length: int) -> None:
        with pytest.raises(CorruptImage, match=f"it is at {logical:#x}, and no chunk"):
            ChunkMap(volume(), self.CHUNKS).find(logical, length, "it")

    def test_none(self) -> None:
        with pytest.raises(CorruptImage, match="no chunk"):
            ChunkMap(volume(), []).find(0, 1, "it")

    def test_that_overlap(self) -> None:
        with pytest.raises(CorruptImage, match="the chunks at 0x64 and 0x6d overlap"):
            ChunkMap(volume(), [*self.CHUNKS, Chunk(109, 5, (0,))])
