from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.disk.table import FORMATS, virtual_size
from recipes.formats.disk.vhd.footer import checksum
from recipes.formats.fs import root
from tests.kit.disk_images import assert_cut_is_refused, disk, made, qemu_raw, read_all, refused
from tests.kit.oracles import need
from tests.kit.trees import of_tree

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
BLOCK = 64 << 10
NOWHERE = 0xFFFF_FFFF
UNUSED = (1 << 64) - 1


def footer(size: int, kind: int = 2, **fields: int) -> bytes:
    """Return a footer as Hyper-V writes it, with other `fields`."""
    values = {"version": 0x10000, "offset": 512, "size": size, "kind": kind, "sum": 0} | fields
    data = struct.pack(
        ">8sIIQI4sI4sQQHBBII",
        *(b"conectix", 2, values["version"], values["offset"], 0, b"win ", 0x60003, b"Wi2k"),
        *(values["size"], values["size"], 100, 4, 17, values["kind"], 0),
    )
    data += bytes(range(16)) + bytes(428)
    total = checksum(data, slice(64, 68)) ^ values["sum"]
    return data[:64] + total.to_bytes(4, "big") + data[68:]


def dynamic(
    blocks: list[int | None], size: int | None = None, *, block: int = BLOCK, front: bool = True, **fields: int
) -> bytes:
    """Return a dynamic VHD whose blocks, in the guest's order, are the so many-th in the file; None is nowhere.

    `fields` replace those of the footer (version, kind, sum, offset) and of the header (cookie, entries, table,
    header_version, header_sum).
    """
    size = len(blocks) * block if size is None else size
    bitmap = -(-block // 4096 // 512) * 512
    table = 2048
    start = table + -(-4 * len(blocks) // 512) * 512
    end = footer(
        size, **{"kind": 3} | {name: fields[name] for name in fields if name in ("version", "kind", "sum", "offset")}
    )
    header = struct.pack(
        *(">8sQQIIII", fields.get("cookie", int.from_bytes(b"cxsparse", "big")).to_bytes(8, "big"), UNUSED),
        *(fields.get("table", table), fields.get("header_version", 0x10000)),
        *(fields.get("entries", len(blocks)), fields.get("block", block), 0),
    ).ljust(1024, b"\0")
    total = checksum(header, slice(36, 40)) ^ fields.get("header_sum", 0)
    header = header[:36] + total.to_bytes(4, "big") + header[40:]
    places = [NOWHERE if each is None else (start + each * (bitmap + block)) // 512 for each in blocks]
    data = b"".join(
        b"\xff" * (block // 4096) + bytes(bitmap - block // 4096) + bytes([number % 255 + 1]) * block
        for number in range(max((each for each in blocks if each is not None), default=-1) + 1)
    )
    words = struct.pack(f">{len(places)}I", *places).ljust(start - table, b"\xff")
    first = end if front else bytes(512)
    return first + header + bytes(512) + words + data + end


def expected(blocks: list[int | None], size: int | None = None, block: int = BLOCK) -> bytes:
    whole = b"".join(bytes(block) if each is None else bytes([each % 255 + 1]) * block for each in blocks)
    return whole[:size]


@pytest.mark.parametrize("size", [512, 1 * MiB, 3 * MiB + 512, 9 * MiB + 1536])
@pytest.mark.parametrize("options", ["fixed", "dynamic", "fixed,force_size=on", "dynamic,force_size=on"])
def test_as_qemu_has_it(tmp_path: Path, size: int, options: str) -> None:
    need("qemu-img")
    raw = disk(tmp_path / "raw", size)
    path = made(raw, "vpc", f"subformat={options}")
    wanted = qemu_raw(path, "vpc")
    assert wanted is not None
    assert wanted.rstrip(b"\0") == raw.read_bytes().rstrip(b"\0")
    assert read_all(path, "vhd") == wanted


def test_an_empty_disk_of_qemus(tmp_path: Path) -> None:
    need("qemu-img")
    path = tmp_path / "vhd"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vpc", "-o", "force_size=on", path, "1T"], check=True)
    with path.open("rb") as file:
        image = FORMATS["vhd"].open(file.fileno(), path, 1 << 40)
        assert (image.size, image.data_size) == (1 << 40, 0)


@pytest.mark.parametrize("block", [4096, BLOCK, 512 << 10, 2 * MiB, 8 * MiB])
@pytest.mark.parametrize("blocks", [[0, 1, 2], [2, None, 0, 1], [None] * 5], ids=len)
def test_blocks_are_where_the_table_says(tmp_path: Path, block: int, blocks: list[int | None]) -> None:
    assert_blocks(tmp_path / "vhd", block, blocks)


def test_a_table_of_several_kilobytes(tmp_path: Path) -> None:
    assert_blocks(tmp_path / "vhd", 4096, [*[None] * 1500, 0, *[None] * 2100, 1])


def assert_blocks(path: Path, block: int, blocks: list[int | None]) -> None:
    size = len(blocks) * block - 1536
    path.write_bytes(dynamic(blocks, size, block=block))
    assert read_all(path, "vhd") == expected(blocks, size, block)


def test_the_last_of_all_blocks_may_end_where_the_disk_does_not(tmp_path: Path) -> None:
    path = tmp_path / "vhd"
    path.write_bytes(dynamic([0, 1], BLOCK + 512))
    assert read_all(path, "vhd") == expected([0, 1], BLOCK + 512)
    refused(path, dynamic([0, 1], BLOCK + 512)[:-1024] + footer(BLOCK + 512, 3), CorruptImage, "truncated.*block")


def test_the_size_is_the_footers_and_not_the_geometrys(tmp_path: Path) -> None:
    """VirtualBox's creator is one whose disks QEMU cuts to whole cylinders."""
    data = bytes(range(256)) * 4 * 1000
    end = bytearray(footer(len(data)))
    end[28:32] = b"vbox"
    end[64:68] = checksum(bytes(end), slice(64, 68)).to_bytes(4, "big")
    path = tmp_path / "vhd"
    path.write_bytes(data + end)
    assert read_all(path, "vhd") == data


def test_a_fixed_disk_keeps_its_holes(tmp_path: Path) -> None:
    path = tmp_path / "vhd"
    size = 64 * MiB
    with path.open("wb") as file:
        file.seek(32 * MiB)
        file.write(b"x" * MiB)
        file.seek(size)
        file.write(footer(size))
    with path.open("rb") as file:
        image = FORMATS["vhd"].open(file.fileno(), path, size)
        assert image.data_size == MiB
    assert read_all(path, "vhd") == bytes(32 * MiB) + b"x" * MiB + bytes(31 * MiB)


def test_the_footer_of_virtual_pc_before_2004_has_511_bytes(tmp_path: Path) -> None:
    path = tmp_path / "vhd"
    path.write_bytes(b"x" * 2048 + footer(2048)[:511])
    assert read_all(path, "vhd") == b"x" * 2048
    path.write_bytes(dynamic([1, 0])[:-1])
    assert read_all(path, "vhd") == expected([1, 0])


@pytest.mark.parametrize("lost", ["front", "end", "front's checksum", "end's checksum"])
def test_either_footer_of_a_dynamic_disk_will_do(tmp_path: Path, lost: str) -> None:
    image = bytearray(dynamic([1, None, 0]))
    if lost == "front":
        image[:512] = bytes(512)
    elif lost == "end":
        del image[-512:]
    else:
        image[100 if lost == "front's checksum" else -400] ^= 1
    path = tmp_path / "vhd"
    path.write_bytes(image)
    assert read_all(path, "vhd") == expected([1, None, 0])


def _with(image: bytes, at: int, value: bytes) -> bytes:
    return image[:at] + value + image[at + len(value) :]


IMAGE = dynamic([0, 1, None])


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (b"conectix", "truncated.*footer"),
        (bytes(8192) + footer(8704), "truncated.*the disk before the footer"),
        (bytes(8704) + footer(8192), "expected a fixed disk of 8704 bytes before the footer, found 8192"),
        (footer(8192) + bytes(8192), "truncated.*fixed disk"),
        (bytes(8192) + footer(8192, sum=1), "checksum"),
        (bytes(8193) + footer(8193), "whole sectors"),
        (bytes(8192) + footer(8192, 0), "expected the type"),
        (bytes(8192) + footer(8192, 5), "expected the type"),
        (bytes(8192) + footer(8192, 255), "expected the type"),
        (dynamic([0], sum=1), "the footer at byte .* checksum"),
        (dynamic([0], header_sum=1), "the header has the checksum"),
        (dynamic([0], cookie=1), "expected b'cxsparse'"),
        (dynamic([0], offset=1 << 40), "truncated.*header"),
        (dynamic([0], block=BLOCK + 512), "power of two"),
        (dynamic([0], block=0), "power of two"),
        (dynamic([0, 1], entries=1), "table of 2 entries or more, found 1"),
        (dynamic([0], table=1 << 40), "truncated.*table"),
        (dynamic([0], table=UNUSED), "truncated.*table"),
        (_with(IMAGE, 2048, IMAGE[2052:2056]), "where something else is"),
        (_with(IMAGE, 2048, struct.pack(">I", 6)), "where something else is"),
        (_with(IMAGE, 2048, bytes(4)), "where something else is"),
        (_with(IMAGE, 2048, struct.pack(">I", 2)), "where something else is"),
        (_with(IMAGE, 2048, struct.pack(">I", NOWHERE - 1)), "truncated.*block of guest offset 0"),
        (footer(BLOCK, 3) + IMAGE[512:], "contradict"),
    ],
)
def test_what_contradicts_the_format_is_corrupt(tmp_path: Path, image: bytes, problem: str) -> None:
    refused(tmp_path / "vhd", image, CorruptImage, problem)


def test_a_table_of_zeros_is_not_one_of_nothing(tmp_path: Path) -> None:
    image = dynamic([None] * 4096, block=4096)
    refused(tmp_path / "vhd", _with(image, 2048, bytes(4 * 4096)), CorruptImage, "where something else is")


def test_two_blocks_share_no_byte(tmp_path: Path) -> None:
    """Of two that overlap, neither begins where the other does."""
    places = struct.unpack(">3I", IMAGE[2048:2060])
    for shift in (-1, 1):
        image = _with(IMAGE, 2048, struct.pack(">2I", places[1] + shift, places[1])) + bytes(1024) + IMAGE[-512:]
        refused(tmp_path / "vhd", image, CorruptImage, "something else")


@pytest.mark.parametrize(
    ("image", "feature"),
    [
        (dynamic([0], kind=4), r"a parent \(a differencing disk\)"),
        (bytes(8192) + footer(8192, 4), "a parent"),
        (bytes(8192) + footer(8192, version=0x20000), "version 2.0"),
        (dynamic([0], header_version=0x20001), "a header of version 2.1"),
        (dynamic([None] * 4, 2048, block=512), "blocks of 512 bytes"),
        (dynamic([None], 512, block=1 << 29), "blocks of 536870912 bytes"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, image: bytes, feature: str) -> None:
    refused(tmp_path / "vhd", image, UnsupportedFeature, f"VHD with {feature}")


def test_the_virtual_size_has_a_limit(tmp_path: Path) -> None:
    refused(tmp_path / "vhd", dynamic([None] * 4), LimitExceeded, "more than the 262143", 4 * BLOCK - 1)
    refused(tmp_path / "vhd", bytes(512) + footer(512), LimitExceeded, "more than the 511", 511)
    refused(tmp_path / "vhd", dynamic([0], 1 << 62), LimitExceeded, "allowed")


def test_what_is_cut_off_is_refused(tmp_path: Path) -> None:
    image = dynamic([3, None, 0, 1, 2])
    assert_cut_is_refused(tmp_path / "vhd", image, "vhd", len(image) - 512)


def test_a_fixed_disk_without_its_end_is_none(tmp_path: Path) -> None:
    image = bytes(100_000 // 512 * 512) + footer(100_000 // 512 * 512)
    path = tmp_path / "vhd"
    for gone in (512, 1024, 50_000):
        path.write_bytes(image[:gone] + image[2 * gone :])
        with path.open("rb") as file, pytest.raises(ImageError, match="truncated"):
            FORMATS["vhd"].open(file.fileno(), path, 1 << 40)


@pytest.mark.parametrize("image", [IMAGE, bytes(512) + IMAGE[512:], bytes(4096) + footer(4096)])
def test_a_size_that_is_not_vouched_for_is_not_claimed(image: bytes) -> None:
    def size(data: bytes, known: bool = True) -> int | None:
        return virtual_size("vhd", lambda at, count: data[at : at + count], len(data) if known else None)

    assert size(image) in (3 * BLOCK, 4096)
    assert size(image[:4096] if image[:1] == b"c" else image, known=False) == (3 * BLOCK if image[:1] == b"c" else None)
    wrong = image.replace(b"win ", b"wim ")
    assert size(wrong) is None


def test_a_root_is_read_from_the_image(tmp_path: Path) -> None:
    need("qemu-img", "mke2fs")
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/os-release").write_text("ID=test\n" * 40_000)
    raw = tmp_path / "raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "root", raw, "16m"], check=True)
    with root.load(raw) as wanted:
        for options in ("dynamic", "fixed"):
            with root.load(made(raw, "vpc", f"subformat={options}")) as found:
                assert found.find(b"etc/os-release") is not None
                assert of_tree(found) == of_tree(wanted)
