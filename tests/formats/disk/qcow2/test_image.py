"""The header, its checks and the tables; images that convert are in test_qcow2_convert.py."""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.disk import tables
from recipes.formats.disk.image import Extent
from recipes.formats.disk.qcow2.image import Qcow2
from recipes.formats.io import bounds
from tests.kit.oracles import need
from tests.kit.qcow2_images import COMPRESSED, COPIED, ZERO, build, create, extension, write

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = 65536
FIRST = 4 * CLUSTER
DATA = b"D" * CLUSTER
FEATURE_NAMES = 0x6803F857


def extents(tmp_path: Path, image: bytes, limit: int = 1 << 40) -> list[Extent]:
    path = tmp_path / "image"
    path.write_bytes(image)
    return extents_of(path, limit)


def extents_of(path: Path, limit: int = 1 << 40) -> list[Extent]:
    with path.open("rb") as file:
        return list(Qcow2(file.fileno(), path, max_virtual_size=limit).extents())


def refused(tmp_path: Path, image: bytes, kind: type[ImageError], match: str, limit: int = 1 << 40) -> None:
    with pytest.raises(kind, match=match) as caught:
        extents(tmp_path, image, limit)
    assert str(tmp_path / "image") in str(caught.value)


def test_neighbouring_clusters_are_one_extent(tmp_path: Path) -> None:
    image = build(l2={index: (FIRST + index * CLUSTER) | COPIED for index in range(3)}, data=3 * DATA)
    assert extents(tmp_path, image) == [Extent(0, 3 * CLUSTER, FIRST, 0)]


def test_extents_are_in_the_order_of_the_guest(tmp_path: Path) -> None:
    image = build(l2={9: FIRST, 2: FIRST + CLUSTER, 3: FIRST}, data=2 * DATA)
    assert [(extent.guest, extent.host) for extent in extents(tmp_path, image)] == [
        (2 * CLUSTER, FIRST + CLUSTER),
        (3 * CLUSTER, FIRST),
        (9 * CLUSTER, FIRST),
    ]


@pytest.mark.parametrize("remembered", [0, 1, 2, 100])
def test_the_size_of_the_data_changes_no_extents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr(tables, "_REMEMBERED", remembered)
    path = tmp_path / "image"
    path.write_bytes(build(l2={9: FIRST, 2: FIRST + CLUSTER}, data=2 * DATA))
    with path.open("rb") as file:
        image = Qcow2(file.fileno(), path, max_virtual_size=1 << 40)
        before = list(image.extents())
        assert len(before) == 2
        assert image.data_size == 2 * CLUSTER
        assert list(image.extents()) == before
        assert list(image.extents()) == before


@pytest.mark.parametrize("seed", range(20))
def test_extents_are_what_the_entries_say_one_by_one(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    clusters = 40
    flags = (0, 0, COPIED, COPIED, ZERO, COPIED | ZERO)
    # Hosts mostly follow each other, as a writer leaves them, and so do the flags.
    entries = {0: FIRST}
    for index in range(1, clusters):
        following = (entries[index - 1] & ~(COPIED | ZERO)) + CLUSTER
        host = random.choices((following, FIRST + random.randrange(clusters) * CLUSTER, 0), (6, 2, 1))[0]
        entries[index] = (host if host < FIRST + clusters * CLUSTER else FIRST) | random.choice(flags)
    expected = {
        index * CLUSTER: entry & ~COPIED for index, entry in entries.items() if entry & ~COPIED and not entry & ZERO
    }
    found = extents(tmp_path, build(l2=entries, data=clusters * DATA, size=clusters * CLUSTER))
    assert expected == {
        extent.guest + at: extent.host + at for extent in found for at in range(0, extent.length, CLUSTER)
    }
    for one, other in pairwise(found):
        assert one.guest + one.length < other.guest or one.host + one.length != other.host


def test_zero_clusters_have_no_data_whether_allocated_or_not(tmp_path: Path) -> None:
    image = build(l2={0: ZERO, 1: FIRST | ZERO, 2: FIRST}, data=DATA)
    assert extents(tmp_path, image) == [Extent(2 * CLUSTER, CLUSTER, FIRST, 0)]


def test_entries_past_the_end_of_the_disk_are_not_looked_at(tmp_path: Path) -> None:
    image = build(size=CLUSTER + 512, l2={1: FIRST, 2: 12345 << 9}, l1=[3 * CLUSTER, 777 << 9], data=DATA)
    assert extents(tmp_path, image) == [Extent(CLUSTER, 512, FIRST, 0)]


def test_only_what_the_disk_shows_of_the_last_cluster_must_be_there(tmp_path: Path) -> None:
    assert extents(tmp_path, build(size=512, l2={0: FIRST}, data=b"x" * 512)) == [Extent(0, 512, FIRST, 0)]
    refused(tmp_path, build(size=512, l2={0: FIRST}, data=b"x" * 511), CorruptImage, "truncated")


def test_compressed_clusters(tmp_path: Path) -> None:
    sectors = 3 - 1 << 62 - 8
    image = build(l2={5: COMPRESSED | sectors | FIRST + 100}, data=DATA)
    assert extents(tmp_path, image) == [Extent(5 * CLUSTER, CLUSTER, FIRST + 100, 3 * 512 - 100)]
    image = build(l2={5: COMPRESSED | sectors | FIRST}, data=b"x" * 700)
    assert extents(tmp_path, image) == [Extent(5 * CLUSTER, CLUSTER, FIRST, 700)]


def test_subclusters(tmp_path: Path) -> None:
    # Entries of 16 bytes: the second word says which 32nds are zeros (high half) and which are there (low half).
    image = build(
        incompatible=1 << 4,
        l2={0: FIRST, 1: 0b1_0000 << 32 | 0b1110_0011, 2: 0, 3: 0xFFFF_FFFF << 32, 4: FIRST + CLUSTER, 5: 0xFFFF_FFFF},
        data=2 * DATA,
    )
    part = CLUSTER // 32
    assert extents(tmp_path, image) == [
        Extent(0, 2 * part, FIRST, 0),
        Extent(5 * part, 3 * part, FIRST + 5 * part, 0),
        Extent(2 * CLUSTER, CLUSTER, FIRST + CLUSTER, 0),
    ]


def test_preallocated_holes_are_no_data(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    path = create(tmp_path / "image", "512M", "preallocation=metadata")
    write(path, "write -P 1 300M 64k")
    assert sum(extent.length for extent in extents_of(path)) < 1 << 20


@pytest.mark.parametrize("version", [2, 3])
def test_an_empty_disk_needs_no_table(tmp_path: Path, version: int) -> None:
    assert extents(tmp_path, build(version=version, size=0, l1=[])) == []


def test_a_large_l1_table_of_nothing(tmp_path: Path) -> None:
    # The largest that the format allows covers 128 GiB in clusters of 512 bytes.
    image = build(cluster_bits=9, size=1 << 37, l1=[], l1_size=1 << 22, l1_table_offset=4 * 512)
    assert extents(tmp_path, image + bytes(32 << 20)) == []


@pytest.mark.parametrize(
    ("image", "feature"),
    [
        (build(version=1), "version 1"),
        (build(version=4), "version 4"),
        (build(crypt_method=1), "AES encryption"),
        (build(crypt_method=2), "LUKS encryption"),
        (build(incompatible=1 << 2), "an external data file"),
        (
            build(incompatible=1 << 2, extensions=extension(0x44415441, b"other.raw")),
            r"an external data file \('other.raw'\)",
        ),
        (build(incompatible=1 << 17), "unknown incompatible feature bit 17"),
        (build(incompatible=1 << 63 | 1 << 5), "bit 5, unknown incompatible feature bit 63"),
        (
            build(
                incompatible=1 << 17 | 1 << 18,
                extensions=extension(
                    FEATURE_NAMES, struct.pack(">BB46sBB46s", 1, 17, b"no", 0, 17, b"time \x1b travel")
                ),
            ),
            r"'time \\x1b travel', unknown incompatible feature bit 18",
        ),
        (build(compression_type=2, incompatible=1 << 3), "compression type 2"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, image: bytes, feature: str) -> None:
    refused(tmp_path, image, UnsupportedFeature, feature)


def test_a_backing_file_is_named_and_never_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "base"
    # Opening it would wait for a writer for ever.
    os.mkfifo(fifo)
    name = os.fsencode(fifo)
    image = bytearray(build(backing_file_offset=4096, backing_file_size=len(name)))
    image[4096 : 4096 + len(name)] = name
    refused(tmp_path, bytes(image), UnsupportedFeature, rf"a backing file \('{fifo}'\)")


@pytest.mark.parametrize(
    "image",
    [
        build(incompatible=1 << 0, l2={0: FIRST}, data=DATA),
        build(compatible=0xFFFF_FFFF_FFFF_FFFF, l2={0: FIRST}, data=DATA),
        build(autoclear=0xFFFF_FFFF_FFFF_FFFD, l2={0: FIRST}, data=DATA),
        build(extensions=extension(0x1234_5678, b"whatever") + extension(0, b""), l2={0: FIRST}, data=DATA),
        build(header_length=104, l2={0: FIRST}, data=DATA),
        build(header_length=4096, l2={0: FIRST}, data=DATA),
        build(backing_file_offset=4096, l2={0: FIRST}, data=DATA),
    ],
    ids=["dirty", "compatible", "autoclear", "extension", "short header", "long header", "backing file without name"],
)
def test_what_does_not_matter_is_ignored(tmp_path: Path, image: bytes) -> None:
    assert extents(tmp_path, image) == [Extent(0, CLUSTER, FIRST, 0)]


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (b"", "truncated.*the header"),
        (build()[:71], "truncated.*the header"),
        (build()[:100], "truncated.*the header"),
        (build()[:200], "truncated"),
        (build(magic=0), "magic"),
        (build(cluster_bits=9)[:20] + struct.pack(">I", 8) + build(cluster_bits=9)[24:], "found 2.8"),
        (build(cluster_bits=9)[:20] + struct.pack(">I", 22) + build(cluster_bits=9)[24:], "found 2.22"),
        (build(cluster_bits=9)[:20] + struct.pack(">I", 0xFFFF_FFFF) + build(cluster_bits=9)[24:], "clusters"),
        (build(incompatible=1 << 1), "marked corrupt"),
        (build(header_length=103), "header"),
        (build(cluster_bits=9, header_length=512).replace(struct.pack(">I", 512), struct.pack(">I", 520)), "header"),
        (build(refcount_order=7), "refcounts"),
        (build(compression_type=1), "contradicts"),
        (build(incompatible=1 << 3), "contradicts"),
        (build(incompatible=1 << 4, cluster_bits=13, size=4096), "extended L2"),
        (build(autoclear=1 << 1), "raw external data file"),
        (build(crypt_method=3), "encryption method"),
        (build(extensions=extension(0x0537BE77, bytes(16))), "LUKS header"),
        (build(extensions=struct.pack(">II", 0x1234_5678, CLUSTER)), "header extension"),
        (build(extensions=extension(0xE2792ACA, b"x" * 16)), "backing format"),
        (build(backing_file_offset=CLUSTER + 1, backing_file_size=5), "backing file"),
        (build(backing_file_offset=4096, backing_file_size=1024), "backing file's name"),
        (build(l1_table_offset=2 * CLUSTER + 8), "L1 table is not at a cluster's start"),
        (build(l1_table_offset=1 << 40), "truncated.*L1 table"),
        (build(l1_table_offset=1 << 63), "L1 table"),
        (build(l1_size=0), "expected an L1 table of 1"),
        (build(l1_size=(32 << 20) // 8 + 1), "L1 table has"),
        (build(l1_size=0xFFFF_FFFF), "L1 table has"),
        (build(refcount_table_clusters=0), "no refcount table"),
        (build(refcount_table_clusters=129), "refcount table has"),
        (build(refcount_table_offset=512), "refcount table is not"),
        (build(refcount_table_offset=1 << 40), "truncated.*refcount table"),
        (build(nb_snapshots=65537), "snapshot table has"),
        (build(snapshots_offset=1), "snapshot table is not"),
        (build(nb_snapshots=1, snapshots_offset=1 << 40), "truncated.*snapshot table"),
        (build(nb_snapshots=1, snapshots_offset=FIRST, data=b"\xff" * CLUSTER), "extra data"),
        (
            build(nb_snapshots=1, snapshots_offset=FIRST, data=bytes(12) + b"\0\0\xff\xff" + bytes(40)),
            "truncated.*snapshot table",
        ),
        (build(l1=[3 * CLUSTER + 512]), "L2 table of L1 entry 0"),
        (build(l1=[1 << 40]), "truncated"),
        (build(l2={3: FIRST + 512}, data=2 * DATA), "guest offset 196608"),
        (build(l2={3: FIRST + 512 | ZERO}, data=2 * DATA), "guest offset 196608"),
        (build(l2={3: FIRST}, data=DATA[1:]), "truncated.*guest offset 196608"),
        (
            build(l2={2: FIRST, 3: FIRST + CLUSTER, 4: FIRST + 2 * CLUSTER}, data=(3 * DATA)[CLUSTER + 1 :]),
            "196608 ends",
        ),
        (build(l2={3: FIRST | COMPRESSED}), "truncated.*guest offset 196608"),
        (build(version=2, l2={3: ZERO}), "version 2"),
        (build(version=2, l2={3: FIRST | ZERO}, data=DATA), "version 2"),
        (build(incompatible=1 << 4, l2={0: FIRST, 1: 1 << 32 | 1}, data=DATA), "subclusters"),
        (build(incompatible=1 << 4, l2={0: 0, 1: 1}), "subclusters"),
        (build(incompatible=1 << 4, l2={0: FIRST + 512, 1: 1}, data=2 * DATA), "not at a cluster's start"),
    ],
)
def test_what_contradicts_the_format_is_corrupt(tmp_path: Path, image: bytes, problem: str) -> None:
    refused(tmp_path, image, CorruptImage, problem)


def test_l1_entries_that_share_a_table_cannot_cost_more_than_the_file(tmp_path: Path) -> None:
    cluster = 512
    entries = 4096
    image = build(cluster_bits=9, size=entries * 64 * cluster, l1=[], l1_size=entries, l1_table_offset=4 * cluster)
    refused(tmp_path, image + struct.pack(">Q", 3 * cluster) * entries, CorruptImage, "more L2 tables")


def test_entries_that_share_a_cluster_cannot_cost_more_than_the_file(tmp_path: Path) -> None:
    """Only snapshots share clusters."""
    shared = dict.fromkeys(range(100), FIRST)
    refused(tmp_path, build(size=100 * CLUSTER, l2=shared, data=DATA), CorruptImage, "more data than the file")
    extended = {2 * index: FIRST for index in range(100)} | {2 * index + 1: 0xFFFF_FFFF for index in range(100)}
    image = build(size=100 * CLUSTER, incompatible=1 << 4, l2=extended, data=DATA)
    refused(tmp_path, image, CorruptImage, "more data than the file")
    own = {index: FIRST + index * CLUSTER for index in range(100)}
    assert extents(tmp_path, build(size=100 * CLUSTER, l2=own, data=100 * DATA))


def test_compressed_clusters_hold_no_more_than_any_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FREE_CONTENT", 16 * CLUSTER)
    monkeypatch.setattr(bounds, "EXPANSION", 0)
    entries = dict.fromkeys(range(17), FIRST | COMPRESSED)
    image = build(size=16 * CLUSTER, l2=entries, data=bytes(CLUSTER))
    assert len(extents(tmp_path, image)) == 16
    image = build(size=17 * CLUSTER, l2=entries, data=bytes(CLUSTER))
    refused(tmp_path, image, LimitExceeded, f"hold more than {16 * CLUSTER} bytes")


def test_the_virtual_size_has_a_limit(tmp_path: Path) -> None:
    assert extents(tmp_path, build(size=1 << 20), 1 << 20) == []
    refused(tmp_path, build(size=1 << 20), LimitExceeded, "1048576 bytes, more than the 1048575", (1 << 20) - 1)
    refused(tmp_path, build(size=1 << 63, l1_size=1), LimitExceeded, "9223372036854775808 bytes")
