"""A real Debian on XFS, copied while it was mounted: as a root file system, for WSL, as a container image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from recipes.__main__ import main
from recipes.formats.tar import read as tar_read
from tests.kit import mounts
from tests.kit.clients import LIMITS, NO_HYBRID, output, podman_of_its_own
from tests.kit.debian import ROOT_OFFSET, ROOT_TYPE, GiB, MiB, run
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree
from tests.kit.xfs_images import copy, kernel_facts, make, mounted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.debian import Debian
    from tests.kit.trees import Facts

pytestmark = pytest.mark.system


NAME = "localhost/debian-on-xfs:latest"


class Disk(NamedTuple):
    path: Path
    #: What Linux shows of it.
    facts: dict[bytes, Facts]


@pytest.fixture(scope="module")
def disk(image: Debian, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    need("sfdisk", "tar", "dd")
    folder = tmp_path_factory.mktemp("xfs")
    partition, dirty, path = (folder / name for name in ("partition", "dirty", "disk"))
    make(partition, 2 * GiB)
    with mounted(partition) as root:
        run("tar", "-C", root, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", image.rootfs)
        run("sync", "-f", root)
        # What is deleted now is in the log alone.
        run("rm", "-r", root / "usr/share/doc")
        run("sync", "-f", root)
        copy(partition, dirty)
    with path.open("wb") as file:
        file.truncate(ROOT_OFFSET + 2 * GiB + MiB)
    run("sfdisk", "--quiet", path, input=f"label: gpt\nstart={ROOT_OFFSET // 512}, size=2GiB, type={ROOT_TYPE}\n")
    run("dd", f"if={dirty}", f"of={path}", "bs=1M", f"seek={ROOT_OFFSET // MiB}", "conv=sparse,notrunc", "status=none")
    return Disk(path, kernel_facts(dirty, "rw"))


def test_the_root_file_system(disk: Disk, tmp_path: Path) -> None:
    out = tmp_path / "rootfs.tar"
    assert main(["rootfs", str(disk.path), str(out)]) == 0
    with tar_read.load(out) as tree:
        found = of_tree(tree)
    assert len(found) > 5000
    assert b"usr/share/doc" not in found
    assert differences(found, disk.facts) == []
    names = {name for each in found.values() for name, _value in each.xattrs}
    assert {b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"} <= names


def test_the_disk_that_wsl_takes(disk: Disk, tmp_path: Path) -> None:
    need("qemu-img", "e2fsck")
    vhdx, raw = tmp_path / "disk.vhdx", tmp_path / "disk.raw"
    assert main(["vhdx", str(disk.path), str(vhdx)]) == 0
    run("qemu-img", "convert", "-O", "raw", vhdx, raw)
    run("e2fsck", "-fn", raw)
    with mounts.mounted(raw) as folder:
        assert differences(of_folder(folder), disk.facts) == []


def test_the_container_image(disk: Disk, tmp_path: Path) -> None:
    out = tmp_path / "image.tar"
    assert main(["oci", "--compression=none", "--name", "debian-on-xfs", str(disk.path), str(out)]) == 0
    with podman_of_its_own() as podman:
        assert NAME in output(*podman, "load", "-i", out)
        said = output(*NO_HYBRID, *podman, "run", "--rm", *LIMITS, NAME, "cat", "/etc/debian_version")
    assert said.startswith("12")
