"""``dissect_tar.py DISK TAR``: what ``python -m recipes rootfs`` does, with dissect; run by a Python that has that.

The disk has ext4 on its first partition, or is XFS or btrfs as a whole, whose extended attributes dissect does not
read.
"""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from typing import Any, BinaryIO

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _root(file: BinaryIO) -> Any:
    is_xfs = file.read(4) == b"XFSB"
    file.seek(0)
    if is_xfs:
        from dissect.xfs import XFS

        return XFS(file).root
    if os.pread(file.fileno(), 8, 65536 + 64) == b"_BHRfS_M":
        from dissect.btrfs import Btrfs

        return Btrfs(file).default_subvolume.root
    from dissect.extfs import ExtFS
    from dissect.volume import disk

    return ExtFS(disk.Disk(file).partitions[0].open()).root


def _owned(node: Any) -> tuple[int, int, int]:
    """Return mode, user and group."""
    if hasattr(node, "mode"):
        return stat.S_IMODE(node.mode), node.uid, node.gid
    inode = node.inode
    names = ("i_mode", "i_uid", "i_gid") if hasattr(inode, "i_mode") else ("di_mode", "di_uid", "di_gid")
    mode, uid, gid = (getattr(inode, name) for name in names)
    return stat.S_IMODE(mode), uid, gid


def main(source: str, target: str) -> None:
    """Write the files of the disk at `source` to the archive `target`."""
    seen: dict[int, str] = {}
    with open(source, "rb", buffering=0) as file, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        todo = [(_root(file), ".")]
        while todo:
            node, name = todo.pop()
            member = tarfile.TarInfo(name)
            kind = getattr(node, "filetype", None) or node.type
            member.type = _TYPES[kind]
            member.mode, member.uid, member.gid = _owned(node)
            member.mtime = node.mtime_ns // 10**9
            xattrs = getattr(node, "xattr", ())
            member.pax_headers = {f"SCHILY.xattr.{each.name}": os.fsdecode(each.value) for each in xattrs}
            if kind == stat.S_IFDIR:
                todo += [(child, f"{name}/{part}") for part, child in node.listdir().items() if part not in (".", "..")]
            elif kind == stat.S_IFLNK:
                member.linkname = node.link
            elif kind == stat.S_IFREG and node.inum in seen:
                member.type, member.linkname = tarfile.LNKTYPE, seen[node.inum]
            elif kind == stat.S_IFREG:
                seen[node.inum] = name
                member.size = node.size
                archive.addfile(member, node.open())
                continue
            archive.addfile(member)


if __name__ == "__main__":
    main(*sys.argv[1:])
