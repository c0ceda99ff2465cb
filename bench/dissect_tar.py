"""``dissect_tar.py DISK TAR``: what ``python -m recipes rootfs`` does, with dissect; run by a Python that has that."""

from __future__ import annotations

import os
import stat
import sys
import tarfile

from dissect.extfs import ExtFS
from dissect.volume import disk

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def main(source: str, target: str) -> None:
    """Write the files of the first partition of the disk at `source` to the archive `target`."""
    seen: dict[int, str] = {}
    with open(source, "rb", buffering=0) as file, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        system = ExtFS(disk.Disk(file).partitions[0].open())
        todo = [(system.root, ".")]
        while todo:
            node, name = todo.pop()
            member = tarfile.TarInfo(name)
            inode = node.inode
            member.type = _TYPES[node.filetype]
            member.mode, member.mtime = stat.S_IMODE(inode.i_mode), node.mtime_ns // 10**9
            member.uid, member.gid = inode.i_uid, inode.i_gid
            member.pax_headers = {f"SCHILY.xattr.{each.name}": os.fsdecode(each.value) for each in node.xattr}
            if node.filetype == stat.S_IFDIR:
                todo += [(child, f"{name}/{part}") for part, child in node.listdir().items() if part not in (".", "..")]
            elif node.filetype == stat.S_IFLNK:
                member.linkname = node.link
            elif node.filetype == stat.S_IFREG and node.inum in seen:
                member.type, member.linkname = tarfile.LNKTYPE, seen[node.inum]
            elif node.filetype == stat.S_IFREG:
                seen[node.inum] = name
                member.size = node.size
                archive.addfile(member, node.open())
                continue
            archive.addfile(member)


if __name__ == "__main__":
    main(*sys.argv[1:])
