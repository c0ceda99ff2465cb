"""File systems that ostree deployed something on, as on Fedora CoreOS: made by ostree itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.kit.layouts import folder_of
from tests.kit.oracles import lack, need

if TYPE_CHECKING:
    from pathlib import Path

NAME = "fedora-coreos"
KERNEL = "6.9.0"

_KERNEL = {
    f"usr/lib/modules/{KERNEL}/vmlinuz": "kernel",
    f"usr/lib/modules/{KERNEL}/initramfs.img": "initrd",
}
_TREE = {
    "usr/lib/os-release": "NAME=Fedora\nID=fedora\nVERSION=44\n",
    "usr/etc/hostname": "fcos",
    "usr/etc/fstab": "",
    "usr/bin/sh": "#!",
    "usr/bin/bash": "#!",
    "usr/bin/empty": "",
}
_FOLDERS = ("boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var")
_LINKS = {"home": "var/home", "root": "var/roothome", "ostree": "sysroot/ostree", "bin": "usr/bin"}


def deploy(folder: Path, sysroot: Path, *versions: str, tree: Path | None = None) -> list[str]:
    """Deploy trees that differ in /usr/share/version in `sysroot`, the last one first; return their folders' names.

    They are made of `tree`, which has what a distribution has and gets what ostree wants, or of a few files.
    """
    need("ostree")
    if os.getuid() != 0:
        lack("ostree checks out files of root's")
    if tree is None:
        tree = folder_of(folder / "tree", {**_KERNEL, **_TREE})
        (tree / "usr/etc/os-release").symlink_to("../usr/lib/os-release")
        for name in ("sh", "bash"):
            (tree / "usr/bin" / name).chmod(0o755)
        os.setxattr(tree / "usr/bin/sh", "user.kept", b"yes")
    else:
        folder_of(tree, _KERNEL)
    for name in _FOLDERS:
        (tree / name).mkdir(exist_ok=True)
    for name, target in _LINKS.items():
        if (tree / name).is_dir() and not (tree / name).is_symlink():
            shutil.rmtree(tree / name)
        if not (tree / name).is_symlink():
            (tree / name).symlink_to(target)
    # What the machine calls SELinux's policy and where it mounts things is none of ours.
    sysroot.mkdir(exist_ok=True)
    _ostree("admin", "init-fs", "--modern", str(sysroot))
    _ostree("admin", "os-init", f"--sysroot={sysroot}", NAME)
    names: list[str] = []
    for version in versions:
        folder_of(tree, {"usr/share/version": version})
        _ostree(f"--repo={sysroot}/ostree/repo", "commit", "-b", "test", f"--tree=dir={tree}")
        _ostree("admin", "deploy", f"--sysroot={sysroot}", f"--os={NAME}", "--karg=root=LABEL=root", "test")
        (newest,) = {path.name for path in deployments(sysroot) if path.is_dir()} - set(names)
        names.append(newest)
    # The deployment's own folder cannot be changed, or deleted, on file systems that can say so.
    for path in deployments(sysroot):
        subprocess.run(["chattr", "-i", path], check=False, capture_output=True)
    return names


def deployments(sysroot: Path) -> list[Path]:
    """Return where the trees are."""
    return [each for each in sorted((sysroot / "ostree/deploy" / NAME / "deploy").iterdir()) if each.is_dir()]


def boot_apart(sysroot: Path, boot: Path) -> None:
    """Move what is in the /boot of `sysroot` to `boot`, which becomes a partition of its own."""
    shutil.copytree(sysroot / "boot", boot, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(sysroot / "boot")
    (sysroot / "boot").mkdir()


def _ostree(*arguments: str) -> None:
    subprocess.run(["ostree", *arguments], check=True, capture_output=True)
