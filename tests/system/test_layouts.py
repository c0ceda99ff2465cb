"""A real Debian on disks as Fedora, openSUSE, Arch, Rocky and CoreOS lay theirs out, against what Linux shows of them.

Each is filled while everything is mounted as its own fstab says, read by `python -m recipes rootfs`, and held against
the same mounts without /boot.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest

from recipes.__main__ import main
from recipes.formats.tar import read as tar_read
from tests.kit import lvm_images, mounts, ostree_images
from tests.kit.clients import LIMITS, NO_HYBRID, output, podman_of_its_own
from tests.kit.debian import MiB, run
from tests.kit.layouts import EFI, LINUX, TYPED, disk, entry
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree
from tests.kit.xfs_images import SHOWN_TWICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.debian import Debian
    from tests.kit.trees import Facts

pytestmark = pytest.mark.system

#: What makes the archive large, and is like what is left.
_WITHOUT = ("usr/lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/zoneinfo")
_LVM_TYPE = "e6d6d379-f507-44c2-a23c-238f2a3df928"
_BIOS_TYPE = "21686148-6449-6e6f-744e-656564454649"


class Disk(NamedTuple):
    path: Path
    #: What Linux shows of it.
    facts: dict[bytes, Facts]
    #: Which root it is to be, as `larder plan` has it.
    root: str


class Mount(NamedTuple):
    image: Path
    #: Below the root.
    point: str
    options: str = "defaults"


@contextmanager
def stacked(where: Path, *each: Mount, read_only: bool = False) -> Iterator[Path]:
    """Mount all of them on `where`, the root first; a btrfs may be there several times."""
    images = sorted({mount.image for mount in each})
    where.mkdir(exist_ok=True)
    with lvm_images.loops(*images) as devices, ExitStack() as undo:
        by_image = dict(zip(images, devices, strict=True))
        for mount in each:
            point = where / mount.point
            point.mkdir(parents=True, exist_ok=True)
            options = f"{mount.options},ro" if read_only else mount.options
            run("mount", "-o", options, by_image[mount.image], point)
            undo.callback(run, "umount", point)
        yield where


def fill(root: Path, debian: Debian, fstab: str) -> None:
    left_out = [f"--exclude=./{path}/*" for path in _WITHOUT]
    words = ("--numeric-owner", "--xattrs", "--xattrs-include=*", *left_out)
    run("tar", "-C", root, *words, "-xpf", debian.rootfs)
    (root / "etc/fstab").write_text(fstab)
    (root / "home/you").mkdir(parents=True, exist_ok=True)
    (root / "home/you/notes").write_text("of mine")
    (root / "srv/served").mkdir(exist_ok=True)


def shown(root: Path) -> dict[bytes, Facts]:
    """Return what Linux shows, without the attributes that no other file system has."""
    return {
        path: facts._replace(
            xattrs=tuple(each for each in facts.xattrs if each[0] not in SHOWN_TWICE and each[0][:6] != b"btrfs.")
        )
        for path, facts in of_folder(root, skip=frozenset()).items()
    }


def empty(path: Path, size: int, *command: str) -> Path:
    with path.open("wb") as file:
        file.truncate(size * MiB)
    need(command[0])
    run(*command, path)
    return path


class Parts(NamedTuple):
    """What the disks have in common."""

    folder: Path
    debian: Debian
    #: Of the root's file system; Linux mounts one btrfs of each at a time.
    uuid: str
    boot_uuid: str

    def esp(self) -> tuple[Path, str]:
        return empty(self.folder / "esp", 34, "mkfs.vfat", "-F", "32", "-i", "ABCD1234"), f"type={EFI}"

    def btrfs(self) -> Path:
        return empty(self.folder / "btrfs", 768, "mkfs.btrfs", "-q", "-U", self.uuid)

    def xfs(self, name: str, uuid: str, size: int) -> Path:
        return empty(self.folder / name, size, "mkfs.xfs", "-q", "-m", f"uuid={uuid}")


def fedora(parts: Parts) -> Disk:
    """/boot on an ext4 with boot entries; a btrfs with subvolumes for the root, /home and /var, zstd."""
    boot = empty(parts.folder / "boot", 64, "mke2fs", "-q", "-F", "-t", "ext4", "-U", parts.boot_uuid)
    image = parts.btrfs()
    with stacked(parts.folder / "m", Mount(image, "")) as top:
        # Another one that could be a root, as before an upgrade.
        for name in ("root", "home", "var", "old"):
            run("btrfs", "subvolume", "create", top / name)
        (top / "old/etc").mkdir()
        (top / "old/etc/os-release").touch()
    compressed = "compress=zstd:1"
    here = [Mount(image, point, f"subvol={name},{compressed}") for point, name in _FEDORA.items()]
    fstab = "".join(
        f"UUID={parts.uuid} /{point} btrfs subvol={name},{compressed} 0 0\n" for point, name in _FEDORA.items()
    )
    fstab += f"UUID={parts.boot_uuid} /boot ext4 defaults 1 2\nUUID=ABCD-1234 /boot/efi vfat umask=0077 0 2\n"
    with stacked(parts.folder / "m", *here, Mount(boot, "boot")) as root:
        fill(root, parts.debian, fstab)
        (root / "boot/loader/entries").mkdir(parents=True)
        text = entry(f"root=UUID={parts.uuid} ro rootflags=subvol=root console=ttyS0", "6.9.4-200.fc44")
        (root / "boot/loader/entries/0123-6.9.4-200.fc44.conf").write_text(text)
    with stacked(parts.folder / "m", *here, read_only=True) as root:
        facts = shown(root)
    path = disk(parts.folder, parts.esp(), (boot, TYPED), (image, TYPED))
    return Disk(path, facts, "partition 3 (btrfs, 805306368 bytes")


_FEDORA = {"": "root", "home": "home", "var": "var"}


def opensuse(parts: Parts) -> Disk:
    """The default subvolume is a snapshot, and fstab mounts the others beside it, /.snapshots among them."""
    image = parts.btrfs()
    names = ("home", "opt", "root", "srv", "usr/local", "var")
    with stacked(parts.folder / "m", Mount(image, "")) as top:
        run("btrfs", "subvolume", "create", top / "@")
        (top / "@/usr").mkdir()
        for name in (*names, ".snapshots"):
            run("btrfs", "subvolume", "create", top / "@" / name)
        (top / "@/.snapshots/1").mkdir()
        run("btrfs", "subvolume", "create", top / "@/.snapshots/1/snapshot")
        run("btrfs", "subvolume", "set-default", top / "@/.snapshots/1/snapshot")
    here = [Mount(image, ""), *(Mount(image, name, f"subvol=@/{name}") for name in names)]
    fstab = f"UUID={parts.uuid} / btrfs defaults 0 0\nUUID=ABCD-1234 /boot/efi vfat utf8 0 2\n"
    fstab += "".join(f"UUID={parts.uuid} /{name} btrfs subvol=/@/{name} 0 0\n" for name in (*names, ".snapshots"))
    with stacked(parts.folder / "m", *here) as root:
        fill(root, parts.debian, fstab)
        # An older snapshot that could be the root as well, and is read-only.
        (root / ".snapshots").mkdir()
    with stacked(parts.folder / "m", Mount(image, "", "subvolid=5")) as top:
        (top / "@/.snapshots/2").mkdir()
        run(*("btrfs", "subvolume", "snapshot", "-r"), top / "@/.snapshots/1/snapshot", top / "@/.snapshots/2/snapshot")
    with stacked(parts.folder / "m", *here, read_only=True) as root:
        facts = shown(root)
    return Disk(disk(parts.folder, parts.esp(), (image, TYPED)), facts, "partition 2 (btrfs, 805306368 bytes")


def arch(parts: Parts) -> Disk:
    """The top level is the root, with a subvolume for the file that is swapped to."""
    image = parts.btrfs()
    here = Mount(image, "", "compress-force=zstd")
    with stacked(parts.folder / "m", here) as root:
        fstab = f"UUID={parts.uuid} / btrfs compress-force=zstd 0 0\n/swap/swapfile none swap sw 0 0\n"
        fill(root, parts.debian, fstab)
        run("btrfs", "subvolume", "create", root / "swap")
        run("chattr", "+C", root / "swap")
        with (root / "swap/swapfile").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 64 * MiB)
    with stacked(parts.folder / "m", here, read_only=True) as root:
        facts = shown(root)
    del facts[b"swap/swapfile"]
    bios = parts.folder / "bios"
    bios.write_bytes(bytes(MiB))
    path = disk(parts.folder, (bios, f"type={_BIOS_TYPE}"), (image, TYPED))
    return Disk(path, facts, "partition 2 (btrfs, 805306368 bytes")


def rocky(parts: Parts) -> Disk:
    """/boot and / on XFS, of one type; the entry takes its options from GRUB's environment."""
    boot, image = parts.xfs("boot", parts.boot_uuid, 320), parts.xfs("xfs", parts.uuid, 640)
    fstab = f"UUID={parts.uuid} / xfs defaults 0 0\nUUID={parts.boot_uuid} /boot xfs defaults 0 0\n"
    with stacked(parts.folder / "m", Mount(image, ""), Mount(boot, "boot")) as root:
        fill(root, parts.debian, fstab)
        (root / "boot/loader/entries").mkdir(parents=True)
        (root / "boot/loader/entries/0123-5.14.conf").write_text(entry("$kernelopts $tuned_params", "5.14"))
        (root / "boot/grub2").mkdir()
        variables = f"# GRUB Environment Block\nsaved_entry=0123-5.14\nkernelopts=root=UUID={parts.uuid} ro\n"
        (root / "boot/grub2/grubenv").write_text(variables.ljust(1024, "#"))
    with stacked(parts.folder / "m", Mount(image, ""), read_only=True) as root:
        facts = shown(root)
    path = disk(parts.folder, parts.esp(), (boot, TYPED), (image, TYPED))
    return Disk(path, facts, "partition 3 (xfs, 671088640 bytes")


def rocky_on_volumes(parts: Parts) -> Disk:
    """As Rocky's LVM disks: /boot apart, / on a volume of two segments, /home on another."""
    boot, image = parts.xfs("boot", parts.boot_uuid, 320), parts.xfs("xfs", parts.uuid, 640)
    home = parts.xfs("home", str(uuid4()), 320)
    fstab = "/dev/mapper/rocky-root / xfs defaults 0 0\n/dev/mapper/rocky-home /home xfs defaults 0 0\n"
    fstab += f"UUID={parts.boot_uuid} /boot xfs defaults 0 0\n"
    here = Mount(image, ""), Mount(home, "home")
    with stacked(parts.folder / "m", *here, Mount(boot, "boot")) as root:
        fill(root, parts.debian, fstab)
        (root / "boot/loader/entries").mkdir(parents=True)
        text = entry("root=/dev/mapper/rocky-root ro rd.lvm.lv=rocky/root", "5.14")
        (root / "boot/loader/entries/0123-5.14.conf").write_text(text)
    with stacked(parts.folder / "m", *here, read_only=True) as root:
        facts = shown(root)
    text = lvm_images.group(
        # The second half of the root comes first.
        lvm_images.volume("home", lvm_images.segment(0, 320, ("pv0", 640))),
        lvm_images.volume("root", lvm_images.segment(0, 320, ("pv0", 320)), lvm_images.segment(320, 320, ("pv0", 0))),
        uuids=lvm_images.UUIDS[:1],
    ).replace("\nvg {", "\nrocky {")
    size = lvm_images.PE_START + 961 * MiB
    physical = lvm_images.physical(parts.folder / "pv", lvm_images.UUIDS[0], text, size)
    for source, skip, count, seek in ((image, 320, 320, 0), (image, 0, 320, 320), (home, 0, 320, 640)):
        begin = lvm_images.PE_START // MiB + seek
        words = (f"skip={skip}", f"count={count}", f"seek={begin}", "bs=1M", "conv=sparse,notrunc", "status=none")
        run("dd", f"if={source}", f"of={physical}", *words)
    path = disk(parts.folder, parts.esp(), (boot, TYPED), (physical, f"type={_LVM_TYPE}"))
    return Disk(path, facts, "volume 'rocky/root' (xfs, 671088640 bytes")


def coreos(parts: Parts) -> Disk:
    """/boot on an ext4, what ostree deployed on an XFS: a Debian, as ostree takes it."""
    tree, image = parts.folder / "debian", parts.xfs("xfs", parts.uuid, 1024)
    tree.mkdir()
    fill(tree, parts.debian, "")
    for name in ("dev", "proc", "run", "sys", "tmp", "boot"):
        # Devices, which ostree does not take, and what is mounted.
        shutil.rmtree(tree / name)
    (tree / "etc").rename(tree / "usr/etc")
    shutil.rmtree(tree / "var")
    with stacked(parts.folder / "m", Mount(image, "")) as root:
        (name,) = ostree_images.deploy(parts.folder, root, "1", tree=tree)
        ostree_images.boot_apart(root, parts.folder / "boot.d")
        (root / "ostree/deploy" / ostree_images.NAME / "var/lib/state").write_text("kept")
    boot = parts.folder / "boot"
    empty(boot, 64, "mke2fs", "-q", "-F", "-t", "ext4", "-d", str(parts.folder / "boot.d"))
    with stacked(parts.folder / "m", Mount(image, ""), read_only=True) as root:
        system = root / "ostree/deploy" / ostree_images.NAME
        # As ostree-prepare-root has it.
        run("mount", "--bind", system / "var", system / "deploy" / name / "var")
        try:
            facts = shown(system / "deploy" / name)
        finally:
            run("umount", system / "deploy" / name / "var")
    path = disk(parts.folder, parts.esp(), (boot, f'{TYPED}, name="boot"'), (image, f'type={LINUX}, name="root"'))
    return Disk(path, facts, "partition 3 (xfs, 1073741824 bytes")


LAYOUTS = {each.__name__: each for each in (fedora, opensuse, arch, rocky, rocky_on_volumes, coreos)}


@pytest.fixture(scope="module")
def disks(image: Debian, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Disk]]:
    """Those that were made, by name; what is made once is used by all tests of the module."""
    need("sfdisk", "tar", "dd", "mkfs.btrfs", "mkfs.xfs", "mkfs.vfat", "mke2fs", "losetup")
    made = _Made(image, tmp_path_factory.mktemp("layouts"))
    yield made
    shutil.rmtree(made.folder)


class _Made(dict[str, Disk]):
    def __init__(self, debian: Debian, folder: Path) -> None:
        super().__init__()
        self.debian, self.folder = debian, folder

    def __missing__(self, name: str) -> Disk:
        folder = self.folder / name
        folder.mkdir()
        self[name] = LAYOUTS[name](Parts(folder, self.debian, str(uuid4()), str(uuid4())))
        return self[name]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_root_file_system(
    name: str, disks: dict[str, Disk], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from recipes.formats.fs.root import describe

    made = disks[name]
    assert describe(made.path, limit=1 << 40).startswith(made.root)
    out = tmp_path / "rootfs.tar"
    assert main(["rootfs", str(made.path), str(out)]) == 0
    # Nothing could have been otherwise.
    assert capsys.readouterr().err == ""
    with tar_read.load(out) as tree:
        found = of_tree(tree)
    assert len(found) > 2000
    assert differences(found, made.facts) == []


@pytest.mark.parametrize("name", ["fedora", "rocky_on_volumes"])
def test_the_disk_that_wsl_takes(name: str, disks: dict[str, Disk], tmp_path: Path) -> None:
    need("qemu-img", "e2fsck")
    vhdx, raw = tmp_path / "disk.vhdx", tmp_path / "disk.raw"
    assert main(["vhdx", "--size", "8GiB", str(disks[name].path), str(vhdx)]) == 0
    run("qemu-img", "convert", "-O", "raw", vhdx, raw)
    run("e2fsck", "-fn", raw)
    with mounts.mounted(raw) as folder:
        assert differences(of_folder(folder), disks[name].facts) == []


@pytest.mark.parametrize("name", ["fedora", "coreos"])
def test_the_container_image(name: str, disks: dict[str, Disk], tmp_path: Path) -> None:
    out = tmp_path / "image.tar"
    assert main(["oci", "--compression=none", "--name", name, str(disks[name].path), str(out)]) == 0
    with podman_of_its_own() as podman:
        assert f"localhost/{name}:latest" in output(*podman, "load", "-i", out)
        where = f"localhost/{name}:latest"
        said = output(*NO_HYBRID, *podman, "run", "--rm", *LIMITS, where, "cat", "/etc/debian_version")
    assert said.startswith("12")
