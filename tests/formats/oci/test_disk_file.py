"""The disk in a container image: the one file in /disk, whatever the layers did on the way."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.context import Context
from recipes.formats.oci.disk_file import extract, is_archive
from tests.kit.registries import image, layer, write_layout

if TYPE_CHECKING:
    from pathlib import Path

DISK = b"MBR" + bytes(1 << 20) + b"end"


def written(folder: Path, *layers: bytes) -> Path:
    write_layout(folder / "layout", image(*layers))
    return folder / "layout"


def link(name: str, target: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        tar.addfile(member)
    return out.getvalue()


def disk_of(folder: Path, *layers: bytes, name: str = "", limit: int = 1 << 40) -> bytes:
    path, to = written(folder, *layers), folder / "disk"
    context = Context(limit=limit, scratch=lambda: folder / "scratch")
    extract(path, to, context, arch="x86_64", name=name)
    return to.read_bytes()


def test_the_only_file(tmp_path: Path) -> None:
    assert disk_of(tmp_path, layer({"disk/disk.img": DISK, "disk/below/b": b"", "etc/a": b""})) == DISK


def test_the_upper_layer_counts(tmp_path: Path) -> None:
    lower, upper = layer({"disk/a": b"old", "disk/b": b"gone"}), layer({"disk/a": DISK, "disk/.wh.b": b""})
    assert disk_of(tmp_path, lower, upper) == DISK


def test_one_of_several(tmp_path: Path) -> None:
    assert disk_of(tmp_path, layer({"disk/a": b"a", "disk/b": DISK}), name="b") == DISK


def test_several(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature, match="expected one disk in /disk, found 'a', 'b'") as caught:
        disk_of(tmp_path, layer({"disk/b": b"", "disk/a": b""}))
    assert caught.value.hint == "declare the file's name as disktype"
    assert not (tmp_path / "disk").exists()


def test_none(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature, match="is a container image without a disk in /disk"):
        disk_of(tmp_path, layer({"disk.img": DISK}))


@pytest.mark.parametrize(("name", "target"), [("disk/a", "../etc/passwd"), ("disk", "etc")])
def test_links_are_not_followed(tmp_path: Path, name: str, target: str) -> None:
    with pytest.raises(UnsupportedFeature, match="without a disk in /disk"):
        disk_of(tmp_path, layer({"etc/passwd": DISK}), link(name, target))


def test_no_larger_than_allowed(tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded):
        disk_of(tmp_path, layer({"disk/a": DISK}), limit=len(DISK) - 1)
    assert not (tmp_path / "disk").exists()


def test_what_is_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"oci-layout" + bytes(600))
    (tmp_path / "b").write_bytes(DISK)
    assert [is_archive(tmp_path / name) for name in "ab"] == [True, False]
