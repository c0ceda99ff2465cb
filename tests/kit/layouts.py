"""Disks as distributions lay them out: file systems on partitions, with what their boot loaders say."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from recipes.progress import SILENT_METER
from tests.kit import xfs_images
from tests.kit.ext4_images import MiB, make, tool
from tests.kit.oracles import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from recipes.progress import Meter

LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
EFI = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
X86_64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
HOME_TYPE = "933ac7e1-2eb4-4f13-b844-0e14e2aef915"
SRV_TYPE = "3b8f8425-20e0-4f3b-907f-1a25a76f98e8"
USR_TYPE = "8484680c-9521-48c6-9c11-b0720656f69e"
VAR_TYPE = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
#: What sfdisk is told of a partition of no special type.
TYPED = f"type={LINUX}"
#: UUIDs of file systems.
ROOT, HOME, OTHER = (f"{digit * 8}-0000-4000-8000-00000000000{digit}" for digit in "123")


class Notes:
    """The progress of work of which only what it says is looked at."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def meter(self, label: str, total: int | None = None) -> AbstractContextManager[Meter]:
        """Measure nothing."""
        return nullcontext(SILENT_METER)

    def note(self, message: str) -> None:
        """Remember the message."""
        self.said.append(message)


def folder_of(folder: Path, files: dict[str, str]) -> Path:
    """Write these files below `folder`, and return it."""
    for path, text in {".": "", **files}.items():
        if path == ".":
            folder.mkdir(exist_ok=True)
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def filesystem(folder: Path, name: str, files: dict[str, str], uuid: str, kind: str = "ext4", label: str = "") -> Path:
    """Make a file system in `folder` with these files; an XFS is empty."""
    image = folder / name
    if kind == "xfs":
        return xfs_images.make(image, xfs_images.SMALL, "-m", f"uuid={uuid}", "-L", label or name)
    source = folder_of(folder / f"{name}.d", files)
    make(image, 4 * MiB, "-t", kind, "-U", uuid, "-L", label or name, "-E", "root_owner=7:8", "-d", str(source))
    return image


def root(folder: Path, fstab: str, name: str = "root", uuid: str = ROOT, **more: str) -> Path:
    """Make a file system that is a root with this fstab."""
    return filesystem(folder, name, {"etc/os-release": "", "etc/fstab": fstab, "home/hidden": ""} | more, uuid)


def entry(options: str, version: str = "1", more: str = "") -> str:
    """Return the text of a boot entry."""
    return f"title Linux\nversion {version}\nlinux /vmlinuz\noptions {options}\n{more}"


def partition(path: Path, script: str) -> None:
    """Write the partition table that sfdisk makes of this script."""
    need("sfdisk")
    # Before it has the kernel read the table again, which a file does not need, it waits for a quarter of a second.
    tool("sfdisk", "--quiet", "--no-tell-kernel", str(path), input=script)


def disk(folder: Path, *parts: tuple[Path, str], label: str = "gpt") -> Path:
    """Put file systems on a disk, each with what sfdisk is told of its partition."""
    path = folder / "disk.raw"
    script, end = [f"label: {label}", "label-id: 0x12345678" if label == "dos" else ""], 1
    with path.open("wb") as file:
        file.truncate((sum(image.stat().st_size for image, _ in parts) // MiB + 2) * MiB)
    for image, options in parts:
        size = image.stat().st_size // MiB
        script.append(f"start={end * 2048}, size={size * 2048}{options and ', '}{options}")
        end += size
    partition(path, "\n".join(script))
    end = 1
    for image, _ in parts:
        with image.open("rb") as source, path.open("r+b") as file:
            for at in _data(source.fileno()):
                os.pwrite(file.fileno(), os.pread(source.fileno(), MiB, at), end * MiB + at)
        end += image.stat().st_size // MiB
    return path


def _data(fd: int) -> Iterator[int]:
    """Yield the beginnings of the pieces of a MiB that are not all a hole."""
    at = 0
    with suppress(OSError):  # there is no more data
        while True:
            at = os.lseek(fd, at, os.SEEK_DATA) // MiB * MiB
            yield at
            at += MiB
