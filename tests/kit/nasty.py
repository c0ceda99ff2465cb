"""A root file system with everything in it that a file can be."""

from __future__ import annotations

import stat
import struct

from recipes.formats.tree.posix_acl import ACCESS, DEFAULT
from recipes.formats.tree.tree import Node, Tree

MiB = 1 << 20
BLOCK = 4096

DIR, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
CHR, BLK, FIFO, SOCK = stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK

SECOND = 1_000_000_000
#: Permitted: net_raw (capabilities(7), version 2), and the same for the root of a user namespace (version 3).
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
CAPABILITY_3 = struct.pack("<6I", 0x03000001, 1 << 13, 0, 0, 0, 1000)
NO_ID = 0xFFFFFFFF
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, NO_ID), (2, 7, 1000), (4, 4, NO_ID), (8, 5, 4), (16, 7, NO_ID), (32, 0, NO_ID))
)


def file(data: bytes = b"", **attributes: object) -> Node:
    return Node(FILE | 0o644, size=len(data), data=data, **attributes)  # type: ignore[arg-type]


def nasty() -> Tree:
    tree = Tree()
    tree.add(b"", Node(DIR | 0o750, 1, 2, 1_500_000_000 * SECOND + 123_456_789, xattrs={b"user.root": b"yes"}))
    for size in (0, 1, 59, 60, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, MiB - 1, 3 * MiB + 5):
        tree.add(b"sizes/%d" % size, file((b"%d," % size * size)[:size], mtime_ns=size))
    for mode in (0, 0o777, 0o4755, 0o2755, 0o1644, 0o7777):
        tree.add(b"modes/file%o" % mode, Node(FILE | mode))
        tree.add(b"modes/dir%o" % mode, Node(DIR | mode))
    for number in (0, 1, 65534, 65535, 65536, 70000, (1 << 31) - 1, 1 << 31, (1 << 32) - 2):
        tree.add(b"ids/u%d" % number, file(uid=number))
        tree.add(b"ids/g%d" % number, file(gid=number))
    for seconds in (
        -(1 << 31),
        -1,
        0,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        3 << 32,
        (1 << 34) - (1 << 31) - 1,
    ):
        for fraction in (0, 1, 999_999_999):
            tree.add(b"times/%d.%d" % (seconds, fraction), file(mtime_ns=seconds * SECOND + fraction))
    for name in (b"\xff\xfe", b"new\nline", b"back\\slash", b" ", b"...", b"x" * 255, "\N{SNOWMAN}".encode()):
        tree.add(b"names/" + name, file(name))
    for number in range(200):
        tree.add(b"long/%03d" % number + b"n" * (50 + number), file())
    tree.add(b"empty", Node(DIR | 0o755))
    tree.add(b"/".join(b"%d" % level for level in range(60)), file(b"deep"))
    for length in (1, 59, 60, 61, 255, 4095):
        tree.add(b"symlinks/%d" % length, Node(LINK | 0o777, 5, 6, 7, target=(b"/target" * 600)[:length]))
    for device in ((0, 0), (1, 3), (255, 255), (256, 0), (8, 256), (259, 70000), (4095, (1 << 20) - 1)):
        tree.add(b"devices/c%d,%d" % device, Node(CHR | 0o600, device=device))
        tree.add(b"devices/b%d,%d" % device, Node(BLK | 0o660, gid=6, device=device))
    tree.add(b"fifo", Node(FIFO | 0o600, mtime_ns=1))
    tree.add(b"socket", Node(SOCK | 0o777, mtime_ns=2))
    tree.link(b"links/one", b"sizes/4097")
    tree.link(b"links/two", b"sizes/4097")
    tree.link(b"again/symlink", b"symlinks/60")
    tree.link(b"a-device", b"devices/c1,3")
    for name, xattrs in {
        b"capability": {b"security.capability": CAPABILITY},
        b"capability3": {b"security.capability": CAPABILITY_3},
        b"acl": {ACCESS: ACL},
        b"both": {ACCESS: ACL, b"security.capability": CAPABILITY, b"user.comment": b"in a block"},
        b"inline": {b"user.a": b"1", b"user.bb": b"22", b"trusted.c": b""},
        b"block": {b"user.large": bytes(range(256)) * 15},
        b"many": {b"user.%x" % number: b"%d" % number for number in range(100)},
        b"names": {"user.\N{SNOWMAN}".encode(): b"\xff" * 100, b"user." + b"n" * 250: b"\x80\x00\xff"},
        b"full": {b"user.full": b"f" * (BLOCK - 32 - 4 - 16 - 4)},
    }.items():
        tree.add(b"xattrs/" + name, file(name, xattrs=xattrs))
    # What the kernel makes of the mode where there is an ACL: the mask is the group's permissions.
    for name in (b"acl", b"both"):
        tree.add(b"xattrs/" + name, Node(FILE | 0o670, xattrs=tree.find(b"xattrs/" + name).xattrs))  # type: ignore[union-attr]
    tree.add(b"xattrs/folder", Node(DIR | 0o770, xattrs={ACCESS: ACL, DEFAULT: ACL}))
    tree.add(b"xattrs/symlink", Node(LINK | 0o777, target=b"x" * 100, xattrs={b"trusted.link": b"v" * 200}))
    tree.add(b"xattrs/device", Node(CHR | 0o600, device=(0, 0), xattrs={b"trusted.overlay.whiteout": b"y"}))
    return tree
