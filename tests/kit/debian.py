"""Real Debian disk images, made on this machine from Debian's own packages.

An image is built once and kept under ``LARDER_TEST_IMAGES`` (default: a folder of the system's temporary one), in a
folder named after everything that determines it; what a test or a benchmark finds there is always complete, since
builds happen under temporary names. mmdebstrap (rootfs), sfdisk (GPT) and mke2fs (ext4) do the work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SUITE = "bookworm"
MiB = 1 << 20
GiB = 1 << 30

#: First byte of the root partition: sfdisk's default alignment.
ROOT_OFFSET = MiB
#: GPT type of an x86-64 root partition (Discoverable Partitions Specification).
ROOT_TYPE = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
#: The layout of the images; a change of it makes new folders.
LAYOUT = 2


@dataclass(frozen=True)
class Profile:
    """What goes into an image."""

    name: str
    #: mmdebstrap's --variant.
    variant: str
    packages: tuple[str, ...]
    #: Bytes of the disk; most of it holes.
    virtual_size: int

    @property
    def key(self) -> str:
        """Name of the image's folder."""
        digest = hashlib.sha256(repr((LAYOUT, SUITE, self)).encode()).hexdigest()
        return f"{self.name}-{digest[:12]}"


#: The smallest Debian that boots by itself, with a capability (ping's).
CI = Profile("ci", "minbase", ("iputils-ping", "linux-image-cloud-amd64", "systemd-sysv"), 2 * GiB)
#: A server with a compiler, about 1 GB of data: what people keep in their caches.
BENCH = Profile(
    "bench",
    "important",
    (
        "linux-image-cloud-amd64",
        "linux-headers-cloud-amd64",
        "systemd-sysv",
        "cloud-init",
        "openssh-server",
        "python3",
        "g++",
        "gdb",
        "git",
        "vim",
    ),
    10 * GiB,
)


@dataclass(frozen=True)
class Debian:
    """A built image: a disk, the archive that it was filled from, and what QEMU's -kernel and -initrd want of it."""

    folder: Path

    @property
    def raw(self) -> Path:
        """The sparse disk: a GPT with one ext4 partition at `ROOT_OFFSET`."""
        return self.folder / "debian.raw"

    @property
    def rootfs(self) -> Path:
        """The archive with the disk's root file system, capabilities (ping) and ACLs (/var/log/journal) included."""
        return self.folder / "rootfs.tar"

    @property
    def kernel(self) -> Path:
        """The kernel of the image."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initramfs: the cloud kernel has virtio and ext4 as modules."""
        return self.folder / "initrd.img"


def build(profile: Profile) -> Debian:
    """Return the image of `profile`, built now unless it is kept from an earlier time; building takes root.

    Raises CalledProcessError where a tool fails.
    """
    return Debian(once(home() / profile.key, lambda folder: _make(profile, folder)))


def home() -> Path:
    """Return the folder where images are kept."""
    default = Path(tempfile.gettempdir()) / f"larder-test-images-{os.getuid()}"
    folder = Path(os.environ.get("LARDER_TEST_IMAGES") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return `path`, a file or folder; where it is not there yet, `make` makes it under another name first."""
    if not path.exists():
        staging = Path(tempfile.mkdtemp(prefix=".building-", dir=path.parent))
        # mmdebstrap's own user and namespaces look into it.
        staging.chmod(0o755)
        try:
            make(staging / path.name)
            try:
                (staging / path.name).rename(path)
            except OSError:
                # A folder that another process made first stays; anything else is an error.
                if not path.exists():
                    raise
        finally:
            shutil.rmtree(staging)
    return path


def run(*command: str | Path, input: str | None = None) -> None:
    """Run a tool, silently; where it fails show what it said and raise CalledProcessError."""
    # Debian keeps sfdisk and mke2fs out of an ordinary user's PATH.
    environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C"}
    done = subprocess.run(
        command, env=environ, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        done.check_returncode()


def _make(profile: Profile, folder: Path) -> None:
    folder.mkdir()
    rootfs = folder / "rootfs.tar"
    include = f"--include={','.join(profile.packages)}"
    run("mmdebstrap", "--quiet", f"--variant={profile.variant}", include, SUITE, rootfs, *_apt_sources())

    disk = folder / "debian.raw"
    with disk.open("wb") as file:
        file.truncate(profile.virtual_size)
    run("sfdisk", "--quiet", disk, input=f"label: gpt\nstart={ROOT_OFFSET // 512}, type={ROOT_TYPE}, name=root\n")

    # mke2fs takes owners, modes and devices from the tree, which has to be unpacked and read by root for that.
    tree = folder.with_name("rootfs")
    tree.mkdir()
    # The backup GPT takes the last 33 sectors; a whole MiB keeps the file system's size round.
    blocks = (profile.virtual_size - ROOT_OFFSET - MiB) // 4096
    script = (
        'tar -C "$1" --numeric-owner --xattrs --xattrs-include="*" -xpf "$2"\n'
        'cp "$1"/boot/vmlinuz-* "$3"/vmlinuz\n'
        'cp "$1"/boot/initrd.img-* "$3"/initrd.img\n'
        f'mke2fs -q -F -t ext4 -b 4096 -L root -E offset={ROOT_OFFSET},root_owner=0:0 -d "$1" "$3"/debian.raw {blocks}'
    )
    run("sh", "-ec", script, "sh", tree, rootfs, folder)


def _apt_sources() -> list[str]:
    """Return the machine's own list of `SUITE`'s packages; mmdebstrap has a default where there is none."""
    names = ("sources.list", "sources.list.d/debian.sources")
    files = [Path("/etc/apt") / name for name in names]
    return [str(file) for file in files if file.exists() and SUITE in file.read_text(encoding="utf-8")]
