from __future__ import annotations

from typing import Any

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.fs.btrfs.chunks import Chunk
from recipes.formats.fs.btrfs.layout import KEY, Incompat, SuperFlag
from tests.kit.btrfs_volumes import DEVICE, FIRST, FSID, LENGTH, LOGICAL, SECOND, SIZE, SYSTEM, volume


def test_what_it_says() -> None:
    found = volume()
    assert (found.node_size, found.sector_size, found.node_fsid) == (SIZE, SIZE, FSID)
    assert found.chunks.find(LOGICAL + 5, LENGTH - 5, "it") == [FIRST + 5, SECOND + 5]


def test_nodes_may_have_another_fsid() -> None:
    assert volume(metadata_uuid=b"m" * 16).node_fsid == FSID
    assert volume(metadata_uuid=b"m" * 16, incompat=int(Incompat.METADATA_UUID)).node_fsid == b"m" * 16


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"magic": b"_BHRfS_N"}, "expected the magic b'_BHRfS_M'"),
        ({"summed": False}, "expected the checksum 00000000 of the superblock"),
        ({"bytenr": 1 << 26}, "says that it is at 67108864"),
        ({"node_size": 2048}, "found 2048 and 4096 bytes"),
        ({"node_size": 6000}, "nodes and sectors of 4 to 64 KiB"),
        ({"node_size": 1 << 17}, "nodes and sectors of 4 to 64 KiB"),
        ({"sector_size": 0}, "nodes and sectors of 4 to 64 KiB"),
        ({"sector_size": 8192}, "found 4096 and 8192 bytes"),
        ({"root_level": 8}, "found 8 and 0"),
        ({"chunk_root_level": 255}, "found 0 and 255"),
        ({"device_size": DEVICE + 1}, "truncated: the file system has 1048577 bytes"),
        ({"system_chunks_size": 0}, "bytes of chunks in the superblock, found 0"),
        ({"system_chunks_size": 2049}, "found 2049"),
        ({"system_chunks_size": KEY.size}, "found 17"),
        ({"system_chunks_size": len(SYSTEM) + 5}, "end in the middle of one"),
        ({"system_chunks_size": len(SYSTEM) - 1}, "stripes"),
        ({"chunks": SYSTEM * 2}, "overlap"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_superblocks_that_cannot_be(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        volume(**fields)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"incompat": int(Incompat.ZONED)}, "the feature zoned "),
        ({"incompat": 1 << 63 | int(Incompat.ENCRYPT)}, "the feature encrypt and 0x8000000000000000 "),
        ({"flags": int(SuperFlag.CHANGING_DATA_CSUM)}, "the state changing_data_csum,"),
        ({"num_devices": 0}, "several devices"),
        ({"num_devices": 2}, r"several devices \(2, seed devices included, of which this is number 1\)"),
        ({"log_root": 4096}, "a log that was not replayed"),
        ({"checksum_type": 9}, "checksums of type 9"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_refused_by_its_name(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(UnsupportedFeature, match=match):
        volume(**fields)


def test_what_only_a_writer_has_to_know_does_no_harm() -> None:
    assert volume(compat=(1 << 64) - 1, compat_ro=(1 << 64) - 1, flags=1).node_size == SIZE


def test_chunks_are_learned() -> None:
    found = volume()
    found.learn([Chunk(0, 10, (5,))])
    assert found.chunks.find(1, 2, "it") == [6]
    with pytest.raises(CorruptImage, match="no chunk"):
        found.chunks.find(LOGICAL, 1, "it")
