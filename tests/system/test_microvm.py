"""A real Debian as the root of a microVM: before e2fsck, the kernel's mount and QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.formats import microvm
from recipes.formats.io.context import Context
from recipes.formats.tar.read import load
from tests.kit.boot import boots
from tests.kit.debian import run
from tests.kit.mounts import mounted
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.debian import Debian

pytestmark = pytest.mark.system

GiB = 1 << 30


@pytest.fixture(scope="module")
def ext4(image: Debian, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ext4") / "root.ext4"
    with load(image.rootfs) as tree:
        assert list(microvm.lacks(tree)) == []
        microvm.write_ext4(tree, path, Context(), size=1 * GiB, label="debian", journal=True)
    return path


def test_every_entry_is_what_the_archive_says(image: Debian, ext4: Path) -> None:
    need("e2fsck")
    run("e2fsck", "-fn", ext4)
    with load(image.rootfs) as tree, mounted(ext4) as folder:
        assert differences(of_folder(folder), of_tree(tree)) == []


def test_it_boots_and_grows_while_it_runs(image: Debian, ext4: Path, tmp_path: Path) -> None:
    """From 1 GiB to 20 GiB, past what one block of descriptors is for: the guest's own kernel does it."""
    need("e2fsck")
    disk = tmp_path / "root.ext4"
    run("cp", "--sparse=always", ext4, disk)
    with disk.open("r+b") as file:
        file.truncate(20 * GiB)
    boots(image, f"format=raw,file={disk}", "/dev/vda", "mount -t devtmpfs dev /dev; resize2fs /dev/vda")
    run("e2fsck", "-fp", disk)
    run("e2fsck", "-fn", disk)
    with load(image.rootfs) as tree, mounted(disk) as folder:
        found, expected = of_folder(folder), of_tree(tree)
        assert found.keys() >= expected.keys()


def test_one_without_a_journal_boots(image: Debian, tmp_path: Path) -> None:
    disk = tmp_path / "root.ext4"
    with load(image.rootfs) as tree:
        microvm.write_ext4(tree, disk, Context(), size=1 * GiB, label="debian", journal=False)
    boots(image, f"format=raw,file={disk}", "/dev/vda")
    need("e2fsck")
    run("e2fsck", "-fn", disk)
