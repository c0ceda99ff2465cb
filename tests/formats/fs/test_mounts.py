"""What fstab mounts from the same disk is part of the root."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.fs import root as disk_tree
from recipes.formats.io.context import Context
from tests.kit import btrfs_images, lvm_images, mounts
from tests.kit.ext4_images import MiB, tool
from tests.kit.layouts import (
    HOME,
    HOME_TYPE,
    OTHER,
    ROOT,
    SRV_TYPE,
    TYPED,
    USR_TYPE,
    VAR_TYPE,
    Notes,
    disk,
    filesystem,
    root,
)
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from pathlib import Path


def names(path: Path, notes: Notes | None = None) -> list[str]:
    with disk_tree.load(path, Context(notes or Notes(), "rootfs:x")) as tree:
        return [name.decode() for name, _ in tree.walk() if b"lost+found" not in name]


@pytest.mark.parametrize(
    "device",
    [
        f"UUID={HOME}",
        f"UUID={HOME.upper()}",
        f'UUID="{HOME}"',
        "LABEL=my\\040home",
        'LABEL="my home"',
        f"PARTUUID={OTHER}",
        "PARTLABEL=part",
        f"/dev/disk/by-uuid/{HOME}",
        "/dev/disk/by-label/my\\134x20home",
        f"/dev/disk/by-partuuid/{OTHER}",
        "/dev/disk/by-partlabel/part",
        "/dev/sdc2",
        "/dev/nvme0n1p2",
    ],
)
def test_devices(tmp_path: Path, device: str) -> None:
    one = root(tmp_path, f"# {device} /no ext4\n{device}\t/home ext4 defaults,nofail 0 2\n")
    two = filesystem(tmp_path, "home", {"you/file": "x"}, HOME, label="my home")
    path = disk(tmp_path, (one, TYPED), (two, f'{TYPED}, uuid={OTHER}, name="part"'))
    assert names(path) == ["", "etc", "etc/fstab", "etc/os-release", "home", "home/you", "home/you/file"]
    with disk_tree.load(path) as tree:
        home = tree.find(b"home")
        assert home is not None
        assert (home.uid, home.gid) == (7, 8)


def test_the_signature_of_an_mbr(tmp_path: Path) -> None:
    one = root(tmp_path, "PARTUUID=12345678-02 /home ext4")
    two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
    assert "home/you" in names(disk(tmp_path, (one, "type=83"), (two, "type=83"), label="dos"))


@pytest.mark.parametrize(
    "line",
    [
        "UUID=99999999-0000-4000-8000-000000000009 /home ext4",
        f"UUID={HOME} /home ext4 noauto",
        f"UUID={HOME} none swap",
        f"UUID={HOME} /boot ext4",
        f"UUID={HOME} /boot/efi ext4",
        f"UUID={HOME} /efi ext4",
        f"UUID={ROOT} / ext4",
        f"UUID={ROOT} /home ext4",
        "/home /srv none bind",
        "tmpfs /home tmpfs",
        "/dev/sda7 /home ext4",
        f"UUID={HOME}",
        "",
    ],
)
def test_what_is_left_out(tmp_path: Path, line: str) -> None:
    two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
    found = names(disk(tmp_path, (root(tmp_path, f"{line}\n"), TYPED), (two, TYPED)))
    assert found == ["", "etc", "etc/fstab", "etc/os-release", "home", "home/hidden"]


def test_a_file_that_is_swapped_to_is_no_content(tmp_path: Path) -> None:
    fstab = "/swap/file none swap\n/swap/none none swap\n/../ none swap\n/dev/sda2 none swap\n"
    one = root(tmp_path, fstab, **{"swap/file": "x", "swap/other": "y"})
    assert names(disk(tmp_path, (one, TYPED)))[-2:] == ["swap", "swap/other"]


def test_mounts_in_mounts_by_depth(tmp_path: Path) -> None:
    one = root(tmp_path, f"UUID={OTHER} /home/you/deep ext4\nUUID={HOME} /home ext4\n")
    two = filesystem(tmp_path, "home", {"file": "x"}, HOME)
    three = filesystem(tmp_path, "other", {"last": "x"}, OTHER)
    found = names(disk(tmp_path, (one, TYPED), (two, TYPED), (three, TYPED)))
    assert found[4:] == ["home", "home/file", "home/you", "home/you/deep", "home/you/deep/last"]


def test_home_by_its_type(tmp_path: Path) -> None:
    two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
    assert "home/you" in names(disk(tmp_path, (root(tmp_path, ""), TYPED), (two, f"type={HOME_TYPE}")))


@pytest.mark.parametrize(
    ("line", "names_it"),
    [
        (f"UUID={OTHER} /data ext4", True),
        ("LABEL=data /data xfs defaults 0 2", True),
        ("/dev/vda1 / ext4\n/dev/vdb2 /data ext4", True),
        ("/dev/mapper/vg-data /data ext4", True),
        (f"UUID={OTHER} /data ext4 nofail", False),
        (f"UUID={OTHER} /data ext4 noauto", False),
        ("server:/share /data nfs", False),
        ("tmpfs /data tmpfs", False),
        ("/dev/cdrom /data iso9660", False),
        ("/dev/sr0 /data auto", False),
    ],
)
def test_what_is_on_another_disk_is_said_once(tmp_path: Path, line: str, *, names_it: bool) -> None:
    two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
    notes = Notes()
    found = names(disk(tmp_path, (root(tmp_path, f"{line}\nUUID={HOME} /home ext4\n"), TYPED), (two, TYPED)), notes)
    assert "home/you" in found
    said = "rootfs:x: left out, since it is on no partition of this disk: '/data' ("
    assert [each[: len(said)] for each in notes.said] == ([said] if names_it else [])


@pytest.mark.parametrize("crypttab", ["", "# none\nhome UUID=1-2-3 none luks\n", "home PARTLABEL=secret - luks\n"])
def test_what_is_encrypted_is_refused_by_name(tmp_path: Path, crypttab: str) -> None:
    two = tmp_path / "luks"
    two.write_bytes(b"LUKS\xba\xbe".ljust(MiB, b"\0"))
    one = root(tmp_path, "/dev/mapper/home /home ext4 nofail", **{"etc/crypttab": crypttab})
    path = disk(tmp_path, (one, TYPED), (two, f'{TYPED}, name="secret"'))
    with pytest.raises(UnsupportedFeature, match=r"'/home' is on '/dev/mapper/home', .*crypted on partition 2 .LUKS"):
        names(path)


class TestByTheirTypes:
    def test_what_fstab_says_nothing_of(self, tmp_path: Path) -> None:
        one = root(tmp_path, "")
        parts = [
            (filesystem(tmp_path, name, {f"on-{name}": "x"}, uuid), f"type={kind}")
            for name, uuid, kind in (("usr", OTHER, USR_TYPE), ("srv", HOME, SRV_TYPE))
        ]
        found = names(disk(tmp_path, (one, TYPED), *parts))
        assert found[4:] == ["home", "home/hidden", "srv", "srv/on-srv", "usr", "usr/on-usr"]

    def test_not_what_fstab_has_as_noauto(self, tmp_path: Path) -> None:
        two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
        one = root(tmp_path, f"UUID={HOME} /home/ ext4 noauto\n")
        assert "home/you" not in names(disk(tmp_path, (one, TYPED), (two, f"type={HOME_TYPE}")))

    def test_not_what_is_to_be_left_alone(self, tmp_path: Path) -> None:
        two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
        path = disk(tmp_path, (root(tmp_path, ""), TYPED), (two, f'type={HOME_TYPE}, attrs="GUID:63"'))
        assert "home/you" not in names(path)

    def test_var_of_this_machine_alone(self, tmp_path: Path) -> None:
        """The UUID is what systemd-id128 machine-id --app-specific=(the type) says of this machine."""
        one = root(tmp_path, "", **{"etc/machine-id": "0123456789abcdef0123456789abcdef\n"})
        two = filesystem(tmp_path, "var", {"log": "x"}, HOME)
        for uuid, is_there in (("c0c46eff-e386-4746-a2bd-0962cd326ea2", True), (OTHER, False)):
            path = disk(tmp_path, (one, TYPED), (two, f"type={VAR_TYPE}, uuid={uuid}"))
            assert ("var/log" in names(path)) is is_there


def test_two_of_one_name(tmp_path: Path) -> None:
    two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
    three = filesystem(tmp_path, "other", {"you": "x"}, HOME)
    path = disk(tmp_path, (root(tmp_path, f"UUID={HOME} /home ext4"), TYPED), (two, TYPED), (three, TYPED))
    with pytest.raises(UnsupportedFeature, match="2 are called so: partition 2"):
        names(path)


def test_what_is_there_and_cannot_be_read(tmp_path: Path) -> None:
    two = tmp_path / "luks"
    two.write_bytes(b"LUKS\xba\xbe".ljust(MiB, b"\0"))
    path = disk(tmp_path, (root(tmp_path, "PARTLABEL=secret /var ext4"), TYPED), (two, f'{TYPED}, name="secret"'))
    with pytest.raises(UnsupportedFeature, match=r"'/var' is on partition 2 \(LUKS, .*not supported yet"):
        names(path)


def test_a_mount_point_that_is_a_file(tmp_path: Path) -> None:
    two = filesystem(tmp_path, "home", {"you": "x"}, HOME)
    path = disk(tmp_path, (root(tmp_path, f"UUID={HOME} /etc/fstab ext4"), TYPED), (two, TYPED))
    with pytest.raises(CorruptImage, match="fstab"):
        names(path)


def test_volumes_and_xfs(tmp_path: Path) -> None:
    """As Rocky has it: the root on a volume, and what is mounted on another of the group, whose name has a hyphen."""
    one = root(tmp_path, "/dev/mapper/vg-ho--me /home xfs defaults 0 0\n/dev/vg/other /srv ext4\n")
    two = filesystem(tmp_path, "home", {}, HOME, "xfs")
    three = filesystem(tmp_path, "other", {"served": "x"}, OTHER)
    texts, first, data = [], 0, b""
    for name, image in (("root", one), ("ho-me", two), ("other", three)):
        count = image.stat().st_size // lvm_images.EXTENT
        texts.append(lvm_images.volume(name, lvm_images.segment(0, count, ("pv0", first))))
        first += count
        data += image.read_bytes()
    size = len(data) + lvm_images.PE_START
    path = lvm_images.physical(
        tmp_path / "pv", lvm_images.UUIDS[0], lvm_images.group(*texts, uuids=lvm_images.UUIDS[:1]), size
    )
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, lvm_images.PE_START)
    found = names(disk(tmp_path, (path, TYPED)))
    assert found == ["", "etc", "etc/fstab", "etc/os-release", "home", "srv", "srv/served"]


def test_subvolumes_as_fedora_has_them(tmp_path: Path) -> None:
    """The tree is what the kernel shows of the same mounts."""
    # A new one: Linux mounts one btrfs of each UUID at a time.
    uuid = str(uuid4())
    need("mkfs.btrfs", "btrfs")
    image = tmp_path / "btrfs"
    with image.open("wb") as file:
        file.truncate(128 * MiB)
    tool("mkfs.btrfs", "-q", "-U", uuid, str(image))
    with mounts.mounted(image, "rw") as folder:
        for name in ("root", "home", "var", "snapshots"):
            tool("btrfs", "subvolume", "create", str(folder / name))
        for name in ("root/etc/os-release", "home/you/file", "var/lib/x", "snapshots/nothing"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        lines = [
            f"UUID={uuid} {point} btrfs {options} 0 0"
            for point, options in (
                ("/", "subvol=root,compress=zstd:1"),
                ("/home", "subvol=/home"),
                ("/var", "subvol=var"),
                # What contains the root would be in it again.
                ("/.all", "subvolid=5"),
            )
        ]
        (folder / "root/etc/fstab").write_text("\n".join(lines))
        (folder / "root/home").mkdir(mode=0o700)
    path = disk(tmp_path, (image, TYPED))
    expected = tmp_path / "expected"
    with mounts.mounted(image, "ro,subvol=root") as folder:
        shutil.copytree(folder, expected)
    with mounts.mounted(image, "ro") as folder:
        for name in ("home", "var"):
            shutil.rmtree(expected / name, ignore_errors=True)
            shutil.copytree(folder / name, expected / name)
        shutil.copystat(folder / "root", expected)
        with disk_tree.load(path) as tree:
            assert differences(of_folder(expected), of_tree(tree)) == []


def test_a_subvolume_that_is_not_there(tmp_path: Path) -> None:
    need("mkfs.btrfs")
    two = tmp_path / "data"
    btrfs_images.make(two, "-U", HOME)
    path = disk(tmp_path, (root(tmp_path, f"UUID={HOME} /home btrfs subvol=no"), TYPED), (two, TYPED))
    with pytest.raises(UnsupportedFeature, match="'/home' is the subvolume no of partition 2"):
        names(path)
