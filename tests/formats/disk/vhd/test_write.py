from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.disk.vhd import write
from recipes.formats.disk.vhd.footer import FOOTER_CHECKSUM, checksum
from tests.kit.disk_images import disk, qemu_raw, read_all
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20


@pytest.mark.parametrize("size", [512, MiB, MiB + 512, 9 * MiB + 1536])
def test_every_reader_finds_the_disk(size: int, tmp_path: Path) -> None:
    need("qemu-img", "vhdiinfo")
    path = disk(tmp_path / "vhd", size)
    wanted = path.read_bytes().ljust(write.disk_size(size), b"\0")
    write.finish(path, b"identity", durable=False)
    assert qemu_raw(path, "vpc") == wanted
    assert read_all(path, "vhd") == wanted
    said = subprocess.run(["vhdiinfo", path], capture_output=True, text=True, check=True).stdout
    assert f"({len(wanted)} bytes)" in said
    assert "Fixed" in said


def test_the_footer_is_what_the_specification_has() -> None:
    data = write.footer(3 * MiB, b"identity")
    assert len(data) == 512
    assert data[:8] == b"conectix"
    assert struct.unpack_from(">QQ", data, 40) == (3 * MiB, 3 * MiB)
    assert struct.unpack_from(">HBBI", data, 56) == (65535, 16, 255, 2)
    assert int.from_bytes(data[FOOTER_CHECKSUM], "big") == checksum(data, FOOTER_CHECKSUM)
    assert data != write.footer(3 * MiB, b"another")


def test_a_disk_that_is_larger_than_a_vhd_has_it(tmp_path: Path) -> None:
    path = tmp_path / "vhd"
    with path.open("wb") as file:
        file.truncate((2040 << 30) + 512)
    with pytest.raises(LimitExceeded, match="at most"):
        write.finish(path, b"identity")
