"""ext2, ext3 and ext4 as mke2fs and Linux make them: small images with everything in them that a file can be."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.formats.fs.ext4.read import Ext4
from recipes.formats.io.source import FileSource, Window
from recipes.formats.tree.tree import Tree

from .oracles import lack, need
from .trees import Facts, differences, of_folder, of_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

KiB = 1 << 10
MiB = 1 << 20

#: What getxattr(2) gives: version 2; owner rwx, user 7 r--, group r-x, mask r-x, others ---.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, number)
    for tag, permissions, number in (
        (1, 7, 0xFFFFFFFF),
        (2, 4, 7),
        (4, 5, 0xFFFFFFFF),
        (16, 5, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)
#: cap_net_raw, effective (linux/capability.h, version 2).
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def make(image: Path, size: int, *options: str) -> None:
    """Make the file system that mke2fs with these options makes in `size` bytes; blocks have 4 KiB unless they say."""
    need("mke2fs")
    if "-b" not in options:
        # Small ones would have 1 KiB.
        options = ("-b", "4096", *options)
    with image.open("wb") as file:
        file.truncate(size)
    tool("mke2fs", "-q", "-F", *options, str(image))


def tool(*command: str, input: str | None = None) -> str:
    """Run a tool and return what it says; CalledProcessError where it fails."""
    # Debian keeps mke2fs and its like out of an ordinary user's PATH.
    environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C"}
    return subprocess.run(
        command, env=environ, input=input, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


@contextmanager
def mounted(image: Path, *options: str) -> Iterator[Path]:
    """Have the kernel show what is in `image`."""
    need("mount")
    if os.getuid() != 0:
        lack("mounting takes root")
    folder = Path(tempfile.mkdtemp(prefix="larder-mount-"))
    try:
        try:
            tool("mount", "-o", ",".join(("loop", *options)), str(image), str(folder))
        except subprocess.CalledProcessError as error:
            lack(f"this kernel does not mount it: {error.stdout}")
        try:
            yield folder
        finally:
            tool("umount", str(folder))
    finally:
        folder.rmdir()


def facts(image: Path, start: int = 0) -> dict[bytes, Facts]:
    """Return what we read in the image."""
    with image.open("rb") as file, Tree() as tree:
        Ext4(Window(FileSource(file.fileno(), str(image)), start, image.stat().st_size - start)).fill(tree)
        return of_tree(tree)


def kernel_facts(image: Path, *options: str) -> dict[bytes, Facts]:
    """Return what Linux shows of the image; sockets, which no archive holds, left out."""
    with mounted(image, *(options or ("ro",))) as folder:
        shown = of_folder(folder, skip=frozenset())
    return {path: found for path, found in shown.items() if not stat.S_ISSOCK(found.mode)}


def agrees_with_the_kernel(image: Path) -> None:
    """Assert that we read what Linux shows."""
    expected = kernel_facts(image)
    assert len(expected) > 2
    assert differences(facts(image), expected) == []


def populate(folder: Path, *, names: int = 400) -> None:
    """Fill `folder`, on the file system to be tested, with whatever there is; `names` are in one of the directories."""
    pattern = bytes(range(251)) * 40
    for size in (0, 1, 59, 60, 61, 100, 150, 1023, 1024, 4096, 5000, 70_000, 600_000):
        (folder / f"file-{size}").write_bytes((pattern * (size // len(pattern) + 1))[:size])
    with (folder / "holes").open("wb") as file:
        for at in range(0, 3000 * KiB, 12 * KiB):
            file.seek(at)
            file.write(b"%d" % at)
        file.truncate(9 * MiB + 123)
    for before, after in ((10, 50), (10, 200), (100, 50), (0, 59), (0, 3000)):
        (folder / f"cut-{before}-{after}").write_bytes(pattern[:before])
        os.truncate(folder / f"cut-{before}-{after}", after)
    # Behind what two levels of indirect blocks of 1 KiB reach.
    (folder / "far").touch()
    os.truncate(folder / "far", 70 * MiB)
    with (folder / "far").open("r+b") as file:
        file.seek(70 * MiB - 3)
        file.write(b"end")
    try:
        with (folder / "unwritten").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 300 * KiB)
            file.seek(64 * KiB)
            file.write(pattern)
    except OSError:
        # ext2 and ext3 have no unwritten blocks.
        pass
    (folder / "d1/d2/d3").mkdir(parents=True)
    (folder / "d1/d2/d3/deep").write_text("deep")
    (folder / "empty").mkdir(mode=0o1777)
    os.link(folder / "d1/d2/d3/deep", folder / "link")
    os.link(folder / "link", folder / "d1/link again")
    many = folder / "many"
    many.mkdir()
    for number in range(names):
        (many / f"{number:05}-{'n' * (number % 180)}").touch()
    for number in range(0, names, 3):
        (many / f"{number:05}-{'n' * (number % 180)}").unlink()
    small = folder / "small"
    small.mkdir()
    (small / "one").write_text("1")
    # More than the 60 bytes of i_block, and still little enough for what is behind them.
    medium = folder / "medium"
    medium.mkdir()
    for number in range(6):
        (medium / f"name-{number}").symlink_to("x" * (58 + number))
    (folder / "absolute").symlink_to("/d1/d2")
    (folder / "long").symlink_to("/".join(["0123456789"] * 90))
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "big", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    os.chown(folder / "file-100", 70000, 4_000_000_000)
    for number, ns in enumerate((0, 1, -1, -(1 << 31) * 10**9, (1 << 31) * 10**9 - 7, 1_234_567_890_123_456_789)):
        (folder / f"time-{number}").touch()
        os.utime(folder / f"time-{number}", ns=(ns, ns))
    os.setxattr(folder / "file-1", "user.a", b"")
    os.setxattr(folder / "file-1", "user.b", b"value")
    os.setxattr(folder / "file-1", "trusted.c", bytes(700))
    os.setxattr(folder / "file-60", "security.capability", CAPABILITY)
    os.setxattr(folder / "file-61", "system.posix_acl_access", ACL)
    os.setxattr(folder / "d1", "system.posix_acl_default", ACL)
    os.setxattr(folder / "fifo", "trusted.fifo", b"f")
    for number in range(3):
        # The same in one block, which they share.
        os.setxattr(folder / f"time-{number}", "user.large", b"L" * 800)


def copy(image: Path, to: Path) -> Path:
    """Copy the image as it is in this moment, mounted or not."""
    need("cp")
    tool("cp", "--sparse=always", str(image), str(to))
    return to


def debugfs(image: Path, *requests: str) -> str:
    """Have debugfs do something to the image."""
    need("debugfs")
    return tool("debugfs", "-w", "-f", "-", str(image), input="".join(f"{request}\n" for request in requests))
