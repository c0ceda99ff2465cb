from __future__ import annotations

import errno
import os
import random
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from recipes.errors import NoSpace
from recipes.formats.io import sparse
from recipes.formats.io.sparse import (
    BLOCK,
    CHUNK,
    SparseFile,
    allocated,
    clone,
    copy,
    data_extents,
    data_runs,
    punch,
    reflink,
)
from recipes.progress import SILENCE
from tests.kit.meters import METADATA, Count
from tests.kit.qcow2_images import content

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes that a file system may allot to a fragmented file beyond its data.


def write_all(path: Path, data: bytes) -> Path:
    with SparseFile(path) as file:
        file.write(data)
        file.finish(len(data))
    return path


@pytest.mark.parametrize(
    ("data", "runs"),
    [
        (b"", []),
        (bytes(3 * BLOCK), []),
        (b"x" * 3 * BLOCK, [(0, 3 * BLOCK)]),
        (b"x", [(0, 1)]),
        (bytes(100), []),
        (bytes(BLOCK - 1) + b"x", [(0, BLOCK)]),
        (bytes(BLOCK) + b"x" + bytes(BLOCK - 1) + bytes(BLOCK), [(BLOCK, 2 * BLOCK)]),
        (b"x" * BLOCK + bytes(BLOCK) + b"x" * 7, [(0, BLOCK), (2 * BLOCK, 2 * BLOCK + 7)]),
        (b"x" * BLOCK + bytes(7), [(0, BLOCK)]),
    ],
)
def test_runs_are_the_blocks_that_hold_data(data: bytes, runs: list[tuple[int, int]]) -> None:
    assert data_runs(memoryview(data)) == runs


@pytest.mark.parametrize("piece", [1000, BLOCK, 100_000, 1 << 20])
def test_pieces_of_any_length_leave_every_aligned_zero_block_out(tmp_path: Path, piece: int) -> None:
    data = content(3_000_001)
    with SparseFile(tmp_path / "disk") as file:
        for start in range(0, len(data), piece):
            file.write(data[start : start + piece])
        file.finish(len(data))
    assert (tmp_path / "disk").read_bytes() == data
    blocks = sum(any(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK))
    assert blocks * BLOCK <= allocated(tmp_path / "disk") <= blocks * BLOCK + METADATA


def test_threads_write_at_their_own_places(tmp_path: Path) -> None:
    data = content(2_000_000)
    starts = list(range(0, len(data), 12_345))
    random.Random(1).shuffle(starts)
    with SparseFile(tmp_path / "disk") as file:

        def work(mine: list[int]) -> None:
            for start in mine:
                file.pwrite(memoryview(data)[start : start + 12_345], start)

        threads = [threading.Thread(target=work, args=(starts[number::4],)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        file.finish(len(data))
    assert (tmp_path / "disk").read_bytes() == data


def test_a_resumed_file_goes_on_at_its_end(tmp_path: Path) -> None:
    data = content(500_000)
    with SparseFile(tmp_path / "disk") as file:
        file.write(data[:123_457])
    with SparseFile(tmp_path / "disk", resume=True) as file:
        assert 0 < file.position <= 123_457
        file.write(data[file.position :])
        file.finish(len(data))
    assert (tmp_path / "disk").read_bytes() == data


def test_an_existing_file_is_never_opened_as_new(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        SparseFile(tmp_path / "disk")
    with pytest.raises(FileExistsError):
        copy(tmp_path / "disk", tmp_path / "disk", meter=Count())
    with pytest.raises(FileExistsError):
        reflink(tmp_path / "disk", tmp_path / "disk")
    assert (tmp_path / "disk").read_bytes() == b"precious"


def test_finish_gives_the_exact_size(tmp_path: Path) -> None:
    with SparseFile(tmp_path / "disk") as file:
        file.write(b"x" + bytes(10_000))
        file.finish(1 << 30)
    assert (tmp_path / "disk").stat().st_size == 1 << 30
    assert BLOCK <= allocated((tmp_path / "disk").stat()) <= BLOCK + METADATA


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_lack_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    write_all(tmp_path / "disk", b"data")
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoSpace, match=os.strerror(number)):
        copy(tmp_path / "disk", tmp_path / "copy", meter=Count())
    assert not (tmp_path / "copy").exists()


class TestAllocatedAhead:
    DATA = b"x" * CHUNK + bytes(CHUNK) + b"y" * BLOCK + bytes(CHUNK - BLOCK) + b"z" * CHUNK

    @pytest.fixture(autouse=True)
    def on_ext4(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sparse, "file_system", lambda _: "ext4")

    def test_a_file_that_may_be_resumed_is_as_long_as_it_came(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = self.fails_with(errno.EIO, monkeypatch)
        assert write_all(tmp_path / "file", self.DATA).read_bytes() == self.DATA
        assert asked == []

    def fails_with(self, number: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """Have posix_fallocate(3) fail, and return the list of the ranges that it is asked for."""
        asked = []

        def fallocate(_: int, offset: int, length: int) -> None:
            asked.append((offset, length))
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", fallocate, raising=False)
        return asked

    def write(self, path: Path) -> Path:
        with SparseFile(path) as file:
            file.pwrite(self.DATA, 0)
            file.finish(len(self.DATA))
        return path

    @pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system has no posix_fallocate")
    def test_only_what_is_written_and_is_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        real = os.posix_fallocate

        def fallocate(fd: int, offset: int, length: int) -> None:
            asked.append((offset, length))
            real(fd, offset, length)

        monkeypatch.setattr(os, "posix_fallocate", fallocate)
        path = self.write(tmp_path / "file")
        assert asked == [(0, CHUNK), (3 * CHUNK, CHUNK)]
        assert path.read_bytes() == self.DATA
        assert allocated(path) <= 2 * CHUNK + BLOCK + METADATA

    def test_a_file_that_cannot_is_asked_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.fails_with(errno.EOPNOTSUPP, monkeypatch)
        assert self.write(tmp_path / "file").read_bytes() == self.DATA
        assert asked == [(0, CHUNK)]

    def test_a_full_disk_is_a_lack_of_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails_with(errno.ENOSPC, monkeypatch)
        with pytest.raises(NoSpace, match="No space left"):
            self.write(tmp_path / "file")

    def test_no_other_file_system_is_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sparse, "file_system", lambda _: "xfs")
        asked = self.fails_with(errno.EIO, monkeypatch)
        assert self.write(tmp_path / "file").read_bytes() == self.DATA
        assert asked == []


def test_extents_are_the_ranges_with_data(tmp_path: Path) -> None:
    data = b"x" * 65_536 + bytes(1 << 20) + b"y" * 65_536 + bytes(1 << 20)
    write_all(tmp_path / "disk", data)
    with (tmp_path / "disk").open("rb") as file:
        assert list(data_extents(file.fileno(), len(data))) == [(0, 65_536), (1_114_112, 1_179_648)]
        assert list(data_extents(file.fileno(), 1_150_000, 30_000)) == [(30_000, 65_536), (1_114_112, 1_150_000)]
        assert list(data_extents(file.fileno(), 0)) == []


def test_one_extent_where_the_file_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "no such whence")

    write_all(tmp_path / "disk", bytes(1 << 20))
    with (tmp_path / "disk").open("rb") as file:
        monkeypatch.setattr(os, "lseek", refuse)
        assert list(data_extents(file.fileno(), 1 << 20)) == [(0, 1 << 20)]


@pytest.mark.parametrize("size", [0, 1, 4096, 3_000_001])
def test_a_copy_is_equal_and_as_sparse_as_it_can_be(tmp_path: Path, size: int) -> None:
    data = content(size)
    (tmp_path / "disk").write_bytes(data)
    meter = Count()
    copy(tmp_path / "disk", tmp_path / "copy", meter=meter)
    assert (tmp_path / "copy").read_bytes() == data
    assert meter.done == meter.total
    assert allocated(tmp_path / "copy") <= allocated(write_all(tmp_path / "sparse", data)) + METADATA


def test_a_clone_is_independent(tmp_path: Path) -> None:
    data = content(1_000_000)
    write_all(tmp_path / "disk", data)
    with SILENCE.meter("clone") as meter:
        how = clone(tmp_path / "disk", tmp_path / "clone", meter=meter)
    assert how in ("reflink", "copy")
    with (tmp_path / "clone").open("r+b") as file:
        assert file.read() == data
        file.seek(0)
        file.write(b"changed")
    assert (tmp_path / "disk").read_bytes() == data


def test_no_reflink_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    write_all(tmp_path / "disk", b"data")
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not reflink(tmp_path / "disk", tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


@pytest.mark.parametrize("size", [0, 1, 4096, 3_000_001])
def test_zeros_become_holes_again(tmp_path: Path, size: int) -> None:
    data = content(size)
    path = tmp_path / "disk"
    path.write_bytes(data)
    path.chmod(0o444)
    meter = Count()
    punch(path, meter=meter)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o444
    assert meter.done == meter.total
    assert allocated(path) <= allocated(write_all(tmp_path / "sparse", data)) + METADATA


def test_zeros_at_the_edges_of_chunks_become_holes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    data = bytes(CHUNK - BLOCK) + b"x" * BLOCK + bytes(2 * CHUNK) + b"y" * BLOCK + bytes(CHUNK)
    path.write_bytes(data)
    with SILENCE.meter("punch") as meter:
        punch(path, meter=meter)
    assert path.read_bytes() == data
    with path.open("rb") as file:
        runs = list(data_extents(file.fileno(), len(data)))
    assert runs == [(CHUNK - BLOCK, CHUNK), (3 * CHUNK, 3 * CHUNK + BLOCK)]


def test_a_file_system_without_holes_keeps_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(sparse, "_punch_hole", refuse)
    with SILENCE.meter("punch") as meter:
        punch(tmp_path / "disk", meter=meter)
    assert (tmp_path / "disk").read_bytes() == bytes(1 << 20)
