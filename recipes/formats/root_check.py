"""Whether what an archive, a disk or an image holds is a root file system, and what it is if not."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from recipes.errors import UnsupportedFeature

from .io import probe
from .oci import layout as oci_layout
from .tree.tree import show

if TYPE_CHECKING:
    from pathlib import Path

    from .tree.tree import Node, Tree

#: What the roots of distributions have, one or the other: the Filesystem Hierarchy Standard's, NixOS's, Guix's, and
#: what an initramfs starts.
_TOPS = frozenset({b"bin", b"sbin", b"usr", b"etc", b"lib", b"lib64", b"nix", b"gnu", b"init"})
#: Those by which a folder within something else is a root: a package has a ``usr`` as well.
_SURE = 3
#: Folders into which a root is looked for, and files that may be a disk.
_LOOKED_AT = 1000


def require_root(tree: Tree, path: Path, *, archive: bool) -> None:
    """Raise UnsupportedFeature unless `tree`, read from `path`, can be a root file system.

    It is one if it has any of the folders that roots have, or any program: an image may be one static binary. `archive`
    is whether it is a tarball, which may hold an image or a disk, or the root in a folder of its own.
    """
    top = tree.root.children
    if _TOPS & top.keys():
        return
    expected = f"{path}: expected a root file system"
    if not top.keys() - {b"lost+found"}:
        raise UnsupportedFeature(f"{expected}, found nothing at all in it")
    if archive and oci_layout.is_image(path):
        raise UnsupportedFeature(
            f"{expected}, found the archive of a container image",
            hint='declare kind = "oci"; in single steps it is taken for what it is',
        )
    if archive and (folder := _root_below(tree)):
        raise UnsupportedFeature(
            f"{expected}, found one in the folder {show(folder)}",
            hint=f"declare strip = {_quoted(folder)}; in single steps --strip does the same",
        )
    if disk := _disk_in(tree):
        raise UnsupportedFeature(
            f"{expected}, found a disk image in it: {show(disk)}",
            hint="unpack it, and declare the disk itself: it may have a root file system",
        )
    if not any(node.is_file and node.mode & 0o111 for _, node in tree.walk()):
        found = ", ".join(show(name) for name in islice(sorted(top), 5)) + (" …" if len(top) > 5 else "")
        raise UnsupportedFeature(f"{expected}, with etc, usr, bin or the like, or any program; found {found}")


def _quoted(folder: bytes) -> str:
    return f'"{folder.decode("utf-8", "backslashreplace")}"'


def _root_below(tree: Tree) -> bytes | None:
    """Return the folder that has a root file system in it, one or two levels down; None for none or several."""
    found = []
    for name, node in islice(_below(tree.root, b"", 2), _LOOKED_AT):
        if len(_TOPS & node.children.keys()) >= _SURE:
            found.append(name)
    return found[0] if len(found) == 1 else None


def _below(folder: Node, prefix: bytes, depth: int) -> list[tuple[bytes, Node]]:
    """Return the folders in `folder`, the nearer ones first."""
    here = [(prefix + name, node) for name, node in sorted(folder.children.items()) if node.is_dir]
    if depth > 1:
        here += [below for name, node in here for below in _below(node, name + b"/", depth - 1)]
    return here


def _disk_in(tree: Tree) -> bytes | None:
    """Return the name of the largest file, if that is a disk image."""
    files = ((name, node) for name, node in islice(tree.walk(), _LOOKED_AT) if node.is_file)
    name, node = max(files, key=lambda each: each[1].size, default=(b"", None))
    if node is None:
        return None
    head = bytearray(min(node.size, probe.HEAD))
    for at, piece in node.chunks(probe.HEAD):
        if at >= len(head):
            break
        head[at : at + len(piece)] = piece[: len(head) - at]
    found = probe.detect(bytes(head))
    is_disk = found in probe.DISK_FORMATS or (found in probe.RAW_FORMATS and probe.has_structure(bytes(head)))
    return name if is_disk else None
