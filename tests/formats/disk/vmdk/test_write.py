from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.disk.reading import raw_disk
from recipes.formats.disk.vmdk.write import GRAIN, MAX_SIZE, write_stream
from recipes.formats.io import blkhash
from recipes.formats.io.context import Context
from recipes.progress import SILENT_METER
from tests.kit.disk_images import disk, qemu_img, qemu_raw, read_all
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import BlockHash

MiB = 1 << 20
QUICK = Context(durable=False)


def write(raw: Path, path: Path, context: Context, known: BlockHash | None = None) -> BlockHash:
    with raw.open("rb") as file:
        return write_stream(raw_disk(file.fileno(), raw), path, context, known=known)


@pytest.mark.parametrize("size", [512, GRAIN, 3 * MiB + 512, 70 * MiB + 1536])
def test_every_reader_finds_the_disk(size: int, tmp_path: Path) -> None:
    need("qemu-img")
    raw, path = disk(tmp_path / "raw", size), tmp_path / "vmdk"
    found = write(raw, path, QUICK)
    assert found == blkhash.of_file(path, jobs=1, meter=SILENT_METER)
    wanted = raw.read_bytes().ljust(-(-size // GRAIN) * GRAIN, b"\0")
    assert qemu_img("check", "-f", "vmdk", path)
    assert qemu_raw(path, "vmdk") == wanted
    assert read_all(path, "vmdk") == wanted


def test_threads_do_not_change_the_bytes(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 9 * MiB)
    made = []
    for jobs in (1, 3):
        path = tmp_path / f"{jobs}.vmdk"
        write(raw, path, QUICK._replace(jobs=jobs))
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_what_is_known_of_the_disk_need_not_be_found_out(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 3 * MiB + 300)
    write(raw, tmp_path / "one", QUICK)
    with raw.open("r+b") as file:
        file.truncate(3 * MiB + 512)
    write(raw, tmp_path / "two", QUICK, blkhash.of_file(raw, jobs=1, meter=SILENT_METER))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_disk_that_is_larger_than_a_vmdk_has_it(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(MAX_SIZE + 512)
    with pytest.raises(LimitExceeded, match="at most"):
        write(raw, tmp_path / "vmdk", QUICK)
    assert not (tmp_path / "vmdk").exists()
