"""Subvolumes, snapshots and which of them is the root, against Linux and btrfs-progs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import UnsupportedFeature
from recipes.formats.fs import btrfs
from recipes.formats.io.source import FileSource
from recipes.formats.tree.tree import Tree
from tests.kit.btrfs_images import agrees_with_the_kernel, facts, make, mounted, sync
from tests.kit.ext4_images import tool
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path


def subvolume(path: Path, *, snapshot: Path | None = None, read_only: bool = False) -> Path:
    """Make a subvolume, or a snapshot of one."""
    need("btrfs")
    if snapshot is None:
        tool("btrfs", "subvolume", "create", str(path))
    else:
        tool("btrfs", "subvolume", "snapshot", *(["-r"] if read_only else []), str(snapshot), str(path))
    return path


def os_release(root: Path, name: str = "test") -> None:
    """Make a root file system of the folder."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/os-release").write_text(f"ID={name}\n")


def set_default(folder: Path, at: Path) -> None:
    """Make the subvolume `at` the default of the file system that is mounted on `folder`."""
    tool("btrfs", "subvolume", "set-default", str(at))
    assert folder.is_dir()


def chosen(image: Path) -> bytes:
    """Return which subvolume is taken for the root."""
    with image.open("rb") as file:
        return btrfs.open(FileSource(file.fileno(), "the image")).root.path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "image"
    make(image)
    return image


@pytest.fixture
def nested(image: Path) -> Path:
    """Return subvolumes in subvolumes, snapshots of these, some renamed, some deleted."""
    with mounted(image, "compress-force=zstd", "user_subvol_rm_allowed") as folder:
        (folder / "plain/deep").mkdir(parents=True)
        one = subvolume(folder / "plain/deep/one")
        (one / "file").write_bytes(b"one" * 10_000)
        (one / "d").mkdir()
        two = subvolume(one / "d/two")
        (two / "file").write_bytes(b"two" * 10_000)
        gone = subvolume(one / "gone")
        (gone / "file").touch()
        sync(folder)
        subvolume(folder / "snapshot", snapshot=one)
        subvolume(folder / "read-only", snapshot=one, read_only=True)
        (one / "file").write_bytes(b"new" * 10_000)
        (one / "added").touch()
        two.rename(one / "renamed")
        subvolume(folder / "snapshot/d/inner", snapshot=two.with_name("renamed").parent.parent / "renamed")
        tool("btrfs", "subvolume", "delete", str(gone))
        sync(folder)
    return image


def test_nested_subvolumes_and_snapshots(nested: Path) -> None:
    found = agrees_with_the_kernel(nested)
    assert found[b"plain/deep/one/renamed/file"].digest == found[b"snapshot/d/inner/file"].digest
    # The names of what the snapshots do not have.
    assert {b"snapshot/d/two", b"read-only/gone", b"read-only/d/two"} <= found.keys()


@pytest.mark.parametrize("path", ["plain/deep/one", "snapshot", "read-only", "plain/deep/one/renamed", "/snapshot/"])
def test_each_subvolume(nested: Path, path: str) -> None:
    agrees_with_the_kernel(nested, f"subvol={path}", which=path.encode())


def test_the_list_is_that_of_btrfs(nested: Path) -> None:
    with mounted(nested, "ro") as folder:
        lines = tool("btrfs", "subvolume", "list", "-a", str(folder)).splitlines()
    expected = {}
    for line in lines:
        words = line.split(maxsplit=8)
        expected[int(words[1])] = words[8].removeprefix("<FS_TREE>/").encode()
    with nested.open("rb") as file:
        system = btrfs.open(FileSource(file.fileno(), "the image"))
        found = {each.number: each.path for each in system.all()}
        assert found.pop(5) == b""
        assert found == expected
        assert {each.path for each in system.all() if each.read_only} == {b"read-only"}
        for number, path in found.items():
            for which in (number, path, b"/" + path):
                each = system.subvolume(which)
                assert each is not None
                assert each.number == number
        top = system.subvolume(0)
        assert top is not None
        assert top.number == 5
        assert system.subvolume(77) is None
        assert system.subvolume(b"plain/deep") is None
        assert system.subvolume(b"plain/none") is None
        # The name in a snapshot, without the subvolume.
        assert system.subvolume(b"read-only/d/two") is None


def test_the_default_subvolume_is_the_root(image: Path) -> None:
    with mounted(image) as folder:
        os_release(folder)
        os_release(subvolume(folder / "root"))
        os_release(subvolume(folder / "other"))
        set_default(folder, folder / "other")
    assert chosen(image) == b"other"
    assert facts(image, None).keys() == {b"", b"etc", b"etc/os-release"}


def test_the_usual_names_follow(image: Path) -> None:
    with mounted(image) as folder:
        os_release(subvolume(folder / "@rootfs"))
        os_release(subvolume(folder / "@"))
        subvolume(folder / "root")
        set_default(folder, subvolume(folder / "empty"))
    assert chosen(image) == b"@"


def test_the_top_level_goes_before_the_usual_names(image: Path) -> None:
    with mounted(image) as folder:
        os_release(folder)
        os_release(subvolume(folder / "root"))
    assert chosen(image) == b""


def test_the_only_one_with_an_os_release(image: Path) -> None:
    with mounted(image) as folder:
        os_release(subvolume(folder / "unusual"))
        subvolume(folder / "kept", snapshot=folder / "unusual", read_only=True)
        (folder / "home/.snapshots").mkdir(parents=True)
        subvolume(folder / "home/.snapshots/1", snapshot=folder / "unusual")
    assert chosen(image) == b"unusual"


def test_several_with_an_os_release_are_named(image: Path) -> None:
    with mounted(image) as folder:
        os_release(subvolume(folder / "one"))
        os_release(subvolume(folder / "two"))
    with pytest.raises(UnsupportedFeature, match="found 2: 256 at 'one'; 257 at 'two'"):
        facts(image, None)


def test_none_with_an_os_release(image: Path) -> None:
    with mounted(image) as folder:
        (folder / "file").touch()
        subvolume(folder / "data")
    assert chosen(image) == b""


def test_exists_is_what_linux_says(image: Path) -> None:
    with mounted(image) as folder:
        (folder / "usr/lib").mkdir(parents=True)
        (folder / "usr/lib/os-release").touch()
        (folder / "etc").symlink_to("usr/lib")
        (folder / "absolute").symlink_to("/usr/./lib//os-release")
        (folder / "above").symlink_to("../../../usr/lib/../lib/os-release")
        (folder / "dangling").symlink_to("nothing")
        (folder / "self").symlink_to("self")
        (subvolume(folder / "var") / "file").touch()
        (folder / "into").symlink_to("var/file")
        for number in range(3000):
            (folder / f"usr/{number}").touch()
    with image.open("rb") as file:
        system = btrfs.open(FileSource(file.fileno(), "the image"))
        there = ("", "/", "etc", "etc/os-release", "absolute", "above", "var", "var/file", "into", "usr/2999", "usr/..")
        assert [path for path in there if not system.exists(path.encode())] == []
        absent = ("none", "dangling", "self", "etc/none", "absolute/x", "usr/3000", "var/none", "usr/29999", "n" * 255)
        assert [path for path in absent if system.exists(path.encode())] == []
        var = system.subvolume(b"var")
        assert var is not None
        assert var.exists(b"file")


def test_many_snapshots_cost_what_they_show(image: Path) -> None:
    with mounted(image) as folder:
        one = subvolume(folder / "one")
        for number in range(200):
            (one / f"{number}").touch()
        for number in range(60):
            subvolume(folder / f"s{number}", snapshot=one)
    with image.open("rb") as file, Tree() as tree:
        system = btrfs.open(FileSource(file.fileno(), "the image"))
        top = system.subvolume(5)
        assert top is not None
        top.fill(tree)
        assert sum(1 for _ in tree.walk()) == 1 + 61 * 201
