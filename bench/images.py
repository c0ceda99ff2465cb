"""The files that are measured: a real Debian disk and a synthetic one, and what distributors make of disks."""

from __future__ import annotations

import random
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.debian import BENCH, GiB, MiB, build, home, once, run

if TYPE_CHECKING:
    from collections.abc import Iterator

_QCOW2 = ("qemu-img", "convert", "-O", "qcow2")
#: Format -> the command that makes it; SRC is the disk and DST the file, the command's stdout where DST is not in it.
_FORMS = {
    "zlib.qcow2": (*_QCOW2, "-c", "SRC", "DST"),
    "zstd.qcow2": (*_QCOW2, "-c", "-o", "compression_type=zstd", "SRC", "DST"),
    "plain.qcow2": (*_QCOW2, "SRC", "DST"),
    "stream.vmdk": ("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "SRC", "DST"),
    "vdi": ("qemu-img", "convert", "-O", "vdi", "SRC", "DST"),
    "vhd": ("qemu-img", "convert", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", "SRC", "DST"),
    "vhdx": ("qemu-img", "convert", "-O", "vhdx", "SRC", "DST"),
    # As Debian and Google have their disks, its holes stored as holes.
    "tar.xz": (
        *("sh", "-c"),
        'tar -C "${0%/*}" --format=oldgnu -S -cf - "${0##*/}" | xz -1 -T2 --block-size=24MiB -c',
        "SRC",
    ),
    "raw.gz": ("gzip", "-c", "SRC"),
    "raw.zst": ("zstd", "-q", "-c", "SRC"),
    "raw.bz2": ("bzip2", "-1", "-c", "SRC"),
    # Level 1, since encoding is not what is measured. As the parallel encoder writes it: sizes in the block headers, so
    # that xz can decode on several threads.
    "raw.xz": ("xz", "-1", "-T2", "--block-size=24MiB", "-c", "SRC"),
    # As the single-threaded one does: many blocks, their sizes in the index only, where xz does not look for them.
    "multi.raw.xz": ("xz", "-1", "-T1", "--block-size=24MiB", "-c", "SRC"),
}


def debian() -> Path:
    """Return a Debian disk: 10 GiB with about 1 GB of data in its first GiB."""
    return build(BENCH).raw


def synthetic() -> Path:
    """Return a disk for a quick look: 1 GiB, of which 96 MiB are data that compresses to about a half."""

    def make(path: Path) -> None:
        source = random.Random(1)
        text = b"".join(b"%d bottles of beer on the wall\n" % bottles for bottles in range(2000))[: 32 << 10]
        with path.open("wb") as file:
            for megabyte in range(128):
                if megabyte % 4 == 3:
                    file.seek(MiB, 1)
                else:
                    file.write(b"".join(source.randbytes(32 << 10) + text for _ in range(16)))
            file.truncate(GiB)

    return once(home() / "synthetic.raw", make)


def variant(disk: Path, form: str) -> Path:
    """Return `disk` as `form`, whole, kept beside it."""
    return once(disk.with_name(f"{disk.stem}-{form}"), lambda path: _make(_FORMS[form], disk, path))


def _make(command: tuple[str, ...], source: Path, made: Path) -> None:
    words = [{"SRC": str(source), "DST": str(made)}.get(word, word) for word in command]
    with made.open("wb") as output:
        subprocess.run(words, stdout=output, check=True)


def huge() -> Path:
    """Return a QCOW2 of 1 TiB with 1 MiB of data."""

    def make(path: Path) -> None:
        run("qemu-img", "create", "-q", "-f", "qcow2", path, "1T")
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 90 512G 1M", path)

    return once(home() / "huge.qcow2", make)


#: File system -> the command that makes one in the file that follows.
FILE_SYSTEMS = {
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
    "ext4": ("mkfs.ext4", "-q", "-F"),
}


def root_on(name: str, options: str = "") -> Path:
    """Return a disk with that Debian's root on the file system `name`, which has it whole: needs root.

    It is mounted with `options` while it is filled: they say how it is compressed.
    """
    debian = build(BENCH)

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(4 * GiB)
        folder = path.with_suffix(".mounted")
        folder.mkdir()
        run(*FILE_SYSTEMS[name], path)
        run("mount", "-o", f"loop,{options}", path, folder)
        try:
            run("tar", "-C", folder, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", debian.rootfs)
        finally:
            run("umount", folder)

    return once(debian.folder / f"{'-'.join(filter(None, (name, options.replace('=', '-'))))}.raw", make)


@contextmanager
def mounted(make_file_system: tuple[str, ...], size: int) -> Iterator[Path]:
    """Give a new file system of `size` bytes, mounted through a loop device: needs root."""
    folder = Path(tempfile.mkdtemp(prefix="mounted-", dir=home()))
    backing = folder.with_suffix(".img")
    with backing.open("wb") as file:
        file.truncate(size)
    try:
        run(*make_file_system, backing)
        run("mount", "-o", "loop", backing, folder)
        try:
            yield folder
        finally:
            run("umount", folder)
    finally:
        backing.unlink()
        folder.rmdir()
