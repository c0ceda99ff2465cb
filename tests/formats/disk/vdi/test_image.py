from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.disk.table import FORMATS
from recipes.formats.disk.vdi.header import HEADER
from tests.kit.disk_images import assert_cut_is_refused, disk, made, qemu_raw, read_all, refused
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
NOWHERE, DISCARDED = 0xFFFF_FFFF, 0xFFFF_FFFE


def image(blocks: list[int], size: int | None = None, **fields: int | bytes) -> bytes:
    """Return a VDI whose map has these entries; `fields` replace those of the header."""
    size = len(blocks) * MiB if size is None else size
    values: dict[str, Any] = {
        **{"magic": 0xBEDA107F, "version": 0x10001, "kind": 1, "map": 512, "data": 4096, "block": MiB, "extra": 0},
        **{"count": len(blocks), "size": size, "link": bytes(16), "parent": bytes(16)},
        **fields,
    }
    header = HEADER.pack(
        *(b"<<< a disk >>>\n", values["magic"], values["version"], 0x190, values["kind"], 0, b""),
        *(values["map"], values["data"], 0, 0, 0, 512, 0, values["size"], values["block"], values["extra"]),
        *(values["count"], 0, b"i" * 16, bytes(16), values["link"], values["parent"]),
    )
    words = struct.pack(f"<{len(blocks)}I", *blocks)
    there = [number for number in blocks if number < DISCARDED]
    data = b"".join(bytes([number % 255 + 1]) * MiB for number in range(max(there, default=-1) + 1))
    return (header.ljust(512, b"\0") + words).ljust(4096, b"\0") + data


def expected(blocks: list[int], size: int | None = None) -> bytes:
    return b"".join(bytes(MiB) if each >= DISCARDED else bytes([each % 255 + 1]) * MiB for each in blocks)[:size]


@pytest.mark.parametrize("size", [512, 1 * MiB, 3 * MiB + 512, 9 * MiB + 1536])
@pytest.mark.parametrize("options", ["static=off", "static=on"])
def test_as_qemu_has_it(tmp_path: Path, size: int, options: str) -> None:
    need("qemu-img")
    raw = disk(tmp_path / "raw", size)
    path = made(raw, "vdi", options)
    wanted = qemu_raw(path, "vdi")
    assert wanted is not None
    assert wanted.rstrip(b"\0") == raw.read_bytes().rstrip(b"\0")
    assert read_all(path, "vdi") == wanted


def test_an_empty_disk_of_qemus(tmp_path: Path) -> None:
    need("qemu-img")
    path = tmp_path / "vdi"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vdi", path, "1T"], check=True)
    with path.open("rb") as file:
        opened = FORMATS["vdi"].open(file.fileno(), path, 1 << 40)
        assert (opened.size, opened.data_size) == (1 << 40, 0)


@pytest.mark.parametrize("blocks", [[0, 1, 2], [2, NOWHERE, 0, DISCARDED, 1], [NOWHERE] * 5], ids=len)
def test_blocks_are_where_the_map_says(tmp_path: Path, blocks: list[int]) -> None:
    path = tmp_path / "vdi"
    path.write_bytes(image(blocks))
    assert read_all(path, "vdi") == expected(blocks)


def test_a_map_of_several_kilobytes(tmp_path: Path) -> None:
    path = tmp_path / "vdi"
    path.write_bytes(_far([*[NOWHERE] * 1500, 0, *[DISCARDED] * 9, 1]))
    with path.open("rb") as file:
        opened = FORMATS["vdi"].open(file.fileno(), path, 1 << 40)
        assert [extent[:3] for extent in opened.extents()] == [
            (1500 * MiB, MiB, 16384),
            (1510 * MiB, MiB, 16384 + MiB),
        ]


def _far(blocks: list[int]) -> bytes:
    """Return an image with its data behind a map of several blocks of the file."""
    start = 16384
    near = image(blocks, data=start)
    words = struct.pack(f"<{len(blocks)}I", *blocks)
    return near[:512] + words.ljust(start - 512, b"\0") + b"\1" * MiB + b"\2" * MiB


def test_a_disk_of_no_whole_sectors_is_rounded_up(tmp_path: Path) -> None:
    path = tmp_path / "vdi"
    path.write_bytes(image([0, 1], MiB + 700))
    assert read_all(path, "vdi") == expected([0, 1], MiB + 1024)


def test_a_map_may_be_longer_than_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "vdi"
    path.write_bytes(image([1, 0, NOWHERE], 2 * MiB))
    assert read_all(path, "vdi") == expected([1, 0])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (image([0])[:200], "truncated.*header"),
        (image([0], kind=0), "expected the type"),
        (image([0], kind=5), "expected the type"),
        (image([0], count=0), "expected a map of 1 blocks or more, found 0"),
        (image([0], map=100), "behind the header"),
        (image([0], map=1 << 31), "truncated.*map"),
        (image([0, 1], data=513), "behind the map"),
        (image([0, 0]), "where another one is"),
        (image([0, 7])[: 4096 + MiB], "truncated.*block of guest offset 1048576"),
    ],
)
def test_what_contradicts_the_format_is_corrupt(tmp_path: Path, data: bytes, problem: str) -> None:
    refused(tmp_path / "vdi", data, CorruptImage, problem)


@pytest.mark.parametrize(
    ("data", "feature"),
    [
        (image([0], kind=4), "a parent"),
        (image([0], kind=3), "a parent"),
        (image([0], link=b"x" * 16), "a parent"),
        (image([0], parent=b"x" * 16), "a parent"),
        (image([0], version=0x20000), "version 2.0"),
        (image([0], version=1), "version 0.1"),
        (image([0], block=2 * MiB), "blocks of 2097152"),
        (image([0], extra=512), "blocks of 1048576 and 512 more bytes"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, data: bytes, feature: str) -> None:
    refused(tmp_path / "vdi", data, UnsupportedFeature, f"VDI with {feature}")


def test_the_virtual_size_has_a_limit(tmp_path: Path) -> None:
    refused(tmp_path / "vdi", image([NOWHERE] * 4), LimitExceeded, "more than the", 4 * MiB - 1)


def test_what_is_cut_off_is_refused(tmp_path: Path) -> None:
    assert_cut_is_refused(tmp_path / "vdi", image([NOWHERE, 0]), "vdi")
