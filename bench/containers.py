"""The jobs around root file systems, each with what a user would do it with instead."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.formats.tar import read as tar_read
from tests.kit.debian import BENCH, build, home, run
from tests.kit.trees import differences, of_tree

from . import images
from .measure import Contender, Row
from .rows import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rows import Kit

_EXT4 = """
import sys
from pathlib import Path
from recipes.formats.fs.ext4 import write as ext4_write
from recipes.formats.io.sparse import SparseFile
from recipes.formats.tar import read as tar_read
from recipes.progress import SILENT_METER
with tar_read.load(Path(sys.argv[1])) as tree, SparseFile(Path(sys.argv[2]), durable=False) as disk:
    ext4_write.write(tree, disk, size=4 << 30, label="", meter=SILENT_METER)
    disk.finish(4 << 30)
"""
#: What reads ext4 without root or the kernel: the only other reader in Python. Its licence keeps it out of larder.
_DISSECT = Path(__file__).with_name("dissect_tar.py")


def _larder(step: str, *words: str) -> Contender:
    label = " ".join(("**larder**", *(f"`{word}`" for word in words if word.startswith("-"))))
    return Contender(label, (sys.executable, "-m", "recipes", step, *words, "DST"))


def _shell(label: str, script: str, *words: str | Path) -> Contender:
    return Contender(label, ("sh", "-ec", script, "DST", *map(str, words)))


def _rootfs() -> Path:
    if os.getuid() != 0:
        raise Unavailable("unpacking a root file system needs root")
    return build(BENCH).rootfs


def _unpacked(kit: Kit) -> Path:
    """Return a folder with the root file system: what mke2fs takes, and what nobody counts the unpacking of."""
    folder = kit.folder / "unpacked"
    folder.mkdir()
    kit.stack.callback(shutil.rmtree, folder)
    run("tar", "-C", folder, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", _rootfs())
    return folder


def _need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            raise Unavailable(f"{tool} is not installed")


def _ext4(kit: Kit) -> Row:
    ours = Contender("**larder**", (sys.executable, "-c", _EXT4, str(_rootfs()), "DST"))
    script = 'mke2fs -q -F -t ext4 -d "$1" "$0" 4G'
    rival = _shell("`mke2fs -d`, unpacking not counted", script, _unpacked(kit))
    return Row("ext4", "rootfs.tar → ext4 of 4 GiB", (ours,), (rival,), kit.folder, "1 x, peak < 128 MiB", _same_ext4)


def _vhdx(kit: Kit) -> Row:
    ours = _larder("vhdx", str(_rootfs()))
    script = 'mke2fs -q -F -t ext4 -d "$1" "$0.ext4" 1T; qemu-img convert -O vhdx "$0.ext4" "$0"; rm "$0.ext4"'
    rival = _shell("`mke2fs -d`, `qemu-img convert -O vhdx`", script, _unpacked(kit))
    return Row("vhdx", "rootfs.tar → VHDX of 1 TiB", (ours,), (rival,), kit.folder, "1.5 x", _checked)


def _dissect(package: str, disk: Path) -> Contender:
    python = home() / "dissect" / "bin" / "python"
    if not any(python.parent.parent.glob(f"lib/python*/site-packages/{package.replace('.', '/')}")):
        where = python.parent.parent
        raise Unavailable(
            f"no {package}: python3 -m venv {where} && {where}/bin/pip install {package} dissect.volume backports.zstd"
        )
    return Contender(f"{package} and Python's tarfile", (str(python), str(_DISSECT), str(disk), "DST"))


def _from_disk(kit: Kit, step: str, title: str) -> Row:
    disk = build(BENCH).raw
    rival = _dissect("dissect.extfs", disk)
    return Row(f"disk-{step}", title, (_larder(step, str(disk)),), (rival,), kit.folder, "2 x")


def _from_file_system(kit: Kit, name: str, title: str, goal: str, *, how: str = "", readonly: str = "ro") -> Row:
    if os.getuid() != 0:
        raise Unavailable("mounting a file system needs root")
    disk = images.root_on(name, how)
    script = (
        'mkdir "$0.mounted"; trap \'umount "$0.mounted"; rmdir "$0.mounted"\' EXIT; mount -o "loop,$2" "$1" '
        '"$0.mounted"; tar -C "$0.mounted" --numeric-owner --xattrs --xattrs-include="*" -cf "$0" .'
    )
    rivals = (
        _dissect(f"dissect.{name}", disk),
        _shell("`mount`, `tar -c --xattrs`, as root", script, disk, readonly),
    )
    ours = (_larder("rootfs", str(disk)),)
    return Row(f"{name}-rootfs", f"{title} → rootfs.tar", ours, rivals, kit.folder, goal, _same_files)


def _beside_ext4(kit: Kit, step: str, *options: str) -> Row:
    """Return the row of a step from XFS and from btrfs, beside the same from ext4."""
    if os.getuid() != 0:
        raise Unavailable("mounting a file system needs root")

    def contender(name: str, disk: Path) -> Contender:
        return replace(_larder(step, *options, str(disk)), label=f"**larder** from {name}")

    found = (
        contender("XFS", images.root_on("xfs", "")),
        contender("btrfs, zstd:1", images.root_on("btrfs", "compress=zstd:1")),
    )
    title = f"disk → {step}{''.join(f', `{option}`' for option in options)}"
    return Row(f"from-{step}", title, found, (contender("ext4", build(BENCH).raw),), kit.folder, "1 x from XFS")


def _same_files(ours: Path, theirs: Path) -> None:
    """Compare all but attributes, devices and fractions of seconds, which not everyone writes, and the root's time."""
    with tar_read.load(ours) as one, tar_read.load(theirs) as other:
        found, expected = (
            {
                path: facts._replace(xattrs=(), device=(0, 0), mtime_ns=facts.mtime_ns // 10**9 if path else 0)
                for path, facts in of_tree(tree).items()
            }
            for tree in (one, other)
        )
    if lines := differences(found, expected):
        raise ValueError("\n".join(lines[:20]))


def _oci_zstd(kit: Kit) -> Row:
    _need("podman")
    ours = _larder("oci", "--compression=zstd", str(_rootfs()))
    storage = kit.folder / "podman"
    kit.stack.callback(shutil.rmtree, storage)
    podman = f"podman --root {storage}/root --runroot {storage}/run"
    script = (
        f'{podman} import -q "$1" bench >&2; {podman} save -q --format oci-archive -o "$0" bench; {podman} rmi -fa >&2'
    )
    rival = _shell("`podman import`, `podman save`", script, _rootfs())
    return Row("oci-zstd", "rootfs.tar → OCI archive, zstd", (ours,), (rival,), kit.folder, "1 x")


def _oci_gzip(kit: Kit) -> Row:
    _need("skopeo")
    ours = _larder("oci", "--compression=gzip", str(_rootfs()))
    plain = kit.folder / "plain.tar"
    kit.stack.callback(plain.unlink)
    run(sys.executable, "-m", "recipes", "oci", "--compression=none", _rootfs(), plain)
    script = 'skopeo copy -q --dest-compress-format=gzip "oci-archive:$1" "oci-archive:$0"'
    rival = _shell("`skopeo copy` from an uncompressed one", script, plain)
    return Row("oci-gzip", "rootfs.tar → OCI archive, gzip", (ours,), (rival,), kit.folder, "1 x")


def _same_ext4(ours: Path, theirs: Path) -> None:
    for image in (ours, theirs):
        run("e2fsck", "-fn", image)


def _checked(ours: Path, theirs: Path) -> None:
    for image in (ours, theirs):
        run("qemu-img", "check", "-q", "-f", "vhdx", image)


ROWS: dict[str, Callable[[Kit], Row]] = {
    "ext4": _ext4,
    "vhdx": _vhdx,
    "disk-rootfs": lambda kit: _from_disk(kit, "rootfs", "RAW → rootfs.tar"),
    "disk-vhdx": lambda kit: _from_disk(kit, "vhdx", "RAW → VHDX"),
    "xfs-rootfs": lambda kit: _from_file_system(kit, "xfs", "XFS", "2.5 x dissect, 1 x tar", readonly="ro,norecovery"),
    "btrfs-rootfs": lambda kit: _from_file_system(
        kit, "btrfs", "btrfs, zstd:1", "6 x dissect, 1 x tar", how="compress=zstd:1"
    ),
    "from-vhdx": lambda kit: _beside_ext4(kit, "vhdx"),
    "from-oci": lambda kit: _beside_ext4(kit, "oci", "--compression=none"),
    "oci-zstd": _oci_zstd,
    "oci-gzip": _oci_gzip,
}
