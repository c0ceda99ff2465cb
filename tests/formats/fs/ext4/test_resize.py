from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.formats.fs.ext4 import write as ext4_write
from recipes.formats.fs.ext4.geometry import Shape
from recipes.formats.io.sparse import SparseFile, allocated
from recipes.progress import SILENT_METER
from tests.kit.debian import run
from tests.kit.mounts import mounted
from tests.kit.nasty import nasty
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.tree.tree import Tree

MiB, GiB = 1 << 20, 1 << 30

each_shape = pytest.mark.parametrize("journal", [True, False], ids=["journal", "none"])


def write(tree: Tree, path: Path, size: int, *, journal: bool = True) -> Path:
    with SparseFile(path, durable=False) as disk:
        shape = Shape(journal=journal, grows=True)
        ext4_write.write(tree, disk, size=size, label="root", meter=SILENT_METER, shape=shape)
        disk.finish(size)
    check(path)
    return path


def check(image: Path) -> None:
    need("e2fsck")
    run("e2fsck", "-fn", image)


def features(image: Path) -> set[str]:
    need("dumpe2fs")
    out = subprocess.run(["dumpe2fs", "-h", image], check=True, capture_output=True, text=True).stdout
    return set(next(line for line in out.splitlines() if line.startswith("Filesystem features:")).split()[2:])


@each_shape
@pytest.mark.parametrize("size", [64 * MiB, 200 * MiB, 3 * GiB, 40 * GiB], ids=lambda size: f"{size >> 20}M")
def test_a_file_system_that_may_grow(size: int, journal: bool, tmp_path: Path) -> None:
    tree = nasty()
    image = write(tree, tmp_path / "ext4", size, journal=journal)
    assert {"resize_inode"} <= features(image)
    assert ("has_journal" in features(image)) == journal
    with mounted(image) as folder:
        assert differences(of_folder(folder), of_tree(tree)) == []
    # A block of pointers for each that descriptors may take.
    assert allocated(image) < 16 * MiB + 160 * MiB * journal


@each_shape
def test_it_grows_offline(journal: bool, tmp_path: Path) -> None:
    need("resize2fs")
    tree = nasty()
    image = write(tree, tmp_path / "ext4", 200 * MiB, journal=journal)
    run("resize2fs", image, "30G")
    check(image)
    with mounted(image) as folder:
        assert differences(of_folder(folder), of_tree(tree)) == []


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    tree = nasty()
    one, two = (write(tree, tmp_path / name, 100 * MiB).read_bytes() for name in ("one", "two"))
    assert one == two
