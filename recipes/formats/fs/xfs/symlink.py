"""The targets of XFS's symbolic links (xfs_symlink_remote.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layout import LOCAL, REMOTE_HEAD, REMOTE_HEADER, REMOTE_PLACE, SYMLINK_MAGIC, SYMLINK_MAX

if TYPE_CHECKING:
    from .extents import Extents, Run
    from .inode import Inode
    from .volume import Volume


def target(volume: Volume, extents: Extents, inode: Inode) -> bytes:
    """Return the target of a symbolic link. Errors: `CorruptImage`."""
    if not 0 < inode.size <= SYMLINK_MAX:
        raise volume.corrupt(f"symbolic link inode {inode.number} has {inode.size} bytes")
    if inode.data.format == LOCAL:
        found = inode.data.data[: inode.size]
    else:
        found = b""
        for run in extents.data(inode):
            if len(found) < inode.size:
                found += _piece(volume, inode, run, len(found))
        found = found[: inode.size]
    if len(found) != inode.size or b"\0" in found:
        raise volume.corrupt(f"symbolic link inode {inode.number}: expected a target of {inode.size} bytes without NUL")
    return found


def _piece(volume: Volume, inode: Inode, run: Run, at: int) -> bytes:
    """Return what an extent has of a target, from byte `at` of that on: one head for the extent, not for each block."""
    what = f"the target of symbolic link inode {inode.number}"
    # A link has 1 KiB, and blocks have 512 bytes at least: what is longer is nothing of a link's.
    count = min(run.length, (SYMLINK_MAX + REMOTE_HEAD >> volume.block_log) + 1)
    offset = volume.offset(run.block, count, what)
    data = volume.disk.read(offset, count << volume.block_log)
    if not volume.v5:
        return data
    first, size = REMOTE_PLACE.unpack_from(data)
    if data[:4] != SYMLINK_MAGIC or first != at or size > len(data) - REMOTE_HEAD:
        raise volume.corrupt(f"{what}: expected byte {at} of it at byte {offset}, found {data[:12].hex()}")
    volume.verify(data, REMOTE_HEADER, [(offset, len(data))], inode.number, what)
    return data[REMOTE_HEAD : REMOTE_HEAD + size]
