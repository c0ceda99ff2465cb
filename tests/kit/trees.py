"""Root file systems, held against each other entry by entry: our trees, and folders that the kernel shows."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from recipes.formats.tree.tree import Node, Tree

_CHUNK = 1 << 20


class Facts(NamedTuple):
    """Everything that an entry is; two entries are the same when these are equal."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    digest: str
    target: bytes
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    #: The first, in the order of their bytes, of the names that this file has.
    first: bytes
    links: int


def of_tree(tree: Tree) -> dict[bytes, Facts]:
    """Return the facts of every path of `tree`."""
    names: dict[int, list[bytes]] = {}
    nodes: dict[bytes, Node] = {}
    for path, node in tree.walk():
        nodes[path] = node
        names.setdefault(id(node), []).append(path)
    return {
        path: Facts(
            node.mode,
            node.uid,
            node.gid,
            node.mtime_ns,
            node.size if node.is_file else 0,
            _digest(node) if node.is_file else "",
            node.target,
            node.device if node.is_device else (0, 0),
            tuple(sorted(node.xattrs.items())),
            min(names[id(node)]),
            1 if node.is_dir else len(names[id(node)]),
        )
        for path, node in nodes.items()
    }


def of_folder(folder: Path, *, skip: frozenset[bytes] = frozenset({b"lost+found"})) -> dict[bytes, Facts]:
    """Return the facts of everything below `folder`, as the kernel tells them; not of the paths `skip`."""
    top = os.fsencode(folder)
    paths = [b""]
    for parent, folders, files in os.walk(top):
        inside = b"" if parent == top else parent[len(top) + 1 :] + b"/"
        folders[:] = [name for name in folders if inside + name not in skip]
        paths += [inside + name for name in (*folders, *files)]
    status = {path: os.lstat(os.path.join(top, path)) for path in paths}  # noqa: PTH118
    # Each subvolume of a btrfs counts its inodes anew.
    names: dict[tuple[int, int], list[bytes]] = {}
    for path, found in status.items():
        names.setdefault((found.st_dev, found.st_ino), []).append(path)
    return {
        path: Facts(
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_mtime_ns,
            found.st_size if stat.S_ISREG(found.st_mode) else 0,
            _digest_of(os.path.join(top, path)) if stat.S_ISREG(found.st_mode) else "",  # noqa: PTH118
            os.readlink(os.path.join(top, path)) if stat.S_ISLNK(found.st_mode) else b"",  # noqa: PTH115, PTH118
            _device(found),
            _xattrs(os.path.join(top, path)),  # noqa: PTH118
            path if stat.S_ISDIR(found.st_mode) else min(names[found.st_dev, found.st_ino]),
            1 if stat.S_ISDIR(found.st_mode) else len(names[found.st_dev, found.st_ino]),
        )
        for path, found in status.items()
    }


def differences(found: Mapping[bytes, Facts], expected: Mapping[bytes, Facts]) -> list[str]:
    """Return a line for each entry that is not the same in both; no line where all are."""
    lines = []
    for path in sorted(found.keys() | expected.keys()):
        one, other = found.get(path), expected.get(path)
        if one is None or other is None:
            lines.append(f"{path!r}: {'missing' if one is None else 'not expected'}")
        elif one != other:
            which = (name for name, a, b in zip(Facts._fields, one, other, strict=True) if a != b)
            said = (f"{name} {getattr(one, name)!r}, not {getattr(other, name)!r}" for name in which)
            lines.append(f"{path!r}: {', '.join(said)}")
    return lines


def _digest(node: Node) -> str:
    """Return the digest of a file's bytes, holes as zeros."""
    digest = hashlib.sha256()
    at = 0
    for offset, piece in node.chunks(_CHUNK):
        _zeros(digest, offset - at)
        digest.update(piece)
        at = offset + len(piece)
    _zeros(digest, node.size - at)
    return digest.hexdigest()


def _zeros(digest: hashlib._Hash, count: int) -> None:
    for start in range(0, count, _CHUNK):
        digest.update(bytes(min(_CHUNK, count - start)))


def _digest_of(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _device(found: os.stat_result) -> tuple[int, int]:
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return os.major(found.st_rdev), os.minor(found.st_rdev)
    return 0, 0


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    names = os.listxattr(path, follow_symlinks=False)
    return tuple(sorted((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names))
