from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.digests import of_bytes, of_file

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_holes_count_as_zeros(tmp_path: Path, seed: int, algorithm: str) -> None:
    chance = random.Random(seed)
    path = tmp_path / "file"
    size = chance.choice([0, 1, 4096, 3 * MiB, chance.randrange(6 * MiB)])
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(chance.randrange(4) if size else 0):
            file.seek(chance.randrange(size))
            file.write(chance.randbytes(min(200_000, size - file.tell())))
    assert of_file(path, algorithm).hex == hashlib.new(algorithm, path.read_bytes()).hexdigest()


def test_holes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64 * MiB)
        file.seek(32 * MiB)
        file.write(b"data")
    with path.open("rb") as whole:
        if os.lseek(whole.fileno(), 0, os.SEEK_DATA) == 0:
            pytest.skip("the file system does not tell holes")
    read = 0
    preadv = os.preadv

    def counting(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        count = preadv(fd, buffers, offset)
        read += count
        return count

    monkeypatch.setattr(os, "preadv", counting)
    of_file(path, "sha256")
    assert 0 < read <= MiB


def test_a_file_that_is_cut_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"data")
    monkeypatch.setattr(os, "preadv", lambda *arguments: 0)
    with pytest.raises(OSError, match="cut while"):
        of_file(tmp_path / "file", "sha256")


def test_of_bytes() -> None:
    assert str(of_bytes(b"a", "sha512")) == f"sha512:{hashlib.sha512(b'a').hexdigest()}"
