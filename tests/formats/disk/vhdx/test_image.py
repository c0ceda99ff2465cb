from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.disk.table import FORMATS
from recipes.formats.disk.vhdx.write import VhdxWriter
from tests.kit.disk_images import assert_cut_is_refused, disk, made, qemu_raw, read_all, refused
from tests.kit.oracles import need
from tests.kit.vhdx_images import BAT, GUID, META, header, image, log_entry, metadata

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
PRESENT = 6


def blocks(*numbers: int | None, block: int = MiB) -> tuple[list[int], bytes, int]:
    """Return BAT, data and size of a disk whose blocks are the so many-th in the file; None is nowhere."""
    there = max((each for each in numbers if each is not None), default=-1) + 1
    data = b"".join(bytes([number + 1]) * block for number in range(there))
    return [0 if each is None else 4 * MiB + each * block | PRESENT for each in numbers], data, len(numbers) * block


def expected(*numbers: int | None, block: int = MiB) -> bytes:
    return b"".join(bytes(block) if each is None else bytes([each + 1]) * block for each in numbers)


@pytest.mark.parametrize("size", [1 * MiB, 9 * MiB + 1536])
@pytest.mark.parametrize("options", ["subformat=dynamic", "subformat=fixed", "block_size=1M", "block_state_zero=off"])
def test_as_qemu_has_it(tmp_path: Path, size: int, options: str) -> None:
    need("qemu-img")
    raw = disk(tmp_path / "raw", size)
    path = made(raw, "vhdx", options)
    wanted = qemu_raw(path, "vhdx")
    assert wanted is not None
    assert wanted.rstrip(b"\0") == raw.read_bytes().rstrip(b"\0")
    assert read_all(path, "vhdx") == wanted


def test_as_larder_writes_it(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 5 * MiB)
    path = tmp_path / "vhdx"
    with VhdxWriter(path, virtual_size=5 * MiB, durable=False) as writer:
        writer.pwrite(raw.read_bytes(), 0)
        writer.finish(b"a")
    assert read_all(path, "vhdx") == raw.read_bytes()


def test_an_empty_disk_of_qemus(tmp_path: Path) -> None:
    need("qemu-img")
    path = tmp_path / "vhdx"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", path, "1T"], check=True)
    with path.open("rb") as file:
        opened = FORMATS["vhdx"].open(file.fileno(), path, 1 << 40)
        assert (opened.size, opened.data_size) == (1 << 40, 0)


@pytest.mark.parametrize("block", [MiB, 2 * MiB])
@pytest.mark.parametrize("sector", [512, 4096])
def test_blocks_are_where_the_table_says(block: int, sector: int, tmp_path: Path) -> None:
    path = tmp_path / "vhdx"
    numbers = (2, None, 0, None, 1)
    path.write_bytes(image(*blocks(*numbers, block=block), block=block, sector=sector))
    assert read_all(path, "vhdx") == expected(*numbers, block=block)


def test_entries_of_sector_bitmaps_are_none_of_blocks(tmp_path: Path) -> None:
    """With blocks of 1 MiB and sectors of 512 bytes there is one behind every 4096 entries."""
    path = tmp_path / "vhdx"
    entries = [0] * 4098
    entries[4095], entries[4096], entries[4097] = 4 * MiB | PRESENT, 0xFF0000_6 | 1 << 40, 5 * MiB | PRESENT
    path.write_bytes(image(entries, b"\1" * MiB + b"\2" * MiB, 4097 * MiB))
    with path.open("rb") as file:
        opened = FORMATS["vhdx"].open(file.fileno(), path, 1 << 40)
        assert [extent[:3] for extent in opened.extents()] == [(4095 * MiB, 2 * MiB, 4 * MiB)]


@pytest.mark.parametrize("state", [0, 1, 2, 3, 5])
def test_states_that_read_as_zeros(state: int, tmp_path: Path) -> None:
    entries, data, size = blocks(0, 1)
    entries[0] = entries[0] & ~7 | state
    (tmp_path / "vhdx").write_bytes(image(entries, data, size))
    assert read_all(tmp_path / "vhdx", "vhdx") == expected(None, 1)


def _parts(broken: str) -> dict[str, Any]:
    return {broken: bytes(4096)}


@pytest.mark.parametrize("broken", ["first", "second"])
def test_either_header_will_do(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "vhdx"
    path.write_bytes(image(*blocks(1, 0), **_parts(broken)))
    assert read_all(path, "vhdx") == expected(1, 0)


def test_either_region_table_will_do(tmp_path: Path) -> None:
    path = tmp_path / "vhdx"
    path.write_bytes(image(*blocks(1, 0), region=bytes(64 << 10)))
    assert read_all(path, "vhdx") == expected(1, 0)


class TestLog:
    def page(self, entries: list[int]) -> bytes:
        return struct.pack(f"<{len(entries)}Q", *entries).ljust(4096, b"\0")

    def test_what_it_had_to_write_is_read(self, tmp_path: Path) -> None:
        """The BAT on the disk knows of no block; two entries of the log name them, the later one counts."""
        entries, data, size = blocks(1, 0)
        first = log_entry(9, {BAT: self.page([entries[1], entries[0]])})
        second = log_entry(10, {BAT: self.page(entries)}, tail=0)
        whole = image([0, 0], data, size, header=header(guid=GUID), log=first + second)
        path = tmp_path / "vhdx"
        path.write_bytes(whole)
        assert read_all(path, "vhdx") == expected(1, 0)
        need("qemu-img")
        subprocess.run(["qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", path], check=False, capture_output=True)
        assert qemu_raw(path, "vhdx") == expected(1, 0)

    def test_zeros_too(self, tmp_path: Path) -> None:
        entries, data, size = blocks(1, 0)
        log = log_entry(3, {}, zeros={BAT: 4096})
        path = tmp_path / "vhdx"
        path.write_bytes(image(entries, data, size, header=header(guid=GUID), log=log))
        assert read_all(path, "vhdx") == bytes(2 * MiB)

    def test_it_goes_round(self, tmp_path: Path) -> None:
        entries, data, size = blocks(1, 0)
        ring = bytearray(MiB)
        one = log_entry(5, {BAT: self.page([0, 0])}, tail=MiB - 4096)
        two = log_entry(6, {BAT: self.page(entries)}, tail=MiB - 4096)
        ring[-4096:], ring[: len(one) - 4096] = one[:4096], one[4096:]
        at = len(one) - 4096
        ring[at : at + len(two)] = two
        path = tmp_path / "vhdx"
        path.write_bytes(image([0, 0], data, size, header=header(guid=GUID), log=bytes(ring)))
        assert read_all(path, "vhdx") == expected(1, 0)

    @pytest.mark.parametrize(
        "log",
        [
            b"",
            log_entry(3, {BAT: bytes(4096)}, guid=bytes(16)),
            log_entry(3, {BAT: bytes(4096)}, tail=8192),
            log_entry(3, {BAT: bytes(4096)})[:-1] + b"x",
        ],
    )
    def test_what_is_no_valid_entry_changes_nothing(self, log: bytes, tmp_path: Path) -> None:
        path = tmp_path / "vhdx"
        path.write_bytes(image(*blocks(1, 0), header=header(guid=GUID), log=log))
        assert read_all(path, "vhdx") == expected(1, 0)

    def test_without_its_guid_it_is_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "vhdx"
        path.write_bytes(image(*blocks(1, 0), log=log_entry(3, {BAT: bytes(4096)})))
        assert read_all(path, "vhdx") == expected(1, 0)

    @pytest.mark.parametrize(
        ("log", "problem"),
        [
            (log_entry(3, {BAT: bytes(4096)}, number=4), "is not of it"),
            (log_entry(3, {BAT + 512: bytes(4096)}), "is not of it"),
            (log_entry(3, {}, zeros={BAT: 100}), "are zeros"),
            (log_entry(3, {}, zeros={BAT: 1 << 40}), "are zeros"),
            (log_entry(3, {BAT: bytes(4096)}, flushed=1 << 40), "truncated.*what the log was written for"),
        ],
    )
    def test_one_that_contradicts_itself(self, log: bytes, problem: str, tmp_path: Path) -> None:
        whole = image(*blocks(1, 0), header=header(guid=GUID), log=log)
        refused(tmp_path / "vhdx", whole, CorruptImage, problem)

    def test_data_is_none_of_its_business(self, tmp_path: Path) -> None:
        log = log_entry(3, {4 * MiB + 8192: bytes(4096)})
        whole = image(*blocks(1, 0), header=header(guid=GUID), log=log)
        refused(tmp_path / "vhdx", whole, UnsupportedFeature, "a log that changes data")


ENTRIES, DATA, SIZE = blocks(0, 1)


@pytest.mark.parametrize(
    ("whole", "problem"),
    [
        (b"vhdxfile", "truncated.*header"),
        (image(ENTRIES, DATA, SIZE, header=bytes(4096)), "neither of its headers"),
        (image(ENTRIES, DATA, SIZE, first=header(2), second=header(2, offset=0)), "contradict each other"),
        (image(ENTRIES, DATA, SIZE, regions=bytes(64 << 10)), "neither of its region tables"),
        (image(ENTRIES, DATA, SIZE, metadata=bytes(MiB)), "expected a metadata table"),
        (image(ENTRIES, DATA, SIZE, metadata=metadata(SIZE, 3 * MiB)), "expected blocks of 1 to 256 MiB"),
        (image(ENTRIES, DATA, SIZE, metadata=metadata(SIZE, 512)), "expected blocks of 1 to 256 MiB"),
        (image(ENTRIES, DATA, SIZE, metadata=metadata(SIZE, sector=1024)), "expected sectors of 512 or 4096"),
        (image(ENTRIES, DATA, SIZE, metadata=metadata(SIZE + 7)), "whole sectors"),
        (image(ENTRIES, DATA, SIZE, metadata=metadata(1 << 40)), "expected a BAT of"),
        (image([ENTRIES[0], ENTRIES[0]], DATA, SIZE), "where something else is"),
        (image([BAT | PRESENT, 0], DATA, SIZE), "where something else is"),
        (image([META | PRESENT, 0], DATA, SIZE), "where something else is"),
        (image([PRESENT, 0], DATA, SIZE), "where something else is"),
        (image([1 << 40 | PRESENT, 0], DATA, SIZE), "truncated.*block of guest offset 0"),
        (image([ENTRIES[0] | 8, 0], DATA, SIZE), "has the entry"),
        (image([ENTRIES[0] & ~7 | 7, 0], DATA, SIZE), "has the entry"),
        (image([ENTRIES[0] & ~7 | 4, 0], DATA, SIZE), "has the entry"),
    ],
)
def test_what_contradicts_the_format_is_corrupt(tmp_path: Path, whole: bytes, problem: str) -> None:
    refused(tmp_path / "vhdx", whole, CorruptImage, problem)


def test_the_virtual_size_has_a_limit(tmp_path: Path) -> None:
    refused(tmp_path / "vhdx", image(ENTRIES, DATA, SIZE), LimitExceeded, "more than the", SIZE - 1)


def test_what_is_cut_off_is_refused(tmp_path: Path) -> None:
    assert_cut_is_refused(tmp_path / "vhdx", image(*blocks(None, 0)), "vhdx")
