"""A log that was not written back, against Linux, which replays it when it mounts."""

from __future__ import annotations

import os
import random
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.fs import xfs
from recipes.formats.fs.xfs import log, overlay
from recipes.formats.fs.xfs.log import Log
from recipes.formats.fs.xfs.replay import replay
from recipes.formats.fs.xfs.volume import Disk, Volume
from recipes.formats.tree.tree import Tree
from tests.kit.oracles import need
from tests.kit.trees import differences, of_tree
from tests.kit.xfs_images import (
    COMMIT,
    CONTINUE,
    CONTINUED,
    END,
    SIZE,
    SMALL,
    START,
    USER,
    Writer,
    copy,
    facts,
    inode_item,
    kernel_facts,
    make,
    map_done,
    map_intent,
    mended,
    mounted,
    opened,
    populate,
    reflink,
    shutdown,
    tool,
    transaction,
    xfs_db,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MiB = 1 << 20


def records(image: Path) -> int:
    """Return how many records there are to be replayed."""
    with opened(image) as source:
        log_ = Log(Volume(Disk(source)))
        where = log_.dirty()
        return sum(1 for _ in log_.records(*where)) if where else 0


def is_replayed(image: Path) -> None:
    """Assert that the log is dirty, that we read what Linux makes of it, and that the image stays as it is."""
    before = image.stat().st_mtime_ns
    assert records(image)
    found = facts(image)
    assert image.stat().st_mtime_ns == before
    expected = kernel_facts(copy(image, image.with_name("replayed")), "rw")
    assert differences(found, expected) == []


def churn(folder: Path, seed: int, changes: int) -> None:
    """Change this and that, and have some of it written back."""
    rng = random.Random(seed)
    for number in range(changes):
        where = folder / f"folder-{rng.randrange(8)}"
        where.mkdir(exist_ok=True)
        files = [each for each in where.iterdir() if not each.is_symlink() and each.is_file()]
        kind = rng.randrange(10)
        if kind < 4 or not files:
            (where / f"{number}-{'x' * rng.randrange(100)}").write_bytes(bytes(rng.choice((0, 10, 5000, 60_000))))
        elif kind == 4:
            (where / f"link-{number}").symlink_to("t" * rng.randrange(1, 1000))
        elif kind == 5:
            for each in files[:40]:
                each.unlink()
        elif kind == 6:
            for each in files[:4]:
                os.setxattr(each, f"user.{rng.randrange(90)}", b"v" * rng.choice((0, 30, 500, 4000, 30_000)))
        elif kind == 7 and number % 3 == 0:
            shutil.rmtree(where)
        elif kind == 8:
            with (where / "pieces").open("ab") as file:
                for _ in range(100):
                    os.pwrite(file.fileno(), b"z" * 4096, rng.randrange(3000) * 8192)
        else:
            os.link(files[0], folder / f"hard-{number}")
            files[-1].rename(folder / f"renamed-{rng.randrange(50)}")
            for index in range(60):
                (where / f"many-{number}-{index}").touch()
        if rng.random() < 0.05:
            tool("sync", "-f", str(folder))


def everything(folder: Path) -> None:
    populate(folder)
    reflink(folder)
    for name in ("many", "medium"):
        shutil.rmtree(folder / name)
    (folder / "xattrs/node").unlink()
    (folder / "pieces").write_bytes(b"new")


VARIANTS = {
    "as made today": (),
    "1 KiB, directories of 8": ("-b", "size=1024", "-n", "size=8192"),
    "16 KiB": ("-b", "size=16384"),
    "many extents, inodes of 1 KiB": ("-i", "size=1024,nrext64=1"),
    "reverse mappings": ("-m", "rmapbt=1", "-n", "size=16384"),
    "a log in stripes": ("-l", "su=64k"),
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_a_disk_that_stopped(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = make(tmp_path / "image", 200 * MiB, *options)
    with mounted(image) as folder:
        churn(folder, len(options), 150)
        everything(folder)
        shutdown(folder, "-f")
    is_replayed(image)


def test_a_copy_of_a_disk_in_use(tmp_path: Path) -> None:
    image, dirty = make(tmp_path / "image", 120 * MiB), tmp_path / "dirty"
    with mounted(image) as folder:
        everything(folder)
        tool("sync", "-f", str(folder))
        copy(image, dirty)
        # Without the log nothing of it would be there.
        assert len(list(folder.iterdir())) > 40
    is_replayed(dirty)
    xfs_db(copy(dirty, tmp_path / "emptied"), "version")
    tool("xfs_repair", "-L", str(tmp_path / "emptied"))
    assert len(facts(tmp_path / "emptied")) < len(facts(dirty))


def test_a_frozen_disk(tmp_path: Path) -> None:
    need("fsfreeze")
    image, dirty = make(tmp_path / "image", SMALL), tmp_path / "dirty"
    with mounted(image) as folder:
        (folder / "file").write_text("text")
        tool("fsfreeze", "-f", str(folder))
        copy(image, dirty)
        tool("fsfreeze", "-u", str(folder))
    is_replayed(dirty)


@pytest.mark.parametrize("seed", range(2))
def test_a_log_that_went_round(tmp_path: Path, seed: int) -> None:
    image = make(tmp_path / "image", 200 * MiB, "-l", "size=1600b")
    with mounted(image) as folder:
        churn(folder, seed, 900)
        shutdown(folder)
    is_replayed(image)


def test_a_disk_that_was_grown_and_stopped(tmp_path: Path) -> None:
    need("xfs_growfs")
    image = make(tmp_path / "image", 32 * MiB)
    os.truncate(image, 200 * MiB)
    with mounted(image) as folder:
        tool("xfs_growfs", str(folder))
        for number in range(40):
            (folder / f"{number}").mkdir()
            (folder / f"{number}/file").write_bytes(b"x" * 100_000)
        shutdown(folder, "-f")
    is_replayed(image)


def test_a_disk_that_was_unmounted_has_nothing_to_replay(tmp_path: Path) -> None:
    image = make(tmp_path / "image", SMALL)
    assert records(image) == 0
    with mounted(image) as folder:
        (folder / "file").write_text("text")
    assert records(image) == 0


# Logs that no kernel was caught writing, made by hand: Linux has the last word on these too.


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file system with a file of five blocks in one extent, and another without any."""
    made = make(tmp_path / "image", SMALL)
    with mounted(made) as folder:
        (folder / "five").write_bytes(b"".join(b"%d" % number * 4096 for number in range(5)))
        (folder / "none").touch()
        os.truncate(folder / "none", 20 * 4096)
        (folder / "folder").mkdir()
    return made


def inode_and_block(image: Path, name: str) -> tuple[int, int]:
    """Return the inode of a file, and its first block."""
    with mounted(image, "ro") as folder:
        number = (folder / name).stat().st_ino
    said = xfs_db(image, f"inode {number}", "bmap")
    return number, int(said.split("block ")[1].split()[0]) if "block " in said else 0


def test_extents_that_were_still_to_be_mapped_and_unmapped(image: Path) -> None:
    five, block = inode_and_block(image, "five")
    none, _ = inode_and_block(image, "none")
    writer = Writer(image)
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
    found = facts(image)
    with opened(image) as source, Tree() as tree:
        xfs.open(source).fill(tree)
        assert b"".join(piece for _, piece in tree.root.children[b"five"].chunks(MiB)) == b"".join(
            b"%d" % number * 4096 for number in (0, 3, 4)
        )
        assert [at for at, _ in tree.root.children[b"none"].chunks(4096)] == [7 * 4096, 8 * 4096]
        assert of_tree(tree) == found
    is_replayed(image)


@pytest.mark.parametrize("cut", [4, 13, 16, 20, 40, 60])
def test_pieces_that_go_on_in_the_next_record(image: Path, cut: int) -> None:
    five, block = inode_and_block(image, "five")
    start, header, item, commit = transaction(map_intent(five, block + 1, 1, 2, 2))
    writer = Writer(image)
    if cut <= 16:
        first, second = (7, CONTINUE, header[2][:cut]), (7, CONTINUED | END, header[2][cut:])
        writer.record([start, first])
        writer.record([second, item, commit] if cut < 16 else [item, commit])
    else:
        first, second = (7, CONTINUE, item[2][: cut - 16]), (7, CONTINUED | END, item[2][cut - 16 :])
        writer.record([start, header, first])
        writer.record([second, commit])
    is_replayed(image)
    assert facts(image)[b"five"].digest != facts(image)[b"none"].digest


def test_what_was_never_committed_counts_for_nothing(image: Path) -> None:
    before = facts(image)
    five, block = inode_and_block(image, "five")
    Writer(image).record(transaction(map_intent(five, block + 1, 1, 2, 2))[:-1])
    assert records(image)
    assert facts(image) == before
    is_replayed(image)


def test_a_record_that_was_not_written_whole_counts_for_nothing(image: Path) -> None:
    five, block = inode_and_block(image, "five")
    writer = Writer(image)
    writer.record(transaction(map_intent(five, block + 1, 1, 1, 2)))
    writer.record(transaction(map_intent(five, block + 3, 3, 1, 2, identity=2)), broken=True)
    is_replayed(image)
    assert records(image) == 1


def test_the_only_record_was_not_written_whole(image: Path) -> None:
    before = facts(image)
    five, block = inode_and_block(image, "five")
    Writer(image).record(transaction(map_intent(five, block + 1, 1, 1, 2)), broken=True)
    assert facts(image) == before
    assert differences(before, kernel_facts(copy(image, image.with_name("copy")), "rw")) == []


def test_a_record_without_its_end_counts_for_nothing(image: Path) -> None:
    five, block = inode_and_block(image, "five")
    writer = Writer(image)
    writer.record(transaction(map_intent(five, block + 1, 1, 1, 2)))
    at = writer.record(transaction(map_intent(five, block + 3, 3, 1, 2, identity=2), [bytes(600)]))
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), bytes(512), at + 1024)
    is_replayed(image)
    assert records(image) == 1


def test_a_hole_before_the_head_is_the_head(image: Path) -> None:
    five, block = inode_and_block(image, "five")
    writer = Writer(image)
    places = [
        writer.record(transaction(map_intent(five, block + number, number, 1, 2, identity=number)))
        for number in range(1, 4)
    ]
    with image.open("r+b") as file:
        # The one in the middle was under way when the machine stopped, and the last one was not.
        os.pwrite(file.fileno(), bytes(1024), places[1])
    is_replayed(image)
    assert records(image) == 1


def buffer(sector: int, sectors: int, chunks: dict[int, bytes], flags: int = 0) -> list[bytes]:
    bits = sum(1 << chunk for chunk in chunks)
    form = struct.pack("<HHHHqI", 0x123C, 1 + len(chunks), flags, sectors, sector, 2) + struct.pack("<Q", bits)
    return [form, *chunks.values()]


def test_buffers_that_were_freed_later_are_left_alone(image: Path) -> None:
    five, block = inode_and_block(image, "five")
    del five
    sector = block * 8
    writer = Writer(image)
    writer.record(
        [
            *transaction(buffer(sector, 8, {0: b"a" * 128, 2: b"b" * 128}), tid=1),
            *transaction(buffer(sector, 8, {}, flags=2), tid=2),
            # Those of another shape are others, and what comes later is a new one.
            *transaction(buffer(sector + 8, 8, {0: b"c" * 128, 31: b"d" * 128}), tid=3),
        ]
    )
    assert image.read_bytes()[sector * 512 :].startswith(b"0" * 4096)
    with opened(image) as source:
        disk = replay(Volume(Disk(source)))
        assert disk.read(sector * 512, 4096) == b"0" * 4096
        changed = disk.read(sector * 512 + 4096, 4096)
        assert changed == b"c" * 128 + b"1" * (4096 - 256) + b"d" * 128
        assert disk.read(sector * 512 + 4000, 200) == b"0" * 96 + b"c" * 104
        assert disk.is_replayed(sector * 512 + 4096, 1)
        assert not disk.is_replayed(sector * 512, 4096)
    with mounted(copy(image, image.with_name("replayed"))) as folder:
        assert (folder / "five").read_bytes()[:8192] == b"0" * 4096 + changed


def test_inodes(image: Path) -> None:
    five, _ = inode_and_block(image, "five")
    Writer(image).record(transaction(inode_item(image, five, {USER: 4242, SIZE: 3})))
    found = facts(image)
    assert (found[b"five"].uid, found[b"five"].size) == (4242, 3)
    is_replayed(image)


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


# What is not replayed, by name.


def item(kind: int, size: int = 96) -> list[bytes]:
    return [struct.pack("<HHIQ", kind, 1, 0, 5).ljust(size, b"\0")]


@pytest.mark.parametrize(
    ("items", "match"),
    [
        pytest.param([item(0x1248)], "an exchange of files' contents that was under way", id="exchange"),
        pytest.param([item(0x1246)], "a change of extended attributes that was under way", id="attributes"),
        pytest.param([item(0x1299)], "an item of type 0x1299 in its log", id="unknown"),
    ],
)
def test_what_cannot_be_replayed_is_named(image: Path, items: list[list[bytes]], match: str) -> None:
    Writer(image).record(transaction(*items))
    with pytest.raises(UnsupportedFeature, match=match) as caught:
        facts(image)
    assert "xfs_repair -L" in str(caught.value)


@pytest.mark.parametrize("kind", [0x1246, 0x1248])
def test_what_was_done_need_not_be(image: Path, kind: int) -> None:
    before = facts(image)
    Writer(image).record(transaction(item(kind), item(kind + 1), item(0x1236), item(0x1240)))
    assert facts(image) == before


def test_a_parent_pointer_under_way_is_nothing_that_anybody_sees(image: Path) -> None:
    before = facts(image)
    (piece,) = item(0x1246)
    Writer(image).record(transaction([piece[:24] + struct.pack("<I", 4) + piece[28:]]))
    assert facts(image) == before


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (300, struct.pack(">I", 2), "a log of a big-endian machine"),
        (304, bytes(16), "another file system's"),
    ],
)
def test_records_of_others(image: Path, at: int, value: bytes, match: str) -> None:
    place = Writer(image).record(transaction(item(0x1236)))
    with pytest.raises((UnsupportedFeature, CorruptImage), match=match):
        facts(mended(image, {place + at: value}))


def test_features_of_the_log_that_are_not_known(image: Path) -> None:
    mended(image, {220: struct.pack(">I", 0x80)})
    facts(image)
    Writer(image).record(transaction(item(0x1236)))
    with pytest.raises(UnsupportedFeature, match="a log with the features 0x80"):
        facts(image)


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
def test_damage(image: Path, operations: Callable[[int], list[tuple[int, int, bytes]]], match: str) -> None:
    Writer(image).record(operations(0))
    with pytest.raises(CorruptImage, match=match) as caught:
        facts(image)
    assert str(image) in str(caught.value)


def test_a_log_that_was_never_written(image: Path) -> None:
    size = int.from_bytes(image.read_bytes()[96:100], "big") * 4096
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), bytes(size), Writer(image).start)
    with pytest.raises(CorruptImage, match="nothing was ever written to it"):
        facts(image)


def test_what_a_log_may_take(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Writer(image).record(transaction(buffer(8000, 8, {0: b"x" * 128, 9: b"y" * 128})))
    facts(image)
    monkeypatch.setattr(overlay, "MAX_REPLAYED", 512)
    with pytest.raises(LimitExceeded, match="the log changes more than"):
        facts(image)
    monkeypatch.setattr(log, "_MAX_OPEN", 300)
    with pytest.raises(LimitExceeded, match="a transaction in the log takes more than 300 bytes"):
        facts(image)
