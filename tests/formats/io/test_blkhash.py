from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.blkhash import ALGORITHM, BLOCK_SIZE, CONSTRUCTION, BlockHasher, PieceHasher, of_file
from recipes.model import BlockHash
from recipes.progress import SILENCE
from tests.kit.disks import reference
from tests.kit.qcow2_images import content

if TYPE_CHECKING:
    from pathlib import Path

SIZES = [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 33 * 1024 * 1024 + 512]


def hash_file(path: Path, jobs: int = 2) -> BlockHash:
    with SILENCE.meter("hash") as meter:
        return of_file(path, jobs=jobs, meter=meter)


def pattern(size: int) -> bytes:
    return bytes((i * i * 7 + i // 251 * 13 + i) & 255 for i in range(size))


# Values of `blksum --digest blake3`, blkhash 0.11.0-dev (283a48f) built against BLAKE3's own C library.
KNOWN = [
    pytest.param(
        pattern(65536), "a37e8a9b34515d0531ab545a2caac60c797f1bd20e555689f66a34ca8cab875e", id="one whole block"
    ),
    pytest.param(
        pattern(100000), "a09bc2883adc25accbe9294b8e413df67b0f36124e577b00273f78e06a19d90c", id="a short last block"
    ),
    pytest.param(bytes(1 << 20), "d03e86e18cee8417648bc1d04244f720b027fadde75bb523597dde510e486333", id="zeros"),
    pytest.param(
        pattern(65536) + bytes(5000),
        "5066d39ccd650fca3527bcefae70160888ab6841f830a21b45ce5e5c3ab18efc",
        id="a short last block of zeros",
    ),
    pytest.param(
        (pattern(65536) + bytes(39 * 65536 + 4096) + pattern(65536)).ljust(34 << 20, b"\0"),
        "d8062de6531c1da8ebe9fdc7b519532f4b539502cbf19c57e124cfe6f35f4caa",
        id="data across blocks, and holes",
    ),
    pytest.param(
        pattern(65536 * 3 + 1), "59406968880db9fbf1efe195a89f82b40fd044771be2fc6e0a09727356cba626", id="one byte more"
    ),
]


@pytest.mark.parametrize(("data", "value"), KNOWN)
def test_blksum_gives_the_same(tmp_path: Path, data: bytes, value: str) -> None:
    path = tmp_path / "disk"
    path.write_bytes(data)
    assert hash_file(path) == BlockHash(ALGORITHM, BLOCK_SIZE, CONSTRUCTION, value)
    assert reference(data) == value


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_the_hash_of_its_content(tmp_path: Path, size: int, jobs: int) -> None:
    data = content(size)
    (tmp_path / "disk").write_bytes(data)
    assert hash_file(tmp_path / "disk", jobs).hex == reference(data)


def test_holes_count_as_zeros(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        # Extents that begin and end inside blocks, two of them in the same one.
        for offset in (4096, 65536 * 3 + 8192, 65536 * 3 + 32768, 65536 * 600):
            file.seek(offset)
            file.write(b"data" * 1024)
        file.truncate(65536 * 700 + 100)
    assert hash_file(tmp_path / "disk").hex == reference((tmp_path / "disk").read_bytes())


def test_blocks_may_come_in_any_order_from_any_thread() -> None:
    data = content(40 * 1024 * 1024 + 100)
    spans = list(range(0, len(data), 3 * BLOCK_SIZE))
    random.Random(0).shuffle(spans)
    hasher = BlockHasher()

    def work(mine: list[int]) -> None:
        for start in mine:
            hasher.update(start, memoryview(data)[start : start + 3 * BLOCK_SIZE])

    threads = [threading.Thread(target=work, args=(spans[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hasher.result(len(data)).hex == reference(data)


def test_any_byte_counts(tmp_path: Path) -> None:
    data = bytearray(300_000)
    seen = set()
    for position in (None, 0, 65_535, 65_536, 299_999):
        if position is not None:
            data[position] ^= 1
        (tmp_path / "disk").write_bytes(data)
        seen.add(hash_file(tmp_path / "disk").hex)
    assert len(seen) == 5


# Distributions other than Fedora have no package of it, so CI cannot require it; its values are above.
@pytest.mark.skipif(not shutil.which("blksum"), reason="blksum is not installed")
def test_blksum_itself_agrees(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(content(5_000_000))
    out = subprocess.run(
        ["blksum", "--digest", "blake3", str(tmp_path / "disk")], check=True, capture_output=True, text=True
    )
    assert out.stdout.split()[0] == hash_file(tmp_path / "disk").hex


@pytest.mark.parametrize("seed", range(8))
def test_pieces_in_any_order_are_the_file(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if more blocks are begun than are kept: those are read again."""
    monkeypatch.setattr("recipes.formats.io.blkhash._WAITING", (0, 3, 64)[seed % 3])
    chance = random.Random(seed)
    data = bytearray(chance.randbytes(20 * BLOCK_SIZE + chance.randrange(BLOCK_SIZE)))
    data[3 * BLOCK_SIZE : 6 * BLOCK_SIZE + 100] = bytes(3 * BLOCK_SIZE + 100)
    cuts = [0, *sorted(chance.sample(range(1, len(data)), 60)), len(data)]
    pieces = list(itertools.pairwise(cuts))
    if seed % 2:
        chance.shuffle(pieces)
    # What nobody writes is zeros.
    start, stop = pieces.pop(len(pieces) // 2)
    data[start:stop] = bytes(stop - start)
    path = tmp_path / "file"
    path.write_bytes(bytes(len(data)))
    with path.open("r+b", buffering=0) as file:
        hasher = PieceHasher(file.fileno())
        for start, stop in pieces:
            file.seek(start)
            file.write(data[start:stop])
            hasher.update(start, memoryview(data)[start:stop])
        found = hasher.result(len(data))
    assert path.read_bytes() == data
    assert found == hash_file(path)
    assert found.hex == reference(bytes(data))
