"""What a file is that is not what was expected, in words, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import UnsupportedFeature
from recipes.formats.codec import compression
from recipes.formats.io import probe

from .table import FORMATS, readable

if TYPE_CHECKING:
    from pathlib import Path


class _Foreign(NamedTuple):
    """A format by what people call it, and what helps whoever has one."""

    what: str
    hint: str | None = None


_UNPACK = "unpack it, and take the image that is in it"
_LOOK = "look at it: it may say what to fetch instead"
_KERNEL = "a disk has a boot loader, or at least a file system; this goes onto one"

#: By the names that `probe.detect` gives.
_FOREIGN = {
    "lz4": _Foreign("data that is compressed with lz4", "lz4 -d undoes it"),
    "lzma": _Foreign("data that is compressed with lzma", "xz --format=lzma -dc SRC > DST undoes it"),
    "compress": _Foreign("data that is compressed with compress", "gzip -dc SRC > DST undoes it"),
    "lzip": _Foreign("data that is compressed with lzip", "lzip -d undoes it"),
    "lzop": _Foreign("data that is compressed with lzop", "lzop -d undoes it"),
    "lrzip": _Foreign("data that is compressed with lrzip", "lrzip -d undoes it"),
    "snappy": _Foreign("data that is compressed with snappy"),
    "zip": _Foreign("a zip archive", "python -m recipes content --member NAME SRC DST takes the disk out of it"),
    "7z": _Foreign("a 7z archive", _UNPACK),
    "rar": _Foreign("a rar archive", _UNPACK),
    "cab": _Foreign("a cabinet file", _UNPACK),
    "wim": _Foreign("a Windows image (WIM)", "its files have to be applied to a disk first"),
    "xar": _Foreign("a xar archive", _UNPACK),
    "cpio": _Foreign("a cpio archive, as an initramfs is one", _KERNEL),
    "ar": _Foreign("an ar archive, as a Debian package is one"),
    "rpm": _Foreign("an RPM package"),
    "elf": _Foreign("a program (ELF)", _KERNEL),
    "pe": _Foreign("a program for EFI or Windows", _KERNEL),
    "uki": _Foreign("a unified kernel image", _KERNEL),
    "linux": _Foreign("a Linux kernel", _KERNEL),
    "device-tree": _Foreign("a device tree or a FIT image", _KERNEL),
    "u-boot": _Foreign("an image of U-Boot's", _KERNEL),
    "android-boot": _Foreign("a boot image of Android's", _KERNEL),
    "android-sparse": _Foreign("a sparse image of Android's", "simg2img makes a RAW disk of it"),
    "pdf": _Foreign("a PDF document"),
    "png": _Foreign("a picture (PNG)"),
    "torrent": _Foreign("a torrent, which says where the file is", "fetch what it names"),
    "zsync": _Foreign("a zsync file, which says what the blocks of the file are", "fetch what it names"),
    "html": _Foreign("an HTML page", "a login page, an error page or a captive portal in place of the file"),
    "xml": _Foreign("text (XML)", _LOOK),
    "json": _Foreign("text (JSON)", _LOOK),
    "openpgp": _Foreign("a signature or a key (OpenPGP)", "the file that it is for has almost the same name"),
    "git-lfs": _Foreign("a pointer of Git LFS, not the file itself", "git lfs pull brings the file"),
    "script": _Foreign("a script", _LOOK),
    "text": _Foreign("text", _LOOK),
}


def describe(name: str) -> str:
    """Return what people call the format `name`."""
    if name in _FOREIGN:
        return _FOREIGN[name].what
    if name in compression.CODECS:
        return f"data that is compressed with {name}"
    if name in probe.DISK_FORMATS:
        return f"a disk image in the format {name}"
    return {"tar": "a tar archive", "raw": "a RAW disk", "iso9660": "a RAW disk (ISO 9660)"}.get(name, name)


def refusal(path: Path, name: str, expected: str) -> UnsupportedFeature:
    """Return the error for the file at `path` in the format `name`, which is not the `expected` one."""
    hint = _FOREIGN[name].hint if name in _FOREIGN else None
    if name in compression.CODECS:
        hint = f"python -m recipes content {path} DST undoes the compression"
    elif name in FORMATS:
        hint = f"python -m recipes raw {path} DST makes a RAW disk of it"
    elif name in probe.DISK_FORMATS:
        hint = f"larder reads {readable()}; qemu-img convert makes them from most others"
    elif name == "tar":
        hint = (
            'a root file system in a tarball is kind = "rootfs" in images.toml, a container image is kind = "oci"; '
            f"in single steps python -m recipes rootfs {path} DST takes either"
        )
    return UnsupportedFeature(f"{path}: expected {expected}, found {describe(name)}", hint=hint)
