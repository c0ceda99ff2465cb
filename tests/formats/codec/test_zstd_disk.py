from __future__ import annotations

import os
import random
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.codec import zstd_disk
from recipes.formats.codec.compression import declared_size, decompress
from recipes.formats.codec.zstd import UNIT, ZERO_FRAME
from recipes.formats.codec.zstd_disk import compress, expand
from recipes.formats.io import blkhash
from recipes.formats.io.sparse import allocated
from recipes.progress import SILENT_METER
from tests.kit.meters import METADATA, Count
from tests.kit.oracles import need

if TYPE_CHECKING:
    from recipes.model import BlockHash


def disk(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    """Write a sparse file of `size` bytes with `pieces` by their offset."""
    with path.open("xb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
    return path


def pack(source: Path, *, jobs: int = 2, level: int = 3) -> bytes:
    return b"".join(compress(source, jobs=jobs, level=level, meter=SILENT_METER))


def unpack(source: Path, *, jobs: int = 2, limit: int = 1 << 30) -> tuple[Path, BlockHash]:
    destination = source.with_suffix(".out")
    return destination, expand(source, destination, jobs=jobs, limit=limit, meter=SILENT_METER)


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


NOISE = random.Random(1).randbytes(100_000)
DISKS: dict[str, tuple[int, dict[int, bytes]]] = {
    "data at both ends": (5 * UNIT, {0: NOISE, 5 * UNIT - 9: b"\x55" * 9}),
    "a short last unit": (2 * UNIT + 512, {UNIT: NOISE, 2 * UNIT + 511: b"x"}),
    "a short last unit of zeros": (3 * UNIT + 512, {7: NOISE}),
    "data across units": (4 * UNIT, {2 * UNIT - 50_000: NOISE}),
    "zeros that were written": (3 * UNIT, {0: bytes(UNIT), 2 * UNIT: NOISE}),
    "nothing but a hole": (3 * UNIT, {}),
    "a small hole": (4096, {}),
    "a byte": (1, {0: b"x"}),
    "nothing": (0, {}),
}
each_disk = pytest.mark.parametrize(("size", "pieces"), DISKS.values(), ids=list(DISKS))


@each_disk
def test_round_trip(size: int, pieces: dict[int, bytes], tmp_path: Path) -> None:
    source = disk(tmp_path / "disk", size, pieces)
    packed = pack(source)
    (tmp_path / "packed").write_bytes(packed)
    found, digest = unpack(tmp_path / "packed")
    assert found.read_bytes() == source.read_bytes()
    assert digest == blkhash.of_file(source, jobs=1, meter=SILENT_METER)
    assert declared_size(tmp_path / "packed", "zstd") == size
    assert b"".join(decompress(tmp_path / "packed", "zstd", jobs=1)) == source.read_bytes()


@each_disk
def test_the_zstd_program_reads_it(size: int, pieces: dict[int, bytes], tmp_path: Path) -> None:
    need("zstd")
    source = disk(tmp_path / "disk", size, pieces)
    packed = pack(source)
    done = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True)
    assert done.stdout == source.read_bytes()


def test_the_zstd_program_checks_the_zeros(tmp_path: Path) -> None:
    need("zstd")
    wrong = ZERO_FRAME[:-1] + bytes([ZERO_FRAME[-1] ^ 1])
    done = subprocess.run(["zstd", "-t"], input=wrong, capture_output=True, check=False)
    assert b"checksum" in done.stderr
    subprocess.run(["zstd", "-t"], input=ZERO_FRAME, check=True, capture_output=True)


def test_the_holes_of_the_file_make_no_difference(tmp_path: Path) -> None:
    sparse = disk(tmp_path / "sparse", 3 * UNIT, {UNIT + 5: NOISE})
    dense = tmp_path / "dense"
    dense.write_bytes(sparse.read_bytes())
    assert allocated(dense) > allocated(sparse)
    assert pack(dense) == pack(sparse)


@pytest.mark.parametrize("level", [1, 3, 9])
def test_the_threads_make_no_difference(level: int, tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % number for number in range(600_000))
    source = disk(tmp_path / "disk", 4 * UNIT, {UNIT // 2: text, 3 * UNIT: NOISE})
    once = pack(source, jobs=1, level=level)
    assert pack(source, jobs=4, level=level) == once


def test_levels_differ(tmp_path: Path) -> None:
    text = b"".join(path.read_bytes() for path in sorted(Path(zstd_disk.__file__).parents[1].rglob("*.py")))
    source = disk(tmp_path / "disk", UNIT, {0: text})
    assert len(pack(source, level=12)) < len(pack(source, level=1))


def test_holes_cost_next_to_nothing(tmp_path: Path) -> None:
    source = disk(tmp_path / "disk", 64 << 30, {0: NOISE})
    packed = pack(source)
    assert len(packed) < len(NOISE) + 40 * (64 << 10)
    (tmp_path / "packed").write_bytes(packed)
    found, digest = unpack(tmp_path / "packed", limit=64 << 30)
    assert digest == blkhash.of_file(source, jobs=1, meter=SILENT_METER)
    assert found.stat().st_size == 64 << 30
    assert allocated(found) <= len(NOISE) + METADATA


def test_zero_blocks_within_units_become_holes(tmp_path: Path) -> None:
    source = tmp_path / "disk"
    source.write_bytes((NOISE[:65_536] + bytes(1 << 20)) * 7)
    (tmp_path / "packed").write_bytes(pack(source))
    found, _ = unpack(tmp_path / "packed")
    assert allocated(found) <= 7 * 65_536 + METADATA
    assert found.read_bytes() == source.read_bytes()


def test_meters_are_told_all_there_is(tmp_path: Path) -> None:
    source = disk(tmp_path / "disk", 9 * UNIT + 5, {UNIT: NOISE, 5 * UNIT: bytes(10)})
    meter = Count()
    assert list(compress(source, jobs=2, level=1, meter=meter))
    assert meter.done == meter.total
    (tmp_path / "packed").write_bytes(pack(source))
    meter = Count()
    expand(tmp_path / "packed", tmp_path / "out", jobs=2, limit=1 << 30, meter=meter)
    assert meter.done == meter.total == (tmp_path / "packed").stat().st_size


def test_closing_it_ends_it(tmp_path: Path) -> None:
    meter = Count()
    chunks = compress(disk(tmp_path / "disk", 9 * UNIT, {0: NOISE * 360}), jobs=2, level=3, meter=meter)
    before = threading.active_count()
    assert next(chunks)
    chunks.close()
    assert threading.active_count() == before
    assert meter.total is not None
    assert meter.done < meter.total


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(ZERO_FRAME)
    (tmp_path / "packed.out").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        unpack(tmp_path / "packed")
    assert (tmp_path / "packed.out").read_bytes() == b"precious"


@pytest.mark.parametrize("jobs", [1, 3])
def test_more_content_than_the_limit(jobs: int, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(frame(NOISE[:65_536]) + ZERO_FRAME * 3)
    with pytest.raises(LimitExceeded, match="limit of 5000000 bytes"):
        unpack(tmp_path / "packed", jobs=jobs, limit=5_000_000)
    assert not (tmp_path / "packed.out").exists()


@pytest.mark.parametrize(
    "packed",
    [
        frame(bytes(UNIT + 1)),
        zstandard.ZstdCompressor(write_content_size=False).compress(NOISE),
        frame(NOISE[:100]) + frame(NOISE),
        # 9 MiB of raw blocks for one byte.
        frame(b"x")[:6] + (b"\0\0\x10" + bytes(1 << 17)) * 72 + b"\x01\0\0" + bytes(4),
    ],
    ids=["more than a unit", "no size", "a cut within a block", "more bytes than content"],
)
def test_what_larder_did_not_write(packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(packed)
    with pytest.raises(UnsupportedFeature, match="not written by larder"):
        unpack(tmp_path / "packed")
    assert not (tmp_path / "packed.out").exists()


def test_damage_is_found(tmp_path: Path) -> None:
    packed = pack(disk(tmp_path / "disk", 3 * UNIT, {UNIT: NOISE}))
    generator = random.Random(3)
    for _ in range(40):
        damaged = bytearray(packed)
        damaged[generator.randrange(len(packed))] ^= 1 << generator.randrange(8)
        (tmp_path / "packed").write_bytes(damaged)
        with pytest.raises((CorruptImage, UnsupportedFeature, LimitExceeded)):
            unpack(tmp_path / "packed")
    for cut in [*range(len(ZERO_FRAME) + 1, len(packed), 9_000), len(packed) - 1]:
        if cut % len(ZERO_FRAME):
            (tmp_path / "packed").write_bytes(packed[:cut])
            with pytest.raises(CorruptImage):
                unpack(tmp_path / "packed")


def test_what_zstd_writes_of_small_files(tmp_path: Path) -> None:
    need("zstd")
    packed = subprocess.run(["zstd", "-c", "-19"], input=NOISE, stdout=subprocess.PIPE, check=True).stdout
    (tmp_path / "packed").write_bytes(packed)
    with pytest.raises(UnsupportedFeature):
        unpack(tmp_path / "packed")
    (tmp_path / "disk").write_bytes(NOISE)
    packed = subprocess.run(["zstd", "-c", tmp_path / "disk"], stdout=subprocess.PIPE, check=True).stdout
    (tmp_path / "packed").write_bytes(packed)
    assert unpack(tmp_path / "packed")[0].read_bytes() == NOISE


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = disk(tmp_path / "disk", 2 * UNIT, {0: NOISE})
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: b"x" * (count - 1))
    with pytest.raises(OSError, match="was cut"):
        pack(source)
