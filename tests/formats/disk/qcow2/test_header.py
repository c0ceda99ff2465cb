from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.disk.file import ImageFile
from recipes.formats.disk.qcow2.header import Header, claimed_size, read_header
from tests.kit.qcow2_images import build, extension

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1 << 42
CLUSTER = 1 << 16


class File(ImageFile):
    title = "QCOW2"


def header(path: Path, image: bytes, limit: int = LIMIT) -> Header:
    path.write_bytes(image)
    with path.open("rb") as file:
        return read_header(File(file.fileno(), path), max_virtual_size=limit)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk.qcow2"


def test_version_3(path: Path) -> None:
    found = header(path, build(size=1 << 20))
    assert found == Header(3, 16, 1 << 20, 2 * CLUSTER, extended_l2=False, compression="zlib")
    assert (found.cluster_size, found.l2_entries) == (CLUSTER, CLUSTER // 8)


def test_version_2_has_defaults(path: Path) -> None:
    found = header(path, build(version=2, incompatible=0xFF, compression_type=9))
    assert (found.version, found.compression, found.extended_l2) == (2, "zlib", False)


def test_extended_entries_are_half_as_many(path: Path) -> None:
    found = header(path, build(incompatible=16, l1_size=1))
    assert (found.extended_l2, found.l2_entries) == (True, CLUSTER // 16)


def test_zstd(path: Path) -> None:
    assert header(path, build(incompatible=8, compression_type=1)).compression == "zstd"


def test_part_of_a_sector_is_dropped(path: Path) -> None:
    assert header(path, build(size=(1 << 20) + 511)).virtual_size == 1 << 20


def test_the_dirty_bit_does_no_harm(path: Path) -> None:
    assert header(path, build(incompatible=1)).virtual_size == 1 << 20


CORRUPT: list[tuple[dict[str, Any], str]] = [
    ({"magic": 0x514649FC}, "expected the magic"),
    ({"cluster_bits": 8}, "clusters of 2^9 to 2^21 bytes, found 2^8"),
    ({"cluster_bits": 22, "l1_size": 1}, "found 2^22"),
    ({"header_length": 103}, "a header of 104 to 65536 bytes, found 103"),
    ({"header_length": 65537}, "found 65537"),
    ({"backing_file_offset": 65537}, "past the first cluster"),
    ({"backing_file_offset": 200, "backing_file_size": 1024}, "the backing file's name has 1024 bytes"),
    ({"backing_file_offset": 65500, "backing_file_size": 100}, "the backing file's name has 100 bytes"),
    ({"autoclear": 2}, "a raw external data file is announced"),
    ({"crypt_method": 3}, "expected encryption method 0, 1 or 2, found 3"),
    ({"compression_type": 1}, "contradicts the compression feature bit"),
    ({"incompatible": 8}, "contradicts the compression feature bit"),
    ({"incompatible": 16, "cluster_bits": 13, "l1_size": 1}, "extended L2 entries need clusters"),
    ({"incompatible": 2}, "marked corrupt"),
    ({"refcount_order": 7}, "refcounts of at most 64 bits"),
    ({"refcount_table_clusters": 0}, "there is no refcount table"),
    ({"refcount_table_clusters": 129}, "the refcount table has 8454144 bytes"),
    ({"refcount_table_offset": 5}, "the refcount table is not at a cluster's start"),
    ({"l1_table_offset": 512}, "the L1 table is not at a cluster's start but at byte 512"),
    ({"l1_table_offset": 1 << 63}, "the L1 table is not at a cluster's start"),
    ({"l1_size": (32 << 20) // 8 + 1}, "the L1 table has"),
    ({"size": 1 << 30, "l1_size": 1}, "expected an L1 table of 2 entries or more, found 1"),
    ({"nb_snapshots": 65537}, "the snapshot table has"),
    ({"l1_table_offset": 1 << 40}, "truncated"),
    ({"extensions": extension(1, b"")[:4] + b"\xff\xff\xff\xff"}, "more than there is room for"),
    ({"extensions": extension(0x0537BE77, b"")}, "there is a LUKS header, and no encryption"),
    ({"extensions": extension(0xE2792ACA, b"f" * 16)}, "the backing format's name has more than 15 bytes"),
]


@pytest.mark.parametrize(("fields", "match"), CORRUPT, ids=lambda value: str(value)[:50])
def test_what_contradicts_the_format(path: Path, fields: dict[str, Any], match: str) -> None:
    with pytest.raises(CorruptImage, match=match.replace("^", r"\^")):
        header(path, build(**fields))


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"version": 1}, "QCOW2 with version 1 is"),
    ({"version": 4}, "QCOW2 with version 4 is"),
    ({"crypt_method": 1}, "AES encryption"),
    ({"crypt_method": 2}, "LUKS encryption"),
    ({"incompatible": 4, "extensions": extension(0x44415441, b"/etc/shadow")}, "an external data file .'/etc/shadow'"),
    ({"compression_type": 2, "incompatible": 8}, "compression type 2"),
    ({"incompatible": 1 << 33}, "unknown incompatible feature bit 33"),
    ({"incompatible": 1 << 5, "extensions": extension(0x6803F857, b"\0\5name".ljust(48, b"\0"))}, "with 'name' is"),
    ({"backing_file_offset": 112, "backing_file_size": 4, "extensions": b"base"}, "a backing file .'base'"),
]


@pytest.mark.parametrize(("fields", "match"), UNSUPPORTED, ids=lambda value: str(value)[:50])
def test_what_is_refused_by_its_name(path: Path, fields: dict[str, Any], match: str) -> None:
    with pytest.raises(UnsupportedFeature, match=match):
        header(path, build(**fields))


def test_the_disk_is_bounded(path: Path) -> None:
    header(path, build(size=1 << 20), 1 << 20)
    with pytest.raises(LimitExceeded, match="more than the 1048575"):
        header(path, build(size=1 << 20), (1 << 20) - 1)


@pytest.mark.parametrize("cut", [0, 4, 71, 72, 103, 104, 112, 119, 3 * CLUSTER - 1])
def test_a_file_that_was_cut_off(path: Path, cut: int) -> None:
    with pytest.raises(ImageError, match=r"truncated|magic"):
        header(path, build(l1_size=CLUSTER // 8)[:cut])


class TestSnapshots:
    def image(self, *entries: tuple[int, int, int], count: int | None = None) -> bytes:
        """Return an image whose snapshot table has these sizes of (id, name, extra data)."""
        table = b""
        for identity, name, extra in entries:
            table += struct.pack(">QIHHIIQII", 0, 0, identity, name, 0, 0, 0, 0, extra)
            table += bytes(min(extra, 2000) + identity + name)
            table += bytes(-len(table) % 8)
        number = len(entries) if count is None else count
        return build(nb_snapshots=number, snapshots_offset=4 * CLUSTER, data=table)

    def test_they_do_no_harm(self, path: Path) -> None:
        assert header(path, self.image((1, 5, 16), (2, 0, 1024))).virtual_size == 1 << 20

    def test_too_much_of_one(self, path: Path) -> None:
        with pytest.raises(CorruptImage, match="a snapshot has 1025 bytes of extra data"):
            header(path, self.image((1, 5, 1025)))

    def test_not_all_there(self, path: Path) -> None:
        with pytest.raises(CorruptImage, match="truncated"):
            header(path, self.image((1, 5, 16), count=2))
        with pytest.raises(CorruptImage, match="truncated"):
            header(path, self.image((1, 5, 16))[:-20])


@pytest.mark.parametrize(("count", "size"), [(32, 1 << 20), (100, 1 << 20), (31, None), (0, None)])
def test_the_size_is_known_from_the_beginning(count: int, size: int | None) -> None:
    data = build(size=1 << 20)[:count]
    assert claimed_size(lambda at, length: data[at : at + length], None) == size
