"""The root of a system that ostree deployed, as ostree itself deploys it."""

from __future__ import annotations

import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from recipes.errors import UnsupportedFeature
from recipes.formats.boot.bls import Entry
from recipes.formats.fs import ostree
from recipes.formats.fs import root as disk_tree
from recipes.formats.io.context import Context
from recipes.formats.tree.tree import Node, Tree
from recipes.rootplace import ANYWHERE, RootPlace
from tests.kit import ostree_images, xfs_images
from tests.kit.ext4_images import MiB, make
from tests.kit.layouts import LINUX, TYPED, Notes, disk, folder_of
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from pathlib import Path


def installed(folder: Path, *versions: str, boot: bool = True) -> tuple[Path, list[str]]:
    """Make a disk as CoreOS has it: /boot on an ext4, the rest on an XFS; return the deployments' names as well."""
    image = xfs_images.make(folder / "xfs", xfs_images.SMALL * 2, "-L", "root")
    with xfs_images.mounted(image, "rw") as mounted:
        names = ostree_images.deploy(folder, mounted, *versions)
        ostree_images.boot_apart(mounted, folder / "boot.d")
        folder_of(mounted / "ostree/deploy" / ostree_images.NAME / "var", {"lib/state": "kept", "home/core/file": "x"})
        newest = mounted / "ostree/deploy" / ostree_images.NAME / "deploy" / names[-1]
        (newest / "etc/hostname").write_text("changed")
        (newest / ".ostree.cfs").write_bytes(b"composefs")
    make(folder / "boot", 4 * MiB, "-t", "ext4", "-L", "boot", "-d", str(folder / "boot.d"))
    parts = [(folder / "boot", f'{TYPED}, name="boot"')] if boot else []
    return disk(folder, *parts, (image, f'type={LINUX}, name="root"')), names


def version(path: Path, place: str = "") -> tuple[str, list[str]]:
    notes = Notes()
    with disk_tree.load(path, Context(notes, "x"), place=RootPlace.parse(place) if place else ANYWHERE) as tree:
        node = tree.find(b"usr/share/version")
        assert node is not None
        return b"".join(piece for _, piece in node.chunks(100)).decode(), notes.said


def test_the_root_as_it_boots(tmp_path: Path) -> None:
    path, (name,) = installed(tmp_path, "1")
    with xfs_images.mounted(tmp_path / "xfs", "ro") as mounted:
        system = mounted / "ostree/deploy" / ostree_images.NAME
        expected = of_folder(system / "deploy" / name, skip=frozenset({b"var"}))
        expected.pop(b".ostree.cfs")
        var = of_folder(system / "var", skip=frozenset())
        for inside, facts in var.items():
            where = b"var/" + inside if inside else b"var"
            expected[where] = facts._replace(first=b"var/" + facts.first if facts.first else b"var")
        with disk_tree.load(path, Context(Notes(), "x")) as tree:
            assert differences(of_tree(tree), expected) == []
            found = {each for each, _ in tree.walk()}
            assert {b"etc/hostname", b"usr/etc/hostname", b"var/home/core/file", b"sysroot"} <= found
            assert not [each for each in found if each.startswith((b"sysroot/", b"ostree/"))]
            # Files of equal content are one, as ostree has them.
            assert tree.find(b"usr/bin/bash") is not None


def test_the_entry_that_boots(tmp_path: Path) -> None:
    """Of two deployments the newest is the first, and what is declared goes before that."""
    path, (first, second) = installed(tmp_path, "1", "2")
    assert version(path) == ("2", [])
    assert version(path, f"deployment {first}") == ("1", [])
    assert version(path, f"partition 2, deployment {second}") == ("2", [])
    with pytest.raises(UnsupportedFeature, match=r"called no\.0, or a boot entry that names one; found deployment"):
        version(path, "deployment no.0")


def test_without_boot(tmp_path: Path) -> None:
    """The only deployment is it; of several none is, and the way out works."""
    (tmp_path / "one").mkdir()
    assert version(installed(tmp_path / "one", "1", boot=False)[0]) == ("1", [])
    (tmp_path / "two").mkdir()
    path, (first, _second) = installed(tmp_path / "two", "1", "2", boot=False)
    with pytest.raises(
        UnsupportedFeature, match=r"expected one deployment of ostree, .*found deployment .*; deployment"
    ):
        version(path)
    assert version(path, f"deployment {first}") == ("1", [])


def tree_of(*files: str) -> Tree:
    tree = Tree()
    for name in files:
        mode = stat.S_IFDIR | 0o755 if name.endswith("/") else stat.S_IFREG | 0o644
        tree.add(name.encode(), Node(mode))
    return tree


HERE = "ostree/deploy/fcos/deploy/a.0"


class TestByHand:
    def test_etc_that_each_boot_makes_anew(self) -> None:
        tree = tree_of(f"{HERE}/usr/etc/a/file", f"{HERE}/usr/bin/sh")
        tree.link(f"{HERE}/usr/etc/b".encode(), f"{HERE}/usr/etc/a/file".encode())
        ostree.deploy(tree, "disk", "", [])
        assert [name for name, _ in tree.walk()][1:5] == [b"etc", b"etc/a", b"etc/a/file", b"etc/b"]
        assert tree.find(b"etc/a/file") is tree.find(b"etc/b")
        assert tree.find(b"etc/a/file") is not tree.find(b"usr/etc/a/file")

    def test_var_that_is_no_folder(self) -> None:
        tree = tree_of(f"{HERE}/usr/", f"{HERE}/var/", "ostree/deploy/fcos/var")
        ostree.deploy(tree, "disk", "", [])
        assert sorted(tree.root.children) == [b"usr", b"var"]

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ([f"{HERE}/.ostree.cfs", f"{HERE}/etc/x"], "deployment 'a.0' of 'fcos' has composefs without a checkout"),
            ([f"{HERE}/etc/x"], "deployment 'a.0' of 'fcos' has no /usr"),
            (["composefs/images/x", "state/deploy/x"], "composefs without a checkout is not supported"),
            (["ostree/deploy/fcos/deploy/a.0.origin"], "found none"),
            (["ostree/deploy"], "found none"),
            ([], "found none"),
        ],
    )
    def test_what_is_none(self, files: list[str], message: str) -> None:
        with pytest.raises(UnsupportedFeature, match=f"disk: .*{message}") as caught:
            ostree.deploy(tree_of(*files), "disk", "", [])
        assert "container image" in (caught.value.hint or "")

    @pytest.mark.parametrize("options", ["", "ostree", "ostree=", "ostree=/nowhere", "ostree=/ostree/deploy", "ro"])
    def test_entries_that_name_none(self, options: str) -> None:
        tree = tree_of(f"{HERE}/usr/", "ostree/deploy/fcos/deploy/b.0/usr/")
        with pytest.raises(UnsupportedFeature, match="expected one deployment"):
            ostree.deploy(tree, "disk", "", [Entry("a", options=options)])

    def test_the_first_entry_that_names_one(self) -> None:
        tree = tree_of(f"{HERE}/usr/", "ostree/deploy/fcos/deploy/b.0/usr/it")
        entries = [Entry("a"), Entry("b", options="ostree=/ostree/deploy/fcos/deploy/b.0"), Entry("c")]
        assert ostree.deploy(tree, "disk", "", entries).name == b"b.0"
        assert tree.find(b"usr/it") is not None


def test_a_plain_root_with_a_folder_ostree_is_none(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "d", {"etc/os-release": "", "ostree/deploy/x/deploy/a.0/usr/x": "", "which": ""})
    make(tmp_path / "image", 4 * MiB, "-t", "ext4", "-d", str(source))
    shutil.rmtree(source)
    with disk_tree.load(disk(tmp_path, (tmp_path / "image", TYPED))) as tree:
        assert tree.find(b"which") is not None
