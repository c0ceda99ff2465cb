"""What the log says is done in the order in which Linux does it, or refused by name."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.fs import xfs
from recipes.formats.fs.xfs.replay import replay
from recipes.formats.fs.xfs.volume import Disk, Volume
from recipes.formats.tree.tree import Tree
from tests.kit.trees import of_tree
from tests.kit.xfs_images import (
    COMMIT,
    CONTINUED,
    START,
    Writer,
    copy,
    facts,
    map_done,
    map_intent,
    mended,
    mounted,
    opened,
    transaction,
)
from tests.kit.xfs_logs import buffer, inode_and_block, is_replayed, item

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MiB = 1 << 20


def test_extents_that_were_still_to_be_mapped_and_unmapped(logged: Path) -> None:
    five, block = inode_and_block(logged, "five")
    none, _ = inode_and_block(logged, "none")
    writer = Writer(logged)
    writer.record(
        [
            *transaction(map_intent(five, block + 1, 1, 2, 2), tid=1),
            *transaction(map_intent(none, block + 1, 7, 2, 1, identity=2), tid=2),
            *transaction(map_intent(none, block + 1, 10, 1, 1 | 1 << 30, identity=3), tid=3),
            # This one was done: it counts for nothing.
            *transaction(map_intent(five, block, 0, 1, 2, identity=4), tid=4),
            *transaction(map_done(4), tid=5),
        ]
    )
    found = facts(logged)
    with opened(logged) as source, Tree() as tree:
        xfs.open(source).fill(tree)
        assert b"".join(piece for _, piece in tree.root.children[b"five"].chunks(MiB)) == b"".join(
            b"%d" % number * 4096 for number in (0, 3, 4)
        )
        assert [at for at, _ in tree.root.children[b"none"].chunks(4096)] == [7 * 4096, 8 * 4096]
        assert of_tree(tree) == found
    is_replayed(logged)


def test_buffers_that_were_freed_later_are_left_alone(logged: Path) -> None:
    five, block = inode_and_block(logged, "five")
    del five
    sector = block * 8
    writer = Writer(logged)
    writer.record(
        [
            *transaction(buffer(sector, 8, {0: b"a" * 128, 2: b"b" * 128}), tid=1),
            *transaction(buffer(sector, 8, {}, flags=2), tid=2),
            # Those of another shape are others, and what comes later is a new one.
            *transaction(buffer(sector + 8, 8, {0: b"c" * 128, 31: b"d" * 128}), tid=3),
        ]
    )
    assert logged.read_bytes()[sector * 512 :].startswith(b"0" * 4096)
    with opened(logged) as source:
        disk = replay(Volume(Disk(source)))
        assert disk.read(sector * 512, 4096) == b"0" * 4096
        changed = disk.read(sector * 512 + 4096, 4096)
        assert changed == b"c" * 128 + b"1" * (4096 - 256) + b"d" * 128
        assert disk.read(sector * 512 + 4000, 200) == b"0" * 96 + b"c" * 104
        assert disk.is_replayed(sector * 512 + 4096, 1)
        assert not disk.is_replayed(sector * 512, 4096)
    with mounted(copy(logged, logged.with_name("replayed"))) as folder:
        assert (folder / "five").read_bytes()[:8192] == b"0" * 4096 + changed


@pytest.mark.parametrize(
    ("items", "match"),
    [
        pytest.param([item(0x1248)], "an exchange of files' contents that was under way", id="exchange"),
        pytest.param([item(0x1246)], "a change of extended attributes that was under way", id="attributes"),
        pytest.param([item(0x1299)], "an item of type 0x1299 in its log", id="unknown"),
    ],
)
def test_what_cannot_be_replayed_is_named(logged: Path, items: list[list[bytes]], match: str) -> None:
    Writer(logged).record(transaction(*items))
    with pytest.raises(UnsupportedFeature, match=match) as caught:
        facts(logged)
    assert "xfs_repair -L" in str(caught.value)


@pytest.mark.parametrize("kind", [0x1246, 0x1248])
def test_what_was_done_need_not_be(logged: Path, kind: int) -> None:
    before = facts(logged)
    Writer(logged).record(transaction(item(kind), item(kind + 1), item(0x1236), item(0x1240)))
    assert facts(logged) == before


def test_a_parent_pointer_under_way_is_nothing_that_anybody_sees(logged: Path) -> None:
    before = facts(logged)
    (piece,) = item(0x1246)
    Writer(logged).record(transaction([piece[:24] + struct.pack("<I", 4) + piece[28:]]))
    assert facts(logged) == before


def test_features_of_the_log_that_are_not_known(logged: Path) -> None:
    mended(logged, {220: struct.pack(">I", 0x80)})
    facts(logged)
    Writer(logged).record(transaction(item(0x1236)))
    with pytest.raises(UnsupportedFeature, match="a log with the features 0x80"):
        facts(logged)


def inode_format(number: int, place: int, size: int = 56) -> bytes:
    """Return the format of the inode in the 16 KiB at byte `place`."""
    return struct.pack("<HHIHHIQ16xqii", 0x123B, 2, 1, 0, 0, 0, number, place // 512, 32, 0)[:size]


DAMAGE: dict[str, tuple[Callable[[int], list[tuple[int, int, bytes]]], str]] = {
    "an operation beyond the record": (lambda _: [(1, START, b""), (1, 0x40, b"x")], "the flags 0x40"),
    "no header": (lambda _: [(1, START, b""), (1, 0, b"NARX" + bytes(12))], "a transaction begins with"),
    "too much header": (lambda _: [(1, START, b""), (1, 0, b"NART" + bytes(20))], "a transaction begins with"),
    "nothing to go on": (
        lambda _: [*transaction()[:-1], (7, CONTINUED, b"more"), (7, COMMIT, b"")],
        "goes on before it has begun",
    ),
    "an item of no pieces": (lambda _: transaction([b"\x3c\x12\0\0" + bytes(20)]), "an item of 0 pieces"),
    "an item of many pieces": (lambda _: transaction([b"\x3c\x12\xff\xff" + bytes(20)]), "an item of 65535 pieces"),
    "a short buffer": (lambda _: transaction([b"\x3c\x12\1\0" + bytes(6)]), "a buffer's format of 10 bytes"),
    "a buffer outside": (lambda _: transaction(buffer(1 << 40, 8, {0: b"x" * 128})), "outside of the disk"),
    "a buffer before": (lambda _: transaction(buffer(-9, 8, {0: b"x" * 128})), "outside of the disk"),
    "a buffer beyond its end": (lambda _: transaction(buffer(8000, 1, {4: b"x" * 128})), "behind its end"),
    "a buffer with too little": (lambda _: transaction(buffer(8000, 8, {0: b"x" * 60})), "too many"),
    "a buffer without": (
        lambda _: transaction([struct.pack("<HHHHqIQ", 0x123C, 1, 0, 8, 8000, 2, 1)]),
        "lacks what was changed",
    ),
    "a short inode": (lambda at: transaction([inode_format(131, at, 40)]), "an inode's format of 40 bytes"),
    "an inode that is none": (
        lambda _: transaction([struct.pack("<H", 0x123B) + b"\2\0" + inode_format(131, 8 << 20)[4:], bytes(176)]),
        "expected an inode on the disk and in the log",
    ),
    "new inodes": (lambda _: transaction([struct.pack("<HH", 0x123F, 1) + bytes(24)]), "0 new inodes"),
    "a short intent": (lambda _: transaction([b"\x44\x12\1\0" + bytes(4)]), "an item of type 0x1244, 8 bytes"),
    "an intent for nothing": (lambda _: transaction(map_intent(131, 1, 0, 0, 1)), "an intent to map 0 blocks"),
    "an intent to do what": (lambda _: transaction(map_intent(131, 1, 0, 1, 9)), "with the flags 0x9"),
}


@pytest.mark.parametrize(("operations", "match"), DAMAGE.values(), ids=DAMAGE)
def test_damage(logged: Path, operations: Callable[[int], list[tuple[int, int, bytes]]], match: str) -> None:
    Writer(logged).record(operations(0))
    with pytest.raises(CorruptImage, match=match) as caught:
        facts(logged)
    assert str(logged) in str(caught.value)
