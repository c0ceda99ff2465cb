from __future__ import annotations

import io
import lzma
import tarfile
from typing import TYPE_CHECKING

import pytest

from recipes.formats.io.probe import HEAD, detect, probe
from tests.kit.oracles import need
from tests.kit.qcow2_images import run

if TYPE_CHECKING:
    from pathlib import Path

PE = b"MZ".ljust(0x3C, b"\0") + b"\x80\0\0\0" + bytes(0x40) + b"PE\0\0"
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
        (b"Q", b"", "text"),
        (b"\0", b"", "raw"),
        (b"\x50\x2a\x4d\x18", b"", "zstd"),
        (b"LZIP\1", b"", "lzip"),
        (b"\x1f\x9d\x90", b"", "compress"),
        (b"\x1f\x9d\x99", b"", "raw"),
        (b"\x1f\x9d", b"", "raw"),
        (b"070701", b"", "cpio"),
        (b"!<arch>\ndebian-binary", b"", "ar"),
        (b"\x7fELF\2\1", b"", "elf"),
        (PE, b"", "pe"),
        (PE + b".linux\0\0", b"", "uki"),
        # A disk that firmware may start as a program: a partition table tells more than its first bytes.
        (PE.ljust(512, b"\0") + b"EFI PART", b"", "raw"),
        (b"MZ" + bytes(200), b"", "raw"),
        (b"MZ" + bytes(508) + b"\x55\xaa\xeb\x6eHdrS", b"", "linux"),
        (b"MZ" + bytes(54) + b"ARM\x64", b"", "linux"),
        (lzma.compress(b"x" * 1000, lzma.FORMAT_ALONE), b"", "lzma"),
        (
            lzma.compress(
                b"x" * 1000, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 3 << 19}], format=lzma.FORMAT_ALONE
            ),
            b"",
            "lzma",
        ),
        (b"\x5d" + bytes(600), b"", "raw"),
        (b"x" * 600, b"x" * 512, "text"),
        (b"x" * 600, bytes(512), "raw"),
        (b"x" * 510 + b"\x55\xaa" + b"x" * 88, b"x" * 512, "raw"),
        (MBR, MBR, "raw"),
        (MBR + b"EFI PART", bytes(512), "raw"),
        (bytes(0x8001) + b"CD001", b"", "iso9660"),
        (MBR + bytes(0x8001 - 512) + b"CD001", b"", "iso9660"),
        (MBR, b"conectix" + bytes(504), "vhd"),
        (MBR, b"\0conectix" + bytes(503), "vhd"),
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


def test_a_tar_archive_of_v7(tmp_path: Path) -> None:
    info = tarfile.TarInfo("etc/os-release")
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[257:] = bytes(255)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 0x20 + sum(header[156:]))
    assert detect(bytes(header)) == "tar"
    header[0] ^= 1
    assert detect(bytes(header)) == "raw"


def test_the_name_of_the_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk.qcow2").write_bytes(bytes(2 * HEAD))
    assert probe(tmp_path / "disk.qcow2") == "raw"
