from __future__ import annotations

import pytest

from recipes.formats.fs.ext4.alloc import FreeBlocks
from recipes.formats.fs.ext4.geometry import Geometry, TooSmall
from recipes.formats.io.sparse import BLOCK, CHUNK

SIZE = 24 << 20


class Written:
    """A disk that keeps what it is told, write by write."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        self.writes.append((offset, bytes(data)))

    def image(self) -> bytes:
        image = bytearray(SIZE)
        for offset, data in self.writes:
            image[offset : offset + len(data)] = data
        return bytes(image)


@pytest.fixture
def geometry() -> Geometry:
    return Geometry(SIZE, 10)


@pytest.fixture
def disk() -> Written:
    return Written()


@pytest.fixture
def free(disk: Written, geometry: Geometry) -> FreeBlocks:
    return FreeBlocks(disk, geometry)


def test_blocks_come_in_order_and_never_those_of_metadata(free: FreeBlocks, geometry: Geometry) -> None:
    taken = {block for first, count in free.take(geometry.free_blocks) for block in range(first, first + count)}
    fixed = {block for start, stop in geometry.fixed for block in range(start, stop)}
    assert not taken & fixed
    assert taken | fixed == set(range(geometry.blocks))
    assert free.position == geometry.blocks


def test_there_is_an_end(free: FreeBlocks, geometry: Geometry) -> None:
    free.take(geometry.free_blocks)
    with pytest.raises(TooSmall):
        free.take(1)
    with pytest.raises(TooSmall):
        free.append(b"x")


def test_nothing_takes_no_block(free: FreeBlocks, disk: Written) -> None:
    before = free.position
    assert free.append(b"") in ([], [(before, 0)])
    assert free.take(0) == []
    free.flush()
    assert free.position == before
    assert disk.writes == []


def test_small_files_cost_one_write(free: FreeBlocks, disk: Written) -> None:
    runs = [run for number in range(10) for run in free.append(b"%d" % number)]
    assert [count for _, count in runs] == [1] * 10
    assert disk.writes == []
    free.flush()
    assert len(disk.writes) == 1
    image = disk.image()
    for number, (first, _) in enumerate(runs):
        assert image[first * BLOCK : (first + 1) * BLOCK] == (b"%d" % number).ljust(BLOCK, b"\0")


def test_what_is_left_of_a_block_is_zeros_where_more_was_before(free: FreeBlocks, disk: Written) -> None:
    """The buffer is used again."""
    free.append(b"x" * BLOCK)
    free.flush()
    ((first, _),) = free.append(b"y")
    free.flush()
    assert disk.image()[first * BLOCK : (first + 1) * BLOCK] == b"y".ljust(BLOCK, b"\0")


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK + 7])
@pytest.mark.parametrize("before", [0, 1, 2 * CHUNK - BLOCK])
def test_every_size_arrives_behind_what_was_gathered(free: FreeBlocks, disk: Written, size: int, before: int) -> None:
    first = free.append(b"b" * before) if before else []
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    runs = free.append(data)
    free.flush()
    image = disk.image()
    assert b"".join(image[at * BLOCK : (at + count) * BLOCK] for at, count in runs)[:size] == data
    assert sum(count for _, count in runs) == -(-size // BLOCK)
    assert b"".join(image[at * BLOCK : (at + count) * BLOCK] for at, count in first)[:before] == b"b" * before


def test_what_does_not_fit_before_metadata_goes_on_behind_it(disk: Written) -> None:
    geometry = Geometry(256 << 20, 10)
    free = FreeBlocks(disk, geometry)
    runs = list(geometry.free_runs())
    assert len(runs) > 1, "there is metadata in between"
    found = free.take(runs[0][1] - runs[0][0] + 1)
    assert found == [(runs[0][0], runs[0][1] - runs[0][0]), (runs[1][0], 1)]
