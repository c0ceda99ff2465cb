"""Which format a file has, by its magic and never by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import text

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

#: Formats of disks that are not their own bytes.
DISK_FORMATS = frozenset(
    {"qcow", "qcow2", "vmdk", "vhdx", "vhd", "asif", "sparseimage", "qed", "parallels", "bochs", "vdi", "dmg"}
)

#: In the order in which they are tried: what is at the very beginning of a file is surest.
MAGICS = (
    Magic("qcow", 0, b"QFI\xfb\x00\x00\x00\x01"),
    Magic("qcow2", 0, b"QFI\xfb"),
    Magic("vmdk", 0, b"KDMV"),
    Magic("vmdk", 0, b"COWD"),
    Magic("vmdk", 0, b"\xbe\xba\xfe\xca\x00\x00\x00\x00"),
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
    # pzstd begins its files with a skippable frame (RFC 8878, section 3.1.2).
    *(Magic("zstd", 0, bytes([number]) + b"\x2a\x4d\x18") for number in range(0x50, 0x60)),
    Magic("lz4", 0, b"\x04\x22\x4d\x18"),
    Magic("lz4", 0, b"\x02\x21\x4c\x18"),
    Magic("lzip", 0, b"LZIP"),
    Magic("lzop", 0, b"\x89LZO\x00\r\n\x1a\n"),
    Magic("lrzip", 0, b"LRZI"),
    Magic("snappy", 0, b"\xff\x06\x00\x00sNaPpY"),
    Magic("zip", 0, b"PK\x03\x04"),
    Magic("zip", 0, b"PK\x05\x06"),
    Magic("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    Magic("rar", 0, b"Rar!\x1a\x07"),
    Magic("cab", 0, b"MSCF\x00\x00\x00\x00"),
    Magic("wim", 0, b"MSWIM\x00\x00\x00"),
    Magic("xar", 0, b"xar!"),
    Magic("cpio", 0, b"070701"),
    Magic("cpio", 0, b"070702"),
    Magic("cpio", 0, b"070707"),
    Magic("ar", 0, b"!<arch>\n"),
    Magic("rpm", 0, b"\xed\xab\xee\xdb"),
    Magic("elf", 0, b"\x7fELF"),
    Magic("android-sparse", 0, b"\x3a\xff\x26\xed"),
    Magic("android-boot", 0, b"ANDROID!"),
    Magic("device-tree", 0, b"\xd0\x0d\xfe\xed"),
    Magic("u-boot", 0, b"\x27\x05\x19\x56"),
    Magic("pdf", 0, b"%PDF-"),
    Magic("png", 0, b"\x89PNG\r\n\x1a\n"),
    Magic("torrent", 0, b"d8:announce"),
    Magic("zsync", 0, b"zsync: "),
    Magic("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    Magic("tar", 257, b"ustar"),
    Magic("iso9660", 0x8001, b"CD001"),
    Magic("vhd", -512, b"conectix"),
    # Virtual PC before 2004 left out the footer's last byte.
    Magic("vhd", -511, b"conectix"),
    Magic("dmg", -512, b"koly"),
    # What follows is short, or not at the beginning: a disk with one of the former is surely a disk.
    Magic("raw", 512, b"EFI PART"),
    Magic("raw", 4096, b"EFI PART"),
    # Documentation/arch/x86/boot.rst; arm64/booting.rst.
    Magic("linux", 0x202, b"HdrS"),
    Magic("linux", 0x38, b"ARM\x64"),
)

#: What tells that a file is a disk, or a file system on one, whatever its size: only such a one may end within a
#: sector. A boot sector of any kind, a GPT, and squashfs, which alone of the file systems need not fill a sector.
_STRUCTURE = ((510, b"\x55\xaa"), (512, b"EFI PART"), (4096, b"EFI PART"), (0, b"hsqs"))


def detect(head: bytes, tail: bytes = b"") -> str:
    """Name the format of a file from its first `HEAD` bytes and, where they are at hand, its last `TAIL`.

    ``raw`` is what nothing else claims, so also a disk with an MBR or a GPT, a bare file system, zeros, and data that
    nobody knows: a disk need not have any structure. Text, programs and archives are certain, and are no disks.

    >>> detect(b"QFI\\xfb\\0\\0\\0\\3"), detect(b"\\x1f\\x8b\\x08"), detect(bytes(512))
    ('qcow2', 'gzip', 'raw')
    """
    for name, offset, value in MAGICS:
        at, data = (offset, head) if offset >= 0 else (len(tail) + offset, tail)
        if at >= 0 and data.startswith(value, at):
            return name
    if _is_compress(head):
        return "compress"
    if _is_lzma(head):
        return "lzma"
    if _is_old_tar(head):
        return "tar"
    return _program(head) or (None if has_structure(head) else text.detect(head, tail)) or "raw"


def has_structure(head: bytes) -> bool:
    """Say whether a file that begins with `head` is a disk for certain, and not only for want of a better name."""
    return any(head.startswith(value, at) for at, value in _STRUCTURE) or head.startswith(b"CD001", 0x8001)


def _is_compress(head: bytes) -> bool:
    """Say whether `head` is one of compress(1): two bytes of magic, and 9 to 16 bits a code."""
    return head.startswith(b"\x1f\x9d") and len(head) > 2 and 9 <= head[2] & 0x1F <= 16


def _is_lzma(head: bytes) -> bool:
    """Say whether `head` is one of LZMA_Alone, which has no magic, as liblzma's lzma_alone_decoder does (picky)."""
    if len(head) < 14 or head[0] != 0x5D or head[13] != 0:
        return False
    window, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    bits = window.bit_length() - 1
    powers = {1 << bits, 3 << bits - 1, (1 << 32) - 1} if bits >= 12 else set()
    return window in powers and (size == (1 << 64) - 1 or size < 1 << 38)


def _is_old_tar(head: bytes) -> bool:
    """Say whether `head` is the header of a tar of v7, which has no magic: its checksum holds."""
    field = head[148:156].strip(b" \0")
    if len(head) < 512 or not field or not all(digit in b"01234567" for digit in field):
        return False
    return int(field, 8) == sum(head[:148]) + 8 * 0x20 + sum(head[156:512])


def _program(head: bytes) -> str | None:
    """Name a program for EFI or Windows (PE, "MS-DOS Stub"), one with Linux in it for a unified kernel image."""
    at = int.from_bytes(head[0x3C:0x40], "little")
    if not head.startswith(b"MZ") or not head.startswith(b"PE\0\0", at):
        return None
    # The table of sections (UAPI Group, Unified Kernel Image).
    return "uki" if b".linux\0\0" in head[at : at + 4096] else "pe"


def probe(path: Path) -> str:
    """Name the format of the file at `path`, as `detect` does."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        return detect(head, file.read(TAIL))
