from __future__ import annotations

import random
import struct
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import google_crc32c
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.disk.vhdx.write import VhdxWriter
from recipes.formats.fs.ext4 import write as ext4_write
from recipes.formats.io.blkhash import of_file
from recipes.formats.io.context import Context
from recipes.formats.io.sparse import SparseFile, allocated
from recipes.formats.tree.tree import Node, Tree
from recipes.formats.wsl import write_vhdx
from recipes.progress import SILENT_METER
from tests.kit.debian import run
from tests.kit.nasty import nasty
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40
IDENTITY = b"identity"


class Vhdx(NamedTuple):
    """What a reader that follows [MS-VHDX] to the letter finds."""

    virtual_size: int
    block_size: int
    sectors: tuple[int, int]
    disk_id: UUID
    headers: list[tuple[int, UUID, UUID]]
    #: State and place of every payload block, in order.
    blocks: list[tuple[int, int]]
    data: bytes

    def disk(self) -> bytes:
        parts = []
        for state, place in self.blocks:
            assert state in (2, 6)
            parts.append(self.data[place : place + self.block_size] if state == 6 else bytes(self.block_size))
        return b"".join(parts)[: self.virtual_size]


def parse(path: Path) -> Vhdx:
    """Read a VHDX; assert everything that the specification demands of one that has no parent and no log."""
    data = path.read_bytes()
    assert len(data) % MiB == 0
    assert data[:8] == b"vhdxfile"
    headers = []
    for at in (64 << 10, 128 << 10):
        signature, checksum, sequence = struct.unpack_from("<4sIQ", data, at)
        assert signature == b"head"
        assert checksum == crc(data[at : at + 4096])
        log, (log_version, version, log_length, log_offset) = (
            data[at + 48 : at + 64],
            struct.unpack_from("<2HIQ", data, at + 64),
        )
        assert (log, log_version, version) == (bytes(16), 0, 1)
        assert log_length % MiB == log_offset % MiB == 0 < MiB <= min(log_length, log_offset)
        headers.append((sequence, guid(data, at + 16), guid(data, at + 32)))
    regions: dict[UUID, tuple[int, int]] = {}
    for at in (192 << 10, 256 << 10):
        signature, checksum, count = struct.unpack_from("<4s2I", data, at)
        assert signature == b"regi"
        assert checksum == crc(data[at : at + (64 << 10)])
        for entry in range(at + 16, at + 16 + 32 * count, 32):
            offset, length, required = struct.unpack_from("<Q2I", data, entry + 16)
            assert offset % MiB == length % MiB == 0
            assert required == 1
            assert regions.setdefault(guid(data, entry), (offset, length)) == (offset, length)
    bat, bat_length = regions.pop(UUID("2dc27766-f623-4200-9d64-115e9bfd4a08"))
    metadata, metadata_length = regions.pop(UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e"))
    assert not regions
    used = sorted([(0, MiB), (log_offset, log_length), (bat, bat_length), (metadata, metadata_length)])
    assert all(one[0] + one[1] <= other[0] for one, other in pairwise(used))

    assert data[metadata : metadata + 8] == b"metadata"
    (count,) = struct.unpack_from("<H", data, metadata + 10)
    items = {}
    for entry in range(metadata + 32, metadata + 32 + 32 * count, 32):
        offset, length, flags = struct.unpack_from("<3I", data, entry + 16)
        assert 64 << 10 <= offset <= metadata_length - length
        items[guid(data, entry)] = data[metadata + offset : metadata + offset + length], flags
    block_size, parameters = struct.unpack("<2I", item(items, "caa16737-fa36-4d43-b3b6-33f0aa44e76b", 4))
    assert parameters == 0
    (virtual_size,) = struct.unpack("<Q", item(items, "2fa54224-cd1b-4876-b211-5dbed83bf4b8", 6))
    disk_id = UUID(bytes_le=item(items, "beca12ab-b2e6-4523-93ef-c309e000c746", 6))
    (logical,) = struct.unpack("<I", item(items, "8141bf1d-a96f-4709-ba47-f233a8faab5f", 6))
    (physical,) = struct.unpack("<I", item(items, "cda348c7-445d-4471-9cc9-e9885251c556", 6))
    assert not items

    ratio = (1 << 23) * logical // block_size
    wanted = -(-virtual_size // block_size)
    entries = wanted + (wanted - 1) // ratio
    assert bat_length >= 8 * entries
    blocks = []
    places = []
    for number, (entry,) in enumerate(struct.iter_unpack("<Q", data[bat : bat + 8 * entries])):
        state, place = entry & 7, entry >> 20 << 20
        assert entry == place | state
        if number % (ratio + 1) == ratio:
            assert entry == 0
            continue
        assert (state == 6) == (place > 0)
        blocks.append((state, place))
        if place:
            assert place >= used[-1][0] + used[-1][1]
            places.append(place)
    assert len(blocks) == wanted
    assert not any(data[bat + 8 * entries : bat + bat_length])
    # Nothing is twice in the file, and nothing else is.
    first = used[-1][0] + used[-1][1]
    assert sorted(places) == list(range(first, len(data), block_size))
    return Vhdx(virtual_size, block_size, (logical, physical), disk_id, headers, blocks, data)


def guid(data: bytes, at: int) -> UUID:
    return UUID(bytes_le=data[at : at + 16])


def crc(data: bytes) -> int:
    return int(google_crc32c.value(data[:4] + bytes(4) + data[8:]))


def item(items: dict[UUID, tuple[bytes, int]], name: str, flags: int) -> bytes:
    value, found = items.pop(UUID(name))
    assert found == flags
    return value


def make(path: Path, size: int, *writes: tuple[int, bytes]) -> Path:
    path.unlink(missing_ok=True)
    with VhdxWriter(path, virtual_size=size, durable=False) as disk:
        for offset, data in writes:
            disk.pwrite(data, offset)
        disk.finish(IDENTITY)
    return path


@pytest.fixture
def vhdx(tmp_path: Path) -> Path:
    return tmp_path / "disk.vhdx"


class TestWriter:
    def test_an_empty_disk(self, vhdx: Path) -> None:
        found = parse(make(vhdx, GiB))
        assert (found.virtual_size, found.block_size, found.sectors) == (GiB, MiB, (512, 4096))
        assert [sequence for sequence, _, _ in found.headers] == [1, 2]
        assert set(found.blocks) == {(2, 0)}
        assert vhdx.stat().st_size == 4 * MiB

    def test_blocks_are_in_the_order_of_the_writes(self, vhdx: Path) -> None:
        found = parse(make(vhdx, 10 * MiB, (7 * MiB, b"first"), (2 * MiB + 4096, b"second"), (8 * MiB, bytes(MiB))))
        assert [block for block in found.blocks if block[0] == 6] == [(6, 5 * MiB), (6, 4 * MiB)]
        disk = found.disk()
        assert disk[7 * MiB :].rstrip(b"\0") == b"first"
        assert disk[2 * MiB + 4096 : 7 * MiB].rstrip(b"\0") == b"second"

    def test_zeros_take_no_space(self, vhdx: Path) -> None:
        make(vhdx, 100 * MiB, (0, bytes(50 * MiB)), (60 * MiB, b"x" + bytes(2 * MiB)))
        assert vhdx.stat().st_size == 5 * MiB
        assert allocated(vhdx) < MiB

    def test_a_write_over_blocks(self, vhdx: Path) -> None:
        data = random.Random(1).randbytes(3 * MiB + 5000)
        disk = parse(make(vhdx, 10 * MiB, (MiB - 4096, data))).disk()
        assert disk == (bytes(MiB - 4096) + data).ljust(10 * MiB, b"\0")

    def test_a_block_in_pieces(self, vhdx: Path) -> None:
        disk = parse(
            make(vhdx, 4 * MiB, (0, bytes(4096)), (4096, b"b" * 4096), (8192, bytes(100)), (MiB - 1, b"cd"))
        ).disk()
        assert disk == (bytes(4096) + b"b" * 4096).ljust(MiB - 1, b"\0") + b"cd".ljust(3 * MiB + 1, b"\0")

    def test_the_last_block_may_be_short(self, vhdx: Path) -> None:
        found = parse(make(vhdx, 2 * MiB + 512, (2 * MiB, b"z" * 512)))
        assert found.disk()[2 * MiB :] == b"z" * 512
        assert len(found.disk()) == 2 * MiB + 512

    @pytest.mark.parametrize("size", [4096 * MiB, 4097 * MiB, 4096 * MiB - 512, 2 * 4096 * MiB + 512, 3 * 4096 * MiB])
    def test_sector_bitmaps_have_entries(self, vhdx: Path, size: int) -> None:
        places = (0, 4095 * MiB, 4096 * MiB, 8192 * MiB)
        writes = [(place, b"%d" % place) for place in places if place < size]
        found = parse(make(vhdx, size, *writes))
        assert [number * MiB for number, (state, _) in enumerate(found.blocks) if state == 6] == [
            at for at, _ in writes
        ]

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.tuples(st.booleans(), st.integers(1, 3 * MiB // 4096), st.booleans(), st.integers(0, 255)), max_size=12
        ),
        st.randoms(use_true_random=False),
    )
    def test_any_writes(self, vhdx: Path, pieces: list[tuple[bool, int, bool, int]], order: random.Random) -> None:
        writes = []
        at = 0
        expected = b""
        for hole, blocks, head, byte in pieces:
            data = bytes(blocks * 4096) if hole else (bytes([byte]) * 4096 * blocks)
            if head:
                data = data[: -(len(data) // 2) or None].ljust(len(data), b"\0")
            expected += data
            if not hole or head:
                writes.append((at, data))
            at += len(data)
        order.shuffle(writes)
        size = at + 512
        assert parse(make(vhdx, size, *writes)).disk() == expected.ljust(size, b"\0")

    def test_guids_follow_from_the_identity(self, vhdx: Path, tmp_path: Path) -> None:
        one = parse(make(vhdx, MiB))
        other = tmp_path / "other"
        with VhdxWriter(other, virtual_size=MiB, durable=False) as disk:
            disk.finish(b"another")
        ids = [{each.disk_id, each.headers[0][1], each.headers[0][2]} for each in (one, parse(other))]
        assert len(ids[0] | ids[1]) == 6
        assert vhdx.read_bytes() == make(other, MiB).read_bytes()

    def test_an_existing_file_is_left_alone(self, vhdx: Path) -> None:
        vhdx.write_bytes(b"mine")
        with pytest.raises(FileExistsError):
            VhdxWriter(vhdx, virtual_size=MiB)
        assert vhdx.read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("size", "error"),
        [
            (64 * TiB + 512, LimitExceeded),
            (0, UnsupportedFeature),
            (-512, UnsupportedFeature),
            (MiB + 1, UnsupportedFeature),
        ],
    )
    def test_sizes_that_no_disk_has(self, vhdx: Path, size: int, error: type[Exception]) -> None:
        with pytest.raises(error, match=str(size)):
            VhdxWriter(vhdx, virtual_size=size)
        assert not vhdx.exists()


class TestOtherReaders:
    def test_qemu(self, vhdx: Path) -> None:
        need("qemu-img", "qemu-io")
        # Around the first entry of a sector bitmap.
        make(vhdx, 8 * GiB, *((at * MiB, bytes([at % 251 + 1]) * 2 * MiB) for at in (4098, 4095, 0, 8190)))
        run("qemu-img", "check", "-q", "-f", "vhdx", vhdx)
        reads = [f"read -P {at % 251 + 1} {at}M 2M" for at in (0, 4095, 4098, 8190)]
        reads += [f"read -P 0 {at}M 1M" for at in (2, 4094, 4097, 4100, 8189)]
        shown = subprocess.run(
            ["qemu-io", "-r", "-f", "vhdx", *(part for read in reads for part in ("-c", read)), vhdx],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert "failed" not in shown

    def test_libvhdi(self, vhdx: Path) -> None:
        need("vhdiinfo")
        make(vhdx, TiB, (TiB - 4096, b"x"))
        shown = subprocess.run(["vhdiinfo", vhdx], check=True, capture_output=True, text=True).stdout
        assert "VHDX" in shown
        assert "Dynamic" in shown
        assert f"({TiB} bytes)" in shown
        assert str(parse(vhdx).headers[0][2]) in shown


class TestFileSystem:
    def write(self, tree: Tree, path: Path, size: int) -> Path:
        found = write_vhdx(tree, path, Context(durable=False), size=size)
        assert found == of_file(path, jobs=2, meter=SILENT_METER)
        return path

    def test_the_disk_is_the_file_system(self, vhdx: Path, tmp_path: Path) -> None:
        need("qemu-img")
        self.write(nasty(), vhdx, 200 * MiB)
        raw = tmp_path / "raw"
        with SparseFile(raw, durable=False) as disk:
            ext4_write.write(nasty(), disk, size=200 * MiB, label="", meter=SILENT_METER)
            disk.finish(200 * MiB)
        run("qemu-img", "check", "-q", "-f", "vhdx", vhdx)
        run("qemu-img", "compare", "-q", "-f", "vhdx", "-F", "raw", vhdx, raw)

    def test_1_tib_costs_what_the_files_cost(self, vhdx: Path) -> None:
        self.write(nasty(), vhdx, TiB)
        found = parse(vhdx)
        assert found.virtual_size == TiB
        # The BAT has 9 MiB, the copies of the superblock are in 19 places.
        assert vhdx.stat().st_size < 50 * MiB

    def test_two_writes_are_equal(self, vhdx: Path, tmp_path: Path) -> None:
        need("cmp")
        run("cmp", self.write(nasty(), vhdx, TiB), self.write(nasty(), tmp_path / "again", TiB))

    def test_nothing_is_left_after_an_error(self, vhdx: Path) -> None:
        tree = Tree()
        tree.add(b"file", Node(0o100644, uid=-1))
        with pytest.raises(LimitExceeded):
            self.write(tree, vhdx, GiB)
        assert not vhdx.exists()

    def test_an_existing_file_is_left_alone(self, vhdx: Path) -> None:
        vhdx.write_bytes(b"mine")
        with pytest.raises(FileExistsError):
            self.write(Tree(), vhdx, GiB)
        assert vhdx.read_bytes() == b"mine"
