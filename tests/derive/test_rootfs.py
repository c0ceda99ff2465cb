"""rootfs: what its key is made of, and that a folder of a tarball can be the root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.derive import engine
from recipes.derive.rootfs import parameters
from recipes.errors import UnsupportedFeature
from recipes.formats.tar import read as tar_read
from recipes.rootplace import RootPlace
from tests.kit import layouts, spaces
from tests.kit.machines import Machine
from tests.kit.oci_images import file, folder, tar

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

BOOTSTRAP = tar(
    file("version"),
    folder("root.x86_64"),
    folder("root.x86_64/etc"),
    folder("root.x86_64/bin"),
    folder("root.x86_64/usr"),
)


def machine(path: Path, strip: str) -> Machine:
    made = Machine(path, "registry.invalid", data=BOOTSTRAP)
    source = made.image.source._replace(strip=strip)
    made.image = made.image._replace(kind="rootfs", derive=("rootfs",), source=source)
    return made


def test_a_root_in_a_folder(tmp_path: Path) -> None:
    plain = machine(tmp_path / "plain", "")
    with pytest.raises(UnsupportedFeature, match=r"found one in the folder 'root.x86_64'"):
        plain.build("rootfs")
    assert plain.entry.receipt("rootfs") is None
    stripped = machine(tmp_path / "stripped", "root.x86_64")
    stripped.build("rootfs")
    with tar_read.load(stripped.entry.artifact("rootfs")) as tree:
        assert [path for path, _ in tree.walk()] == [b"", b"bin", b"etc", b"usr"]


def test_the_folder_is_part_of_the_key_where_there_is_one(tmp_path: Path) -> None:
    plain, stripped = machine(tmp_path / "plain", ""), machine(tmp_path / "stripped", "root.x86_64")
    assert parameters(plain.image, plain.identity) == {}
    assert plain.key("rootfs") != stripped.key("rootfs")
    assert plain.key("content") == stripped.key("content")
    assert engine.key_of("vhdx", plain.image, plain.identity) != engine.key_of(
        "vhdx", stripped.image, stripped.identity
    )


def test_where_the_root_is_is_part_of_the_key_where_it_is_said(tmp_path: Path) -> None:
    made = Machine(tmp_path, "registry.invalid", data=BOOTSTRAP)
    disk = made.image._replace(kind="disk")
    said = disk._replace(root=RootPlace.parse(" partition  3"))
    assert (parameters(disk, made.identity), parameters(said, made.identity)) == ({}, {"root": "partition 3"})
    assert engine.key_of("rootfs", disk, made.identity) != engine.key_of("rootfs", said, made.identity)
    assert engine.key_of("raw", disk, made.identity) == engine.key_of("raw", said, made.identity)


def test_what_images_toml_says_is_the_root(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        (layouts.root(tmp_path, "", name, uuid, which=name), layouts.TYPED)
        for name, uuid in (("one", layouts.ROOT), ("two", layouts.HOME))
    ]
    project.declare("a", layouts.disk(tmp_path, *parts).read_bytes(), "a.raw", derive=["rootfs"], root="partition 2")
    space = spaces.opened(project, monkeypatch)
    spaces.build(space, "rootfs", "a")
    with tar_read.load(space.session.store.entry(space.images["a"]).artifact("rootfs")) as tree:
        node = tree.find(b"which")
        assert node is not None
        assert next(node.chunks(10)) == (0, b"two")
