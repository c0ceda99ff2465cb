"""A real Debian as ext4 and as VHDX, before the kernel, e2fsprogs and QEMU."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from recipes.formats.fs.ext4 import write as ext4_write
from recipes.formats.io.context import Context
from recipes.formats.io.sparse import SparseFile
from recipes.formats.tar.read import load
from recipes.formats.wsl import write_vhdx
from recipes.progress import SILENT_METER
from tests.kit.boot import boots
from tests.kit.debian import run
from tests.kit.mounts import mounted
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.debian import Debian
    from tests.kit.trees import Facts

pytestmark = pytest.mark.system

MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40


@pytest.fixture(scope="module")
def ext4(image: Debian, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ext4") / "ext4"
    with load(image.rootfs) as tree, SparseFile(path) as disk:
        ext4_write.write(tree, disk, size=2 * GiB, label="", meter=SILENT_METER)
        disk.finish(2 * GiB)
    return path


def make_vhdx(image: Debian, path: Path, size: int) -> Path:
    with load(image.rootfs) as tree:
        write_vhdx(tree, path, Context(), size=size)
    return path


def without_acls(folder: Path) -> dict[bytes, Facts]:
    """Return the facts of what is in `folder`, without the ACLs, which bsdtar does not take from attributes."""
    return {
        path: facts._replace(
            xattrs=tuple(item for item in facts.xattrs if not item[0].startswith(b"system.posix_acl_"))
        )
        for path, facts in of_folder(folder).items()
        # The root's time is when the last entry was unpacked.
        if path
    }


class TestExt4:
    def test_every_entry_is_what_the_archive_says(self, image: Debian, ext4: Path) -> None:
        need("e2fsck")
        run("e2fsck", "-fn", ext4)
        with load(image.rootfs) as tree, mounted(ext4) as folder:
            expected = of_tree(tree)
            assert differences(of_folder(folder), expected) == []
        names = {name for facts in expected.values() for name, _ in facts.xattrs}
        # The image is one in which these are to be seen.
        assert {b"security.capability", b"system.posix_acl_access"} <= names

    def test_every_entry_is_what_tar_unpacks(self, image: Debian, ext4: Path, tmp_path: Path) -> None:
        need("bsdtar")
        unpacked = tmp_path / "unpacked"
        unpacked.mkdir()
        # What WSL imports with.
        run("bsdtar", "-C", unpacked, "-x", "-p", "--xattrs", "--numeric-owner", "-f", image.rootfs)
        with mounted(ext4) as folder:
            assert differences(without_acls(folder), without_acls(unpacked)) == []

    def test_it_can_be_used_as_wsl_mounts_it(self, ext4: Path, tmp_path: Path) -> None:
        need("e2fsck", "cp", "rm")
        used = tmp_path / "ext4"
        run("cp", "--sparse=always", ext4, used)
        with mounted(used, "rw,discard,errors=remount-ro,data=ordered") as folder:
            shutil.copytree(folder / "usr", folder / "usr.copy", symlinks=True)
            os.sync()
            run("sh", "-ec", 'rm -r "$1"/*', "sh", folder)
            (folder / "lost+found").mkdir(0o700)
        run("e2fsck", "-fn", used)


class TestVhdx:
    def test_it_boots(self, image: Debian, tmp_path: Path) -> None:
        vhdx = make_vhdx(image, tmp_path / "debian.vhdx", TiB)
        # The BAT takes 9 MiB, and what describes 1 TiB some 30.
        assert vhdx.stat().st_size < image.rootfs.stat().st_size + 80 * MiB
        boots(image, f"format=vhdx,snapshot=on,file={vhdx}", "/dev/vda")

    def test_qemu_finds_the_same_file_system(self, image: Debian, ext4: Path, tmp_path: Path) -> None:
        need("qemu-img", "vhdiinfo")
        vhdx = make_vhdx(image, tmp_path / "debian.vhdx", 2 * GiB)
        run("vhdiinfo", vhdx)
        run("qemu-img", "check", "-q", "-f", "vhdx", vhdx)
        run("qemu-img", "compare", "-q", "-f", "vhdx", "-F", "raw", vhdx, ext4)
