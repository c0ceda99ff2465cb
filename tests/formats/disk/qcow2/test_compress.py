from __future__ import annotations

import random
import struct
import zlib
from typing import TYPE_CHECKING, get_args

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.disk.qcow2 import compress
from recipes.formats.disk.qcow2.compress import Compression, write_compressed
from recipes.formats.io.context import Context
from tests.kit.disk_images import disk, qemu_img, qemu_raw, read_all
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
CLUSTER = 1 << 16
QUICK = Context(durable=False)
every = pytest.mark.parametrize("compression", get_args(Compression))


@every
@pytest.mark.parametrize("size", [512, CLUSTER, 3 * MiB + 512, 40 * MiB + 1536])
def test_every_reader_finds_the_disk(compression: Compression, size: int, tmp_path: Path) -> None:
    need("qemu-img")
    raw, path = disk(tmp_path / "raw", size), tmp_path / "qcow2"
    write_compressed(raw, path, compression, QUICK)
    assert qemu_img("check", "-f", "qcow2", path)
    assert qemu_raw(path, "qcow2") == raw.read_bytes()
    assert read_all(path, "qcow2") == raw.read_bytes()


@every
def test_threads_do_not_change_the_bytes(compression: Compression, tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 9 * MiB)
    made = []
    for jobs in (1, 3):
        path = tmp_path / f"{jobs}.qcow2"
        write_compressed(raw, path, compression, QUICK._replace(jobs=jobs))
        made.append(path.read_bytes())
    assert made[0] == made[1]


@every
def test_what_does_not_compress_is_stored(compression: Compression, tmp_path: Path) -> None:
    need("qemu-img")
    raw, path = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(random.Random(1).randbytes(2 * CLUSTER) + b"x" * CLUSTER + random.Random(2).randbytes(1024))
    write_compressed(raw, path, compression, QUICK)
    assert qemu_img("check", "-f", "qcow2", path)
    assert qemu_raw(path, "qcow2") == raw.read_bytes()


def test_every_cluster_inflates_with_a_window_of_4_kib(tmp_path: Path) -> None:
    raw, path = tmp_path / "raw", tmp_path / "qcow2"
    # What repeats farther back than the window tempts an encoder to look there.
    piece = random.Random(3).randbytes(8192)
    raw.write_bytes(piece * 16)
    write_compressed(raw, path, "zlib", QUICK)
    data = path.read_bytes()
    (l1,) = struct.unpack_from(">Q", data, 40)
    (l2,) = struct.unpack_from(">Q", data, l1)
    entries = struct.unpack_from(">2Q", data, l2 & (1 << 56) - 512)
    text = b"".join(bytes([at % 251]) * 40 for at in range(2000))
    raw.write_bytes(text)
    small = tmp_path / "small"
    write_compressed(raw, small, "zlib", QUICK)
    data = small.read_bytes()
    assert not any(entry & 1 << 62 for entry in entries), "only a wider window would make it smaller"
    (l1,) = struct.unpack_from(">Q", data, 40)
    (l2,) = struct.unpack_from(">Q", data, l1)
    (entry,) = struct.unpack_from(">Q", data, l2 & (1 << 56) - 512)
    assert entry & 1 << 62
    assert zlib.decompressobj(-12).decompress(data[entry & (1 << 54) - 1 :]) == text[:CLUSTER]


def test_holes_cost_nothing(tmp_path: Path) -> None:
    need("qemu-img")
    raw, path = tmp_path / "raw", tmp_path / "qcow2"
    with raw.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"x" * 512)
    write_compressed(raw, path, "zstd", QUICK)
    assert path.stat().st_size < MiB
    assert qemu_img("check", "-f", "qcow2", path)


def test_a_disk_that_is_larger_than_qemu_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not every file system has files of 2 PiB.
    monkeypatch.setattr(compress, "MAX_L1", 8)
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate((512 << 20) + 512)
    with pytest.raises(LimitExceeded, match="536870912 bytes at most"):
        write_compressed(raw, tmp_path / "qcow2", "zlib", QUICK)
    assert not (tmp_path / "qcow2").exists()
