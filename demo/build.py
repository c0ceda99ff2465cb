"""Builds demo.qcow2, the disk that comes with larder: `python -m demo.build FILE`.

A GPT with one partition, ext4 on it with a small root file system, and boot code that says hello: QCOW2 with compressed
clusters, as clouds have theirs. The same code gives the same disk; of the file's compressed clusters zlib decides how
they look, which is why tests/test_demo.py compares the disks.

Nothing in it is anybody else's: the boot code is below, the files are text, and the file system is written by larder.
"""

from __future__ import annotations

import stat
import struct
import sys
import uuid
import zlib
from pathlib import Path

from recipes.formats.fs.ext4 import write as ext4
from recipes.formats.tree.tree import Node, Tree
from recipes.progress import SILENT_METER

MiB = 1 << 20
SECTOR = 512
SIZE = 64 * MiB
#: Where the partition begins and ends.
START, END = MiB, SIZE - MiB
#: 2026-01-01, the time of everything in it.
EPOCH = 1_767_225_600
#: Small clusters: tables of a few files are mostly empty.
CLUSTER_BITS = 12
LABEL = "larder-demo"
#: "Linux filesystem data" (UEFI has no list; uapi-group.org, Discoverable Partitions Specification).
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")

HELLO = b"Hello from larder's demo disk: this clone boots.\r\n"
FILES: dict[str, bytes | str | None] = {
    # A str is the target of a symbolic link, None a directory.
    "bin": "usr/bin",
    "boot": None,
    "dev": None,
    "etc/fstab": b"LABEL=larder-demo / ext4 defaults 0 1\n",
    "etc/hostname": b"larder-demo\n",
    "etc/os-release": "../usr/lib/os-release",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "lib": "usr/lib",
    "proc": None,
    "root": None,
    "run": None,
    "sbin": "usr/bin",
    "sys": None,
    "tmp": None,
    "usr/bin": None,
    "usr/lib/os-release": b'ID=larder-demo\nNAME="larder demo"\nPRETTY_NAME="larder demo"\nVERSION_ID=1\n',
    "usr/share/doc/larder-demo/README": (
        b"A disk to try larder with. It has a partition table, a file system and these files,\n"
        b"and nothing that runs but its boot code, which says hello.\n"
    ),
    "var/tmp": None,
}
_STICKY = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700}


def tree() -> Tree:
    """Return the root file system."""
    made = Tree()
    made.root.mtime_ns = EPOCH * 10**9
    for path, content in FILES.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            made.add("/".join(parts[:depth]).encode(), Node(stat.S_IFDIR | 0o755, mtime_ns=EPOCH * 10**9))
        if content is None:
            node = Node(stat.S_IFDIR | _STICKY.get(path, 0o755))
        elif isinstance(content, str):
            node = Node(stat.S_IFLNK | 0o777, target=content.encode())
        else:
            node = Node(stat.S_IFREG | 0o644, size=len(content), data=content)
        node.mtime_ns = EPOCH * 10**9
        made.add(path.encode(), node)
    return made


class _Partition:
    """A part of a disk in memory, as a file system is written to it."""

    def __init__(self, disk: bytearray, start: int) -> None:
        self._disk = memoryview(disk)
        self._start = start

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write `data` at `offset`."""
        at = self._start + offset
        self._disk[at : at + len(data)] = data


def disk() -> bytearray:
    """Return the whole disk."""
    made = bytearray(SIZE)
    with tree() as root:
        ext4.write(root, _Partition(made, START), size=END - START, label=LABEL, meter=SILENT_METER)
    made[:SECTOR] = protective_mbr()
    entry = struct.pack(
        "<16s16sQQQ72s",
        LINUX.bytes_le,
        uuid.uuid5(_NAMESPACE, "root").bytes_le,
        START // SECTOR,
        END // SECTOR - 1,
        0,
        "root".encode("utf-16le"),
    )
    entries = entry.ljust(128 * 128, b"\0")
    last = SIZE // SECTOR - 1
    for here, other, table in ((1, last, 2), (last, 1, last - 32)):
        made[table * SECTOR : table * SECTOR + len(entries)] = entries
        made[here * SECTOR : (here + 1) * SECTOR] = gpt_header(here, other, table, zlib.crc32(entries))
    return made


def gpt_header(here: int, other: int, table: int, checksum: int) -> bytes:
    """Return a header of the partition table (UEFI 2.10, section 5.3.2); all are numbers of sectors."""
    last = SIZE // SECTOR - 1

    def packed(own: int) -> bytes:
        guid = uuid.uuid5(_NAMESPACE, LABEL).bytes_le
        # After the table in front, before the one at the end.
        first, usable = 34, last - 33
        fields = (b"EFI PART", 0x10000, 92, own, 0, here, other, first, usable, guid, table, 128, 128, checksum)
        return struct.pack("<8sIIIIQQQQ16sQIII", *fields)

    return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")


def protective_mbr() -> bytes:
    """Return the first sector: boot code, and the partition that keeps others off the disk (UEFI 2.10, 5.2.3)."""
    code = bytes.fromhex(
        "fa 31c0 8ed8 8ec0 8ed0 bc007c fb"  # cli; ds = es = ss = 0; sp = 0x7c00; sti
        "be407c"  # si = what is to be said, at 0x40 of this sector
        "ac 84c0 7408"  # next: al = *si++; the end, where it is 0
        "b40e 31db cd10"  # int 0x10, ah 0x0e: to the screen; `qemu -nographic` shows that on the serial port
        "ebf3"  # the next one
        "f4 ebfd"  # halt
    )
    whole = 0x1FE - 0x1BE
    boot = (code.ljust(0x40, b"\0") + HELLO).ljust(0x1BE, b"\0")
    kept = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, SIZE // SECTOR - 1)
    return boot + kept.ljust(whole, b"\0") + b"\x55\xaa"


def qcow2(raw: bytes | bytearray) -> bytes:
    """Return `raw` as a QCOW2 (QEMU, docs/interop/qcow2.txt), version 3, with each cluster of data compressed."""
    cluster = 1 << CLUSTER_BITS
    pieces = {at // cluster: bytes(raw[at : at + cluster]) for at in range(0, len(raw), cluster)}
    pieces = {number: piece for number, piece in pieces.items() if any(piece)}
    entries = cluster // 8
    tables = sorted({number // entries for number in pieces})
    # Header, refcount table, refcount block, L1, those L2 tables that have entries, data.
    l1_at, l2_at = 3 * cluster, 4 * cluster
    data_at = l2_at + len(tables) * cluster
    l1 = [0] * -(-len(raw) // (cluster * entries))
    for place, table in enumerate(tables):
        l1[table] = 1 << 63 | l2_at + place * cluster
    l2 = [0] * (len(tables) * entries)
    refcounts = [1] * (data_at // cluster)
    packed = bytearray()
    # The lowest 62 - (cluster bits - 8) bits of an entry are the place, the next ones the sectors beyond the first.
    shift = 62 - (CLUSTER_BITS - 8)
    for number, piece in pieces.items():
        stream = zlib.compressobj(9, zlib.DEFLATED, -12)
        data = stream.compress(piece) + stream.flush()
        at = data_at + len(packed)
        first, last = at // SECTOR, (at + len(data) - 1) // SECTOR
        l2[tables.index(number // entries) * entries + number % entries] = 1 << 62 | last - first << shift | at
        # Counted are the clusters that the sectors of a stream touch.
        for touched in range(first * SECTOR // cluster, last * SECTOR // cluster + 1):
            refcounts += [0] * (touched + 1 - len(refcounts))
            refcounts[touched] += 1
        packed += data
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, len(raw), 0, len(l1), l1_at, cluster, 1, 0, 0
    )
    header += struct.pack(">QQQII", 0, 0, 0, 4, 104)
    counts, numbers = (struct.pack(f">{len(each)}{code}", *each) for each, code in ((refcounts, "H"), (l1, "Q")))
    front = (header, struct.pack(">Q", 2 * cluster), counts, numbers, struct.pack(f">{len(l2)}Q", *l2), bytes(packed))
    return b"".join(part + bytes(-len(part) % cluster) for part in front)


def main() -> None:
    """Write the file."""
    Path(sys.argv[1]).write_bytes(qcow2(disk()))


if __name__ == "__main__":
    main()
