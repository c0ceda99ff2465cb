from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.formats.disk.reading import raw_disk
from recipes.formats.disk.vhdx.whole import write_whole
from recipes.formats.io import blkhash
from recipes.formats.io.context import Context
from recipes.progress import SILENT_METER
from tests.kit.disk_images import disk, qemu_raw, read_all
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import BlockHash

MiB = 1 << 20
QUICK = Context(durable=False)


def write(source: Path, path: Path, context: Context, known: BlockHash | None = None) -> None:
    with source.open("rb") as file:
        found = write_whole(raw_disk(file.fileno(), source), path, context, known=known)
    assert found == blkhash.of_file(path, jobs=1, meter=SILENT_METER)


@pytest.mark.parametrize("size", [512, MiB, 3 * MiB + 512, 40 * MiB + 1536])
def test_every_reader_finds_the_disk(size: int, tmp_path: Path) -> None:
    need("qemu-img")
    raw, path = disk(tmp_path / "raw", size), tmp_path / "vhdx"
    write(raw, path, QUICK)
    assert qemu_raw(path, "vhdx") == raw.read_bytes()
    assert read_all(path, "vhdx") == raw.read_bytes()


def test_what_is_known_of_the_disk_need_not_be_found_out(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 3 * MiB + 512)
    write(raw, tmp_path / "one", QUICK)
    write(raw, tmp_path / "two", QUICK, blkhash.of_file(raw, jobs=1, meter=SILENT_METER))
    write(raw, tmp_path / "three", QUICK._replace(jobs=3))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()


def test_holes_cost_nothing(tmp_path: Path) -> None:
    raw, path = tmp_path / "raw", tmp_path / "vhdx"
    with raw.open("wb") as file:
        file.truncate(8 << 30)
        file.seek(4 << 30)
        file.write(b"x" * 512)
    write(raw, path, QUICK)
    assert path.stat().st_size < 8 * MiB
