from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import ImageError, Interrupted
from recipes.formats.io import blkhash
from recipes.formats.io.context import Context
from recipes.formats.tar import read as tar_read
from recipes.formats.wsl import write_vhdx
from recipes.progress import SILENT_METER
from tests.kit.oci_images import file, folder, tar
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
DATA = bytes(range(256)) * 4096


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "root.tar"
    path.write_bytes(tar(folder("etc"), file("etc/data", DATA)))
    return path


def write(archive: Path, path: Path, size: int = 64 * MiB, watch: Watch | None = None) -> str:
    with tar_read.load(archive) as tree:
        return str(write_vhdx(tree, path, Context(watch or Watch(), "vhdx:a", durable=False), size=size))


def test_the_same_tree_gives_the_same_file_and_its_blkhash(archive: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.vhdx", tmp_path / "other.vhdx"
    watch = Watch()
    found = write(archive, one, watch=watch)
    assert watch.done >= len(DATA)
    assert write(archive, other) == found
    assert one.read_bytes() == other.read_bytes()
    assert str(blkhash.of_file(one, jobs=1, meter=SILENT_METER)) == found
    assert one.read_bytes().startswith(b"vhdxfile")


def test_another_tree_or_size_gives_another(archive: Path, tmp_path: Path) -> None:
    found = write(archive, tmp_path / "one.vhdx")
    assert write(archive, tmp_path / "two.vhdx", 128 * MiB) != found
    archive.write_bytes(tar(folder("etc"), file("etc/data", DATA[1:])))
    assert write(archive, tmp_path / "three.vhdx") != found


def test_nothing_is_left_after_an_error(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with pytest.raises(ImageError, match="MiB"):
        write(archive, path, 2 * MiB)
    with pytest.raises(Interrupted):
        write(archive, path, watch=Watch(interrupt_at=1))
    assert not path.exists()


def test_what_is_there_is_left_alone(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write(archive, path)
