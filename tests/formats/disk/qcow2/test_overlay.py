from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.disk.qcow2.overlay import write_overlay
from recipes.formats.io.sparse import allocated
from tests.kit.oracles import need
from tests.kit.qcow2_images import run

if TYPE_CHECKING:
    from pathlib import Path

GiB = 1 << 30
TiB = 1 << 40


def base(folder: Path, name: str = "base.raw", size: int = 1 << 20) -> Path:
    path = folder / name
    path.write_bytes(b"larder!\n" * (size // 8))
    return path


def info(path: Path) -> dict[str, Any]:
    done = subprocess.run(["qemu-img", "info", "--output=json", path], stdout=subprocess.PIPE, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 512, 10 * GiB, 40 * TiB])
def test_qemu_takes_it(tmp_path: Path, size: int) -> None:
    need("qemu-img")
    base(tmp_path)
    overlay = tmp_path / "disk.qcow2"
    write_overlay(overlay, backing="base.raw", size=size)
    run("qemu-img", "check", "-q", overlay)
    run("qemu-img", "info", "--backing-chain", overlay)
    told = info(overlay)
    assert told["virtual-size"] == size
    assert told["format"] == "qcow2"
    assert told["cluster-size"] == 65536
    assert told["backing-filename"] == "base.raw"
    assert told["backing-filename-format"] == "raw"
    assert told["full-backing-filename"] == str(tmp_path / "base.raw")
    assert allocated(overlay) < 200 * 1024


def test_it_differs_from_what_qemu_img_creates_in_the_feature_names_alone(tmp_path: Path) -> None:
    need("qemu-img")
    base(tmp_path)
    write_overlay(tmp_path / "ours", backing="base.raw", size=3 * GiB)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", tmp_path / "base.raw", tmp_path / "theirs", "3G")
    theirs = info(tmp_path / "theirs")
    ours = info(tmp_path / "ours")
    assert ours["format-specific"] == theirs["format-specific"]
    tail = 65536
    ours_bytes, theirs_bytes = (tmp_path / "ours").read_bytes(), (tmp_path / "theirs").read_bytes()
    assert ours_bytes[tail:].rstrip(b"\0") == theirs_bytes[tail:].rstrip(b"\0")
    # All of the header but for the backing file's offset and length.
    assert ours_bytes[20:112] == theirs_bytes[20:112]


def test_the_base_is_read_and_never_written(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    raw = base(tmp_path)
    before = raw.read_bytes()
    raw.chmod(0o444)
    overlay = tmp_path / "disk.qcow2"
    write_overlay(overlay, backing=raw.name, size=4 << 20)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 90 65536 4096", "-c", "write -q -P 91 2M 64k", overlay)
    run("qemu-io", "-f", "qcow2", "-c", "read -q -P 90 65536 4096", "-c", "read -q -P 0 3M 64k", overlay)
    run("qemu-img", "check", "-q", overlay)
    run("qemu-img", "convert", "-O", "raw", overlay, tmp_path / "flat")
    flat = (tmp_path / "flat").read_bytes()
    assert flat[:65536] == before[:65536]
    assert flat[65536:69632] == b"Z" * 4096
    assert raw.read_bytes() == before


@pytest.mark.parametrize("name", ["vm:1.raw", "json:{}", "a b.raw", "größe.raw"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    need("qemu-img")
    base(tmp_path, name)
    write_overlay(tmp_path / "disk", backing=name, size=1 << 20)
    run("qemu-img", "convert", "-O", "raw", tmp_path / "disk", tmp_path / "flat")
    assert (tmp_path / "flat").read_bytes() == (tmp_path / name).read_bytes()


def test_the_folder_can_move(tmp_path: Path) -> None:
    need("qemu-img")
    (tmp_path / "here").mkdir()
    base(tmp_path / "here")
    write_overlay(tmp_path / "here" / "disk", backing="base.raw", size=1 << 20)
    (tmp_path / "here").rename(tmp_path / "there")
    run("qemu-img", "check", "-q", tmp_path / "there" / "disk")


def test_what_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with pytest.raises(UnsupportedFeature, match="sectors of 512 bytes, and 1000"):
        write_overlay(path, backing="base.raw", size=1000)
    with pytest.raises(UnsupportedFeature, match="more than 1023 bytes"):
        write_overlay(path, backing="x" * 1024, size=GiB)
    with pytest.raises(LimitExceeded, match="at most"):
        write_overlay(path, backing="base.raw", size=3 << 50)
    assert not path.exists()
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write_overlay(path, backing="base.raw", size=GiB)
    assert path.read_bytes() == b"precious"
