from __future__ import annotations

import struct
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.disk.table import FORMATS, virtual_size
from recipes.formats.disk.vmdk.layout import AT_END, HEADER
from recipes.formats.fs import root
from tests.kit.disk_images import assert_cut_is_refused, disk, made, qemu_raw, read_all, refused
from tests.kit.oracles import need
from tests.kit.trees import of_tree

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
SECTOR = 512
GRAIN = 64 << 10
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID={parent}
createType="{kind}"

# Extent description
{extents}

# The Disk Data Base
ddb.adapterType = "lsilogic"
"""


def descriptor(
    kind: str = "monolithicSparse", parent: str = "ffffffff", extents: str = 'RW 1 SPARSE "a.vmdk"'
) -> bytes:
    return DESCRIPTOR.format(kind=kind, parent=parent, extents=extents).encode()


def header(size: int, **fields: Any) -> bytes:
    values = {
        **{"magic": b"KDMV", "version": 1, "flags": 3, "capacity": size // SECTOR, "grain": GRAIN // SECTOR},
        **{"descriptor": 1, "descriptor_size": 20, "entries": 512, "redundant": 0, "directory": 30, "overhead": 128},
        **{"unclean": 0, "line_ends": b"\n \r\n", "compression": 0},
        **fields,
    }
    return HEADER.pack(*values.values()).ljust(SECTOR, b"\0")


def sparse(grains: list[int | None], size: int | None = None, *, text: bytes | None = None, **fields: Any) -> bytes:
    """Return a VMDK whose grains, in the guest's order, are the so many-th in the file; None is nowhere, -1 zeros."""
    size = len(grains) * GRAIN if size is None else size
    tables = -(-len(grains) // 512)
    # The tables from sector 31 on, grains from the first MiB on.
    directory = struct.pack(f"<{tables}I", *(31 + 4 * index for index in range(tables)))
    words = [0 if each is None else 1 if each == -1 else 2048 + each * GRAIN // SECTOR for each in grains]
    data = b"".join(
        bytes([number % 255 + 1]) * GRAIN for number in range(max((e for e in grains if e is not None), default=-1) + 1)
    )
    front = header(size, **fields) + (descriptor() if text is None else text).ljust(20 * SECTOR, b"\0")
    front = front.ljust(30 * SECTOR, b"\0") + directory.ljust(SECTOR, b"\0") + struct.pack(f"<{len(words)}I", *words)
    return front.ljust(MiB, b"\0") + data


def expected(grains: list[int | None], size: int | None = None) -> bytes:
    return b"".join(bytes(GRAIN) if e is None or e < 0 else bytes([e % 255 + 1]) * GRAIN for e in grains)[:size]


def stream(
    grains: list[bytes | None],
    *,
    size: int | None = None,
    order: list[int] | None = None,
    padding: bytes = b"",
    text: bytes | None = None,
    **fields: Any,
) -> bytes:
    """Return a stream-optimized VMDK as VMware writes it, markers, footer and all; the grains are of one table."""
    size = len(grains) * GRAIN if size is None else size
    out = bytearray(
        header(size, version=3, flags=0x30001, directory=AT_END, compression=1, **fields)
        + (descriptor("streamOptimized") if text is None else text).ljust(20 * SECTOR, b"\0")
    )
    out += bytes(128 * SECTOR - len(out))
    words = [0] * 512

    def put(data: bytes) -> int:
        at = len(out) // SECTOR
        out.extend(data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0"))
        return at

    for index in order or range(len(grains)):
        data = grains[index]
        if data is not None:
            packed = zlib.compress(data, 1)
            words[index] = put(struct.pack("<QI", index * GRAIN // SECTOR, len(packed)) + packed)
    put(struct.pack("<QII", 4, 0, 1))
    table = put(struct.pack("<512I", *words))
    put(struct.pack("<QII", 1, 0, 2))
    directory = put(struct.pack("<I", table))
    put(struct.pack("<QII", 1, 0, 3))
    put(header(size, version=3, flags=0x30001, directory=directory, compression=1, **fields))
    put(bytes(SECTOR))
    return bytes(out) + padding


def content(number: int) -> bytes:
    return (b"%d bottles of beer on the wall\n" % number * 4000)[:GRAIN]


@pytest.mark.parametrize("size", [512, 1 * MiB, 3 * MiB + 512, 40 * MiB + 1536])
@pytest.mark.parametrize("options", ["subformat=monolithicSparse", "subformat=streamOptimized", "zeroed_grain=on"])
def test_as_qemu_has_it(tmp_path: Path, size: int, options: str) -> None:
    need("qemu-img")
    raw = disk(tmp_path / "raw", size)
    path = made(raw, "vmdk", options)
    wanted = qemu_raw(path, "vmdk")
    assert wanted is not None
    assert wanted.rstrip(b"\0") == raw.read_bytes().rstrip(b"\0")
    assert read_all(path, "vmdk") == wanted


def test_grains_that_are_told_to_be_zeros(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    raw = disk(tmp_path / "raw", 4 * MiB)
    path = made(raw, "vmdk", "zeroed_grain=on")
    subprocess.run(["qemu-io", "-f", "vmdk", "-c", "write -z 1M 1M", path], check=True, capture_output=True)
    assert read_all(path, "vmdk") == qemu_raw(path, "vmdk")


def test_an_empty_disk_of_qemus(tmp_path: Path) -> None:
    need("qemu-img")
    path = tmp_path / "vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", path, "1T"], check=True)
    with path.open("rb") as file:
        opened = FORMATS["vmdk"].open(file.fileno(), path, 1 << 40)
        assert (opened.size, opened.data_size) == (1 << 40, 0)


@pytest.mark.parametrize(
    "grains", [[0, 1, 2], [2, None, 0, None, 1], [None] * 5, [*[None] * 511, 0, 1, *[None] * 600, 2]], ids=len
)
def test_grains_are_where_the_tables_say(tmp_path: Path, grains: list[int | None]) -> None:
    path = tmp_path / "vmdk"
    path.write_bytes(sparse(grains))
    assert read_all(path, "vmdk") == expected(grains)
    need("qemu-img")
    assert qemu_raw(path, "vmdk") == expected(grains)


def test_the_last_grain_may_end_behind_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "vmdk"
    path.write_bytes(sparse([1, 0], GRAIN + 512))
    assert read_all(path, "vmdk") == expected([1, 0], GRAIN + 512)


class TestStream:
    GRAINS = (content(0), None, content(2), content(3), None, content(5))

    def wanted(self) -> bytes:
        return b"".join(each or bytes(GRAIN) for each in self.GRAINS)

    @pytest.mark.parametrize("order", [None, [5, 0, 3, 2, 1, 4]])
    @pytest.mark.parametrize("padding", [b"", bytes(10240), bytes(700)], ids=len)
    def test_with_a_footer(self, order: list[int] | None, padding: bytes, tmp_path: Path) -> None:
        path = tmp_path / "vmdk"
        path.write_bytes(stream(list(self.GRAINS), order=order, padding=padding))
        assert read_all(path, "vmdk") == self.wanted()
        if not padding:
            need("qemu-img")
            assert qemu_raw(path, "vmdk") == self.wanted()

    def test_noise_takes_more_than_a_grain(self, tmp_path: Path) -> None:
        noise = zlib.compress(bytes(range(256)) * 99, 0) * 3
        grains = [(noise * 9)[:GRAIN], content(1)]
        path = tmp_path / "vmdk"
        path.write_bytes(stream(list(grains)))
        assert read_all(path, "vmdk") == b"".join(grains)

    def test_a_short_last_grain(self, tmp_path: Path) -> None:
        path = tmp_path / "vmdk"
        path.write_bytes(stream([content(0), content(1)[:1024]], size=GRAIN + 1024))
        assert read_all(path, "vmdk") == content(0) + content(1)[:1024]

    @pytest.mark.parametrize(
        ("image", "problem"),
        [
            (stream([content(0), content(1)[:1024], content(2)]), "has 1024 bytes instead of 65536"),
            (stream([content(0) + b"x"]), "not a zlib stream of at most 65536"),
            (stream([content(0)])[:-1536], "truncated.*footer"),
            (stream([content(0)])[: 129 * SECTOR], "footer"),
        ],
    )
    def test_what_contradicts_the_format_is_corrupt(self, image: bytes, problem: str, tmp_path: Path) -> None:
        refused(tmp_path / "vmdk", image, CorruptImage, problem)

    def test_a_grain_of_another_place(self, tmp_path: Path) -> None:
        image = bytearray(stream([content(0), content(1)]))
        at = 128 * SECTOR
        struct.pack_into("<Q", image, at, GRAIN // SECTOR)
        refused(tmp_path / "vmdk", bytes(image), CorruptImage, "which says that it is that of 65536")
        struct.pack_into("<QI", image, at, 0, 3 * GRAIN)
        refused(tmp_path / "vmdk", bytes(image), CorruptImage, "more than 65536 ever take")
        struct.pack_into("<QI", image, at, 0, 0)
        refused(tmp_path / "vmdk", bytes(image), CorruptImage, "has 0 bytes")

    def test_damaged_data(self, tmp_path: Path) -> None:
        image = bytearray(stream([content(0), content(1)]))
        image[128 * SECTOR + 60] ^= 0xFF
        refused(tmp_path / "vmdk", bytes(image), CorruptImage, "grain of guest offset 0")

    def test_two_that_contradict_each_other(self, tmp_path: Path) -> None:
        image = bytearray(stream([content(0)]))
        image[-1024 + 12 : -1024 + 20] = struct.pack("<Q", 999)
        refused(tmp_path / "vmdk", bytes(image), CorruptImage, "contradict each other")

    def test_what_is_cut_off_is_refused(self, tmp_path: Path) -> None:
        image = stream([content(number) for number in range(5)])
        assert_cut_is_refused(tmp_path / "vmdk", image, "vmdk", len(image) - SECTOR)


IMAGE = sparse([0, 1, None])


def _word(image: bytes, at: int, value: int) -> bytes:
    return image[:at] + struct.pack("<I", value) + image[at + 4 :]


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (b"KDMV", "truncated.*header"),
        (sparse([0], line_ends=b"\n \n\0"), "transferred as text"),
        (sparse([0], grain=4), "expected grains of 8 to 2048"),
        (sparse([0], grain=96), "power of two"),
        (sparse([0], grain=4096), "expected grains of 8 to 2048"),
        (sparse([0], entries=1024), "grain tables of 512 entries"),
        (sparse([0], compression=1), "contradicts the flags"),
        (sparse([0], compression=2), "contradicts the flags"),
        (sparse([0], flags=0x10003), "contradicts the flags"),
        (sparse([0], descriptor_size=4096), "a descriptor of 1048576 bytes at the most"),
        (sparse([0], descriptor=1 << 40), "truncated.*descriptor"),
        (sparse([0], directory=1 << 40), "truncated.*table"),
        (_word(IMAGE, 30 * SECTOR, 1 << 30), "truncated.*the grain table of guest offset 0"),
        (_word(sparse([None] * 512 + [0]), 30 * SECTOR, 35), "as another one is"),
        (_word(IMAGE, 31 * SECTOR + 4, 2048), "where another one is"),
        (_word(IMAGE, 31 * SECTOR + 4, 2049), "where another one is"),
        (_word(IMAGE, 31 * SECTOR, 1 << 30), "truncated.*the grain of guest offset 0"),
    ],
)
def test_what_contradicts_the_format_is_corrupt(tmp_path: Path, image: bytes, problem: str) -> None:
    refused(tmp_path / "vmdk", image, CorruptImage, problem)


@pytest.mark.parametrize(
    ("image", "feature"),
    [
        (sparse([0], version=4), "version 4"),
        (sparse([0], version=0), "version 0"),
        (sparse([0], flags=0x80003), "the flags 0x80000"),
        (sparse([0], capacity=0), "its data in other files"),
        (sparse([0], descriptor_size=0), "no descriptor"),
        (sparse([0], text=descriptor(parent="1234abcd")), "a parent"),
        (sparse([0], text=descriptor() + b'parentFileNameHint="/etc/passwd"\n'), "a parent"),
        (
            sparse([0], text=descriptor("monolithicFlat")),
            "the create type 'monolithicFlat'",
        ),
        (sparse([0], text=descriptor("twoGbMaxExtentSparse")), "the create type 'twoGbMaxExtentSparse'"),
        (sparse([0], text=descriptor(extents='RW 1 FLAT "/etc/shadow" 0')), "the extents FLAT"),
        (sparse([0], text=descriptor(extents='RW 1 SPARSE "a"\nRW 1 SPARSE "b"')), "the extents SPARSE, SPARSE"),
        (sparse([0], text=descriptor() + b'encoding="encrypted"\n'), "encryption"),
        (descriptor("monolithicFlat", extents='RW 128 FLAT "/etc/shadow" 0').ljust(1024), "a descriptor only"),
        (b"COWD".ljust(4096, b"\0"), r"a sparse extent of ESX \(COWD\)"),
        (b"\xbe\xba\xfe\xca".ljust(4096, b"\0"), r"a space-efficient sparse extent \(seSparse\)"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, image: bytes, feature: str) -> None:
    refused(tmp_path / "vmdk", image, UnsupportedFeature, f"VMDK with {feature}")


def test_capitals_name_no_parent(tmp_path: Path) -> None:
    path = tmp_path / "vmdk"
    path.write_bytes(sparse([1, 0], text=descriptor(parent="FFFFFFFF").replace(b"\n", b"\r\n")))
    assert read_all(path, "vmdk") == expected([1, 0])


def test_the_virtual_size_has_a_limit(tmp_path: Path) -> None:
    refused(tmp_path / "vmdk", sparse([None] * 4), LimitExceeded, "more than the 262143", 4 * GRAIN - 1)
    refused(tmp_path / "vmdk", sparse([0], capacity=1 << 60), LimitExceeded, "allowed")


def test_what_is_cut_off_is_refused(tmp_path: Path) -> None:
    assert_cut_is_refused(tmp_path / "vmdk", sparse([3, None, 0, 1, 2]), "vmdk")


def test_a_size_is_claimed_of_what_has_one() -> None:
    def size(data: bytes) -> int | None:
        return virtual_size("vmdk", lambda at, count: data[at : at + count], len(data))

    assert size(IMAGE) == 3 * GRAIN
    assert size(stream([content(0)])) == GRAIN
    assert size(descriptor()) is None
    assert size(b"KDMV") is None
    assert size(sparse([0], capacity=0)) is None


def test_a_root_is_read_from_the_image(tmp_path: Path) -> None:
    need("qemu-img", "mke2fs")
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/os-release").write_text("ID=test\n" * 40_000)
    raw = tmp_path / "raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "root", raw, "16m"], check=True)
    with root.load(raw) as wanted:
        for options in ("monolithicSparse", "streamOptimized"):
            with root.load(made(raw, "vmdk", f"subformat={options}")) as found:
                assert found.find(b"etc/os-release") is not None
                assert of_tree(found) == of_tree(wanted)
