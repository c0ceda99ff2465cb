from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from recipes.formats.probe import HEAD, detect, probe
from tests.formats.qcow2_images import run
from tests.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MBR = bytes(446) + bytes(64) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("head", "tail", "name"),
    [
        (b"QFI\xfb\0\0\0\1", b"", "qcow"),
        (b"QFI\xfb\0\0\0\2", b"", "qcow2"),
        (b"QFI\xfb\0\0\0\3", b"", "qcow2"),
        (b"# Disk DescriptorFile\nversion=1\n", b"", "vmdk"),
        (b"COWD", b"", "vmdk"),
        (b"shdw", b"", "asif"),
        (b"QED\0", b"", "qed"),
        (b"\x1f\x8b\x08", b"", "gzip"),
        (b"\xfd7zXZ\0", b"", "xz"),
        (b"BZh9", b"", "bzip2"),
        (b"\x28\xb5\x2f\xfd", b"", "zstd"),
        (b"PK\x03\x04", b"", "zip"),
        (b"", b"", "raw"),
        (b"Q", b"", "raw"),
        (MBR, MBR, "raw"),
        (MBR + b"EFI PART", bytes(512), "raw"),
        (bytes(0x8001) + b"CD001", b"", "iso9660"),
        (MBR + bytes(0x8001 - 512) + b"CD001", b"", "iso9660"),
        (MBR, b"conectix" + bytes(504), "vhd"),
        (MBR, b"conectix", "raw"),
        (bytes(600), b"koly" + bytes(508), "dmg"),
    ],
)
def test_magic(head: bytes, tail: bytes, name: str) -> None:
    assert detect(head, tail) == name


@pytest.mark.parametrize(
    ("made_as", "name"),
    [
        ("qcow2", "qcow2"),
        ("qcow", "qcow"),
        ("vmdk", "vmdk"),
        ("vdi", "vdi"),
        ("vpc", "vhd"),
        ("vpc,subformat=fixed", "vhd"),
        ("vhdx", "vhdx"),
        ("qed", "qed"),
        ("parallels", "parallels"),
        ("raw", "raw"),
    ],
)
def test_what_qemu_img_makes(tmp_path: Path, made_as: str, name: str) -> None:
    need("qemu-img")
    kind, _, options = made_as.partition(",")
    run("qemu-img", "create", "-q", "-f", kind, *(["-o", options] if options else []), tmp_path / "disk", "1M")
    assert probe(tmp_path / "disk") == name


def test_a_tar_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "rootfs", "w") as archive:
        archive.addfile(tarfile.TarInfo("etc/os-release"), io.BytesIO())
    assert probe(tmp_path / "rootfs") == "tar"


def test_the_name_of_the_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk.qcow2").write_bytes(bytes(2 * HEAD))
    assert probe(tmp_path / "disk.qcow2") == "raw"
