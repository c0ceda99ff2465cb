from __future__ import annotations

import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.disk.guest import Guest
from recipes.formats.disk.table import FORMATS
from recipes.formats.fs import root
from recipes.formats.io.source import read
from tests.kit.oracles import need
from tests.kit.trees import of_tree

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
#: qemu-img's options, and whether clusters are compressed.
KINDS = {
    "plain": [],
    "zlib": ["-c"],
    "zstd": ["-c", "-o", "compression_type=zstd"],
    "small": ["-c", "-o", "cluster_size=4096"],
    "subclusters": ["-o", "extended_l2=on"],
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with noise, text, holes, a single byte, and an end that is no whole cluster."""
    path = tmp_path_factory.mktemp("guest") / "raw"
    rng = random.Random(7)
    with path.open("wb") as file:
        file.truncate(9 * MiB + 1536)
        for at, data in (
            (0, b"text " * 40_000),
            (MiB + 777, rng.randbytes(300_000)),
            (3 * MiB, b"\1"),
            (5 * MiB - 100, rng.randbytes(100) + b"more" * 100),
            (9 * MiB + 1000, rng.randbytes(536)),
        ):
            file.seek(at)
            file.write(data)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_any_range_is_as_qemu_has_it(kind: str, raw: Path, tmp_path: Path) -> None:
    need("qemu-img")
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *KINDS[kind], raw, path], check=True)
    wanted = raw.read_bytes()
    rng = random.Random(8)
    with path.open("rb") as file:
        guest = Guest(FORMATS["qcow2"].open(file.fileno(), path, 1 << 40), "disk")
        assert (guest.name, guest.size) == ("disk", len(wanted))
        assert read(guest, 0, len(wanted)) == wanted
        ranges = [(rng.randrange(len(wanted)), rng.choice((1, 512, 5000, 200_000))) for _ in range(200)]
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda each: read(guest, *each), ranges)
        assert list(found) == [wanted[at : at + count] for at, count in ranges]
        assert read(guest, len(wanted), 10) == b""


def test_a_file_that_is_cut_while_it_is_read(raw: Path, tmp_path: Path) -> None:
    need("qemu-img")
    for kind in ("plain", "zlib"):
        path = tmp_path / kind
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *KINDS[kind], raw, path], check=True)
        with path.open("r+b") as file:
            guest = Guest(FORMATS["qcow2"].open(file.fileno(), path, 1 << 40), "disk")
            file.truncate(MiB // 8)
            with pytest.raises(CorruptImage, match="truncated"):
                read(guest, 0, 9 * MiB)


def test_a_root_is_read_without_its_raw(tmp_path: Path) -> None:
    need("qemu-img", "mke2fs")
    files = tmp_path / "root"
    (files / "etc").mkdir(parents=True)
    (files / "etc/os-release").write_text("ID=test\n")
    (files / "etc/noise").write_bytes(random.Random(9).randbytes(400_000))
    (files / "etc/text").write_text("again\n" * 50_000)
    raw, qcow2 = tmp_path / "raw", tmp_path / "qcow2"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", files, raw, "16m"], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-c", "-O", "qcow2", raw, qcow2], check=True)
    with root.load(raw) as wanted, root.load(qcow2) as found:
        assert found.find(b"etc/noise") is not None
        assert of_tree(found) == of_tree(wanted)
