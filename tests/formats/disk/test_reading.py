from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from recipes.errors import ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.disk.reading import open_disk
from tests.kit.disk_images import LIMIT, disk, made
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
UNIT = 1 << 16


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk", "vhdx", "vdi"])
def test_the_chunks_have_all_data(form: str, tmp_path: Path) -> None:
    need("qemu-img")
    raw = disk(tmp_path / "raw", 9 * MiB + 1536)
    path = raw if form == "raw" else made(raw, form)
    wanted = raw.read_bytes()
    with open_disk(path, LIMIT) as found:
        assert found.size >= len(wanted)
        whole, end = bytearray(found.size), 0
        for start, stop in found.chunks(UNIT):
            assert end <= start < stop
            assert start % UNIT == 0
            assert stop % UNIT == 0 or stop == found.size
            whole[start:stop] = found.read(start, stop)
            end = stop
        assert whole[: len(wanted)] == wanted
        assert sum(stop - start for start, stop in found.chunks(UNIT)) == found.data_size(UNIT) < found.size


def test_the_last_sector_of_a_raw_is_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(bytes(510) + b"\x55\xaa" + b"x" * 100)
    with open_disk(path, LIMIT) as found:
        assert found.size == 1024
        assert found.read(512, 1024) == b"x" * 100 + bytes(412)


def test_a_file_that_is_cut_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"\1" * MiB)
    with open_disk(path, LIMIT) as found:
        os.truncate(path, 1000)
        with pytest.raises(ImageError, match="was cut while"):
            found.read(0, 4096)


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(bytes(MiB))
    with pytest.raises(LimitExceeded, match="more than the 1000"), open_disk(path, 1000):
        pass
    path.write_bytes(b"# text\n" * 100)
    with pytest.raises(UnsupportedFeature, match="expected a disk image, found"), open_disk(path, LIMIT):
        pass
