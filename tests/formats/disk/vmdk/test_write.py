from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.disk.vmdk.write import GRAIN, MAX_SIZE, write_stream
from recipes.formats.io import blkhash
from recipes.formats.io.context import Context
from recipes.progress import SILENT_METER
from tests.kit.disk_images import disk, qemu_img, qemu_raw, read_all
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
QUICK = Context(durable=False)


@pytest.mark.parametrize("size", [512, GRAIN, 3 * MiB + 512, 70 * MiB + 1536])
def test_every_reader_finds_the_disk(size: int, tmp_path: Path) -> None:
    need("qemu-img")
    raw, path = disk(tmp_path / "raw", size), tmp_path / "vmdk"
    found = write_stream(raw, path, QUICK, identity=b"a")
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
        write_stream(raw, path, QUICK._replace(jobs=jobs), identity=b"a")
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_a_disk_that_is_larger_than_a_vmdk_has_it(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(MAX_SIZE + 512)
    with pytest.raises(LimitExceeded, match="at most"):
        write_stream(raw, tmp_path / "vmdk", QUICK, identity=b"a")
    assert not (tmp_path / "vmdk").exists()
