"""Which of several file systems is the root, why, and who is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from recipes.__main__ import main
from recipes.errors import UnsupportedFeature
from recipes.formats.fs import root as disk_tree
from recipes.formats.io.context import Context
from recipes.formats.tar import read as tar_read
from recipes.rootplace import ANYWHERE, RootPlace
from tests.kit import btrfs_images, mounts
from tests.kit.ext4_images import MiB, copy, tool
from tests.kit.layouts import HOME, OTHER, ROOT, TYPED, X86_64, Notes, disk, entry, filesystem, root
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path


def taken(path: Path, place: str = "") -> tuple[str, list[str]]:
    """Return what the file `which` of the root says, and what was said."""
    notes = Notes()
    where = RootPlace.parse(place) if place else ANYWHERE
    with disk_tree.load(path, Context(notes, "rootfs:x"), place=where) as tree:
        node = tree.find(b"which")
        assert node is not None
        return b"".join(piece for _, piece in node.chunks(100)).decode(), notes.said


def two_roots(folder: Path, *more: tuple[Path, str], fstabs: tuple[str, str] = ("", ""), kind: str = TYPED) -> Path:
    """Two roots of one size, on partitions 1 and 2, and more behind them."""
    one = root(folder, fstabs[0], "one", ROOT, which="one")
    two = root(folder, fstabs[1], "two", HOME, which="two")
    return disk(folder, (one, kind), (two, kind), *more)


class TestDualBoot:
    def test_the_boot_entry_decides(self, tmp_path: Path) -> None:
        boot = filesystem(tmp_path, "boot", {"loader/entries/m-6.9.conf": entry(f"ro root=UUID={HOME}")}, OTHER)
        which, said = taken(two_roots(tmp_path, (boot, TYPED)))
        assert which == "two"
        assert [re.sub(r" \(.*?\)", "", each) for each in said] == [
            "rootfs:x: several roots: partition 2 is taken, since the boot entry 'm-6.9' names it, and not "
            "partition 1; "
            'root = "partition 2" in images.toml decides; in single steps --root does the same'
        ]

    def test_grub_s_configuration_decides(self, tmp_path: Path) -> None:
        text = f"menuentry 'Linux' {{\n linux /vmlinuz root=UUID={HOME} ro\n initrd /i\n}}\n"
        boot = filesystem(tmp_path, "boot", {"grub/grub.cfg": text}, OTHER)
        which, said = taken(two_roots(tmp_path, (boot, TYPED)))
        assert which == "two"
        assert ["the boot entry 'Linux' names it" in each for each in said] == [True]

    def test_also_between_partitions_with_the_type(self, tmp_path: Path) -> None:
        boot = filesystem(tmp_path, "boot", {"loader/entries/m-6.9.conf": entry(f"ro root=UUID={HOME}")}, OTHER)
        assert taken(two_roots(tmp_path, (boot, TYPED), kind=f"type={X86_64}"))[0] == "two"

    def test_the_fstab_that_has_itself(self, tmp_path: Path) -> None:
        """As a copy of a root has it, whose fstab is that of the original."""
        line = f"UUID={HOME} / ext4 defaults 0 1\n"
        which, said = taken(two_roots(tmp_path, fstabs=(line, line)))
        assert which == "two"
        assert ["since its fstab has itself at /" in each for each in said] == [True]

    def test_the_first_with_the_type(self, tmp_path: Path) -> None:
        which, said = taken(two_roots(tmp_path, kind=f"type={X86_64}"))
        assert which == "one"
        assert ["since it is the first with the type" in each for each in said] == [True]

    def test_the_largest(self, tmp_path: Path) -> None:
        large = root(tmp_path, "", "large", ROOT, which="large")
        with large.open("r+b") as file:
            file.truncate(6 * MiB)
        tool("resize2fs", str(large))
        small = root(tmp_path, "", "small", HOME, which="small")
        which, said = taken(disk(tmp_path, (small, TYPED), (large, TYPED)))
        assert which == "large"
        assert ["since it is the largest" in each for each in said] == [True]

    def test_nothing_decides(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedFeature, match="several of one size, and nothing tells") as caught:
            taken(two_roots(tmp_path))
        assert 'root = "partition 1"' in (caught.value.hint or "")

    def test_boot_loaders_that_differ_decide_nothing(self, tmp_path: Path) -> None:
        boots = [
            (filesystem(tmp_path, name, {"loader/entries/m.conf": entry(f"root=UUID={uuid}")}, OTHER), TYPED)
            for name, uuid in (("b1", ROOT), ("b2", HOME))
        ]
        with pytest.raises(UnsupportedFeature, match="nothing tells"):
            taken(two_roots(tmp_path, *boots))

    @pytest.mark.parametrize(("place", "which"), [("partition 1", "one"), ("partition 2", "two")])
    def test_what_is_declared_decides_and_is_not_said(self, tmp_path: Path, place: str, which: str) -> None:
        assert taken(two_roots(tmp_path), place) == (which, [])


def test_single_steps_say_it_once_and_take_the_last_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = two_roots(tmp_path, kind=f"type={X86_64}")
    assert main(["rootfs", str(path), str(tmp_path / "one.tar")]) == 0
    assert capsys.readouterr().err.count("several roots: partition 1") == 1
    assert main(["rootfs", "--root", "partition 2", str(path), str(tmp_path / "two.tar")]) == 0
    assert capsys.readouterr().err == ""
    with tar_read.load(tmp_path / "two.tar") as tree:
        node = tree.find(b"which")
        assert node is not None
        assert next(node.chunks(10)) == (0, b"two")


class TestDeclared:
    def test_a_partition_without_any_mark(self, tmp_path: Path) -> None:
        other = filesystem(tmp_path, "other", {"which": "other"}, OTHER)
        assert taken(two_roots(tmp_path, (other, TYPED)), "partition 3") == ("other", [])

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("partition 7", "the root is to be partition 7, found partition 1"),
            ("volume a/b", "the root is to be volume a/b, found partition 1"),
            ("partition 3", "the root is to be partition 3 .*, which is not supported"),
            ("partition 1, subvolume x", "is to be a subvolume, and partition 1 .* has none: only btrfs has"),
            ("subvolume x", "is to be subvolume x, which no btrfs has: partition 1"),
            ("deployment x.0", "expected a partition with the type"),
            ("partition 1, deployment x.0", "expected one deployment of ostree called x.0.*; found none"),
        ],
    )
    def test_what_is_not_there(self, tmp_path: Path, place: str, message: str) -> None:
        empty = tmp_path / "empty"
        empty.write_bytes(bytes(MiB))
        with pytest.raises(UnsupportedFeature, match=message):
            taken(two_roots(tmp_path, (empty, TYPED)), place)


@pytest.fixture(scope="module")
def uuid() -> str:
    """A new one: Linux mounts one btrfs of each UUID at a time."""
    return str(uuid4())


@pytest.fixture
def subvolumes(tmp_path: Path, made: Path) -> Path:
    """A copy of it, which may be changed."""
    return copy(made, tmp_path / "btrfs")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, uuid: str) -> Path:
    """A btrfs with roots in the subvolumes one and two, neither of which is the default."""
    need("btrfs")
    image = tmp_path_factory.mktemp("subvolumes") / "btrfs"
    btrfs_images.make(image, "-U", uuid, size=128 * MiB)
    with mounts.mounted(image, "rw") as folder:
        for name in ("one", "two", "boot"):
            tool("btrfs", "subvolume", "create", str(folder / name))
        for name in ("one", "two"):
            (folder / name / "etc").mkdir()
            (folder / name / "etc/os-release").touch()
            (folder / name / "which").write_text(name)
    return image


class TestSubvolumes:
    @pytest.mark.parametrize("options", ["rootflags=subvol=two", "rootflags=compress=zstd:1,subvol=/two ro"])
    def test_the_boot_entry_decides(self, tmp_path: Path, subvolumes: Path, uuid: str, options: str) -> None:
        text = entry(f"root=UUID={uuid} {options}")
        boot = filesystem(tmp_path, "boot", {"loader/entries/m.conf": text}, OTHER)
        assert taken(disk(tmp_path, (boot, TYPED), (subvolumes, TYPED))) == ("two", [])

    def test_an_entry_in_a_subvolume(self, tmp_path: Path, subvolumes: Path, uuid: str) -> None:
        """As Fedora 44 has it."""
        with mounts.mounted(subvolumes, "rw") as folder:
            (folder / "boot/loader/entries").mkdir(parents=True)
            (folder / "boot/loader/entries/m.conf").write_text(entry(f"root=UUID={uuid} rootflags=subvol=two"))
        assert taken(disk(tmp_path, (subvolumes, TYPED))) == ("two", [])

    def test_grub_s_configuration_in_a_subvolume(self, tmp_path: Path, subvolumes: Path, uuid: str) -> None:
        """As kiwi has it where it sets no default."""
        with mounts.mounted(subvolumes, "rw") as folder:
            (folder / "boot/grub2").mkdir()
            text = f"menuentry 'Linux' {{\n linux /v root=UUID={uuid} rootflags=subvol=two\n}}\n"
            (folder / "boot/grub2/grub.cfg").write_text(text)
        assert taken(disk(tmp_path, (subvolumes, TYPED))) == ("two", [])

    @pytest.mark.parametrize(
        "options", [f"root=UUID={HOME} rootflags=subvol=two", "rootflags=subvol=three", "rootflags=ro", "ro"]
    )
    def test_an_entry_of_another_root_decides_nothing(self, tmp_path: Path, subvolumes: Path, options: str) -> None:
        boot = filesystem(tmp_path, "boot", {"loader/entries/m.conf": entry(options)}, OTHER)
        path = disk(tmp_path, (boot, TYPED), (subvolumes, TYPED))
        with pytest.raises(UnsupportedFeature, match="expected one subvolume with an os-release, found 2") as caught:
            taken(path)
        assert 'root = "subvolume one"' in (caught.value.hint or "")
        assert taken(path, "subvolume two") == ("two", [])
        assert taken(path, "partition 2, subvolume one") == ("one", [])
        with pytest.raises(
            UnsupportedFeature, match=r"to be subvolume no of partition 2 .*; found 'one', 'two', 'boot'"
        ):
            taken(path, "partition 2, subvolume no")
        assert "subvolume 'two'" in disk_tree.describe(path, limit=1 << 40, place=RootPlace.parse("subvolume two"))
