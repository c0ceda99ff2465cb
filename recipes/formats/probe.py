"""Which format a file has, by its magic and never by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes that `detect` wants of a file's beginning: up to and with the first volume descriptor of ISO 9660.
HEAD = 0x8000 + 2048
#: Bytes that `detect` wants of a file's end: the footers of VHD and DMG.
TAIL = 512


class Magic(NamedTuple):
    """These bytes at this offset make a file one of this format; a negative offset counts from the file's end."""

    format: str
    offset: int
    value: bytes


#: Formats whose bytes are the disk's.
RAW_FORMATS = frozenset({"raw", "iso9660"})

#: In the order in which they are tried: what is at the very beginning of a file is surest.
MAGICS = (
    Magic("qcow", 0, b"QFI\xfb\x00\x00\x00\x01"),
    Magic("qcow2", 0, b"QFI\xfb"),
    Magic("vmdk", 0, b"KDMV"),
    Magic("vmdk", 0, b"COWD"),
    Magic("vmdk", 0, b"# Disk DescriptorFile"),
    Magic("vhdx", 0, b"vhdxfile"),
    Magic("vhd", 0, b"conectix"),
    Magic("asif", 0, b"shdw"),
    Magic("sparseimage", 0, b"sprs"),
    Magic("qed", 0, b"QED\x00"),
    Magic("parallels", 0, b"WithoutFreeSpace"),
    Magic("parallels", 0, b"WithouFreSpacExt"),
    Magic("bochs", 0, b"Bochs Virtual HD Image"),
    Magic("gzip", 0, b"\x1f\x8b"),
    Magic("xz", 0, b"\xfd7zXZ\x00"),
    Magic("bzip2", 0, b"BZh"),
    Magic("zstd", 0, b"\x28\xb5\x2f\xfd"),
    Magic("lz4", 0, b"\x04\x22\x4d\x18"),
    Magic("zip", 0, b"PK\x03\x04"),
    Magic("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    Magic("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    Magic("tar", 257, b"ustar"),
    Magic("iso9660", 0x8001, b"CD001"),
    Magic("vhd", -512, b"conectix"),
    Magic("dmg", -512, b"koly"),
)


def detect(head: bytes, tail: bytes = b"") -> str:
    """Name the format of a file from its first `HEAD` bytes and, where they are at hand, its last `TAIL`.

    ``raw`` is what no magic claims, so also a disk with an MBR or a GPT and a bare file system.
    """
    for name, offset, value in MAGICS:
        at, data = (offset, head) if offset >= 0 else (len(tail) + offset, tail)
        if at >= 0 and data.startswith(value, at):
            return name
    return "raw"


def probe(path: Path) -> str:
    """Name the format of the file at `path`, as `detect` does."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        return detect(head, file.read(TAIL))
