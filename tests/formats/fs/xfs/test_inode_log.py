"""Inodes from the log, against Linux, and what is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.xfs_images import (
    SIZE,
    SMALL,
    USER,
    Writer,
    facts,
    inode_item,
    make,
    transaction,
    xfs_db,
)
from tests.kit.xfs_logs import inode_and_block, is_replayed

if TYPE_CHECKING:
    from pathlib import Path


def test_inodes(logged: Path) -> None:
    five, _ = inode_and_block(logged, "five")
    Writer(logged).record(transaction(inode_item(logged, five, {USER: 4242, SIZE: 3})))
    found = facts(logged)
    assert (found[b"five"].uid, found[b"five"].size) == (4242, 3)
    is_replayed(logged)


def test_inodes_of_version_4(tmp_path: Path) -> None:
    # Not every kernel mounts it: what is in the log is what has to come out.
    data, prototype = tmp_path / "data", tmp_path / "prototype"
    data.write_bytes(b"data" * 2000)
    prototype.write_text(f"/dev/null\n0 0\nd--755 0 0\nfile ---644 7 8 {data}\n$\n")
    image = make(tmp_path / "image", SMALL, "-m", "crc=0,finobt=0", populated=prototype)
    before = facts(image)[b"file"]
    root = int(xfs_db(image, "sb 0", "print rootino").split()[-1])
    writer = Writer(image)
    writer.record(transaction(inode_item(image, root + 3, {USER: 4242, SIZE: 3})))
    after = facts(image)[b"file"]
    assert (after.uid, after.size) == (4242, 3)
    assert after._replace(uid=7, size=8000, digest=before.digest) == before
