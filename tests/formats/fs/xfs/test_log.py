"""A log that was not written back, against Linux, which replays it when it mounts."""

from __future__ import annotations

import os
import random
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.fs.xfs import log
from tests.kit.oracles import need
from tests.kit.trees import differences
from tests.kit.xfs_images import (
    CONTINUE,
    CONTINUED,
    END,
    SMALL,
    Writer,
    copy,
    facts,
    kernel_facts,
    make,
    map_intent,
    mended,
    mounted,
    populate,
    reflink,
    shutdown,
    tool,
    transaction,
    xfs_db,
)
from tests.kit.xfs_logs import buffer, inode_and_block, is_replayed, item, records

if TYPE_CHECKING:
    from pathlib import Path


MiB = 1 << 20


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


@pytest.mark.parametrize("cut", [4, 13, 16, 20, 40, 60])
def test_pieces_that_go_on_in_the_next_record(logged: Path, cut: int) -> None:
    five, block = inode_and_block(logged, "five")
    start, header, item, commit = transaction(map_intent(five, block + 1, 1, 2, 2))
    writer = Writer(logged)
    if cut <= 16:
        first, second = (7, CONTINUE, header[2][:cut]), (7, CONTINUED | END, header[2][cut:])
        writer.record([start, first])
        writer.record([second, item, commit] if cut < 16 else [item, commit])
    else:
        first, second = (7, CONTINUE, item[2][: cut - 16]), (7, CONTINUED | END, item[2][cut - 16 :])
        writer.record([start, header, first])
        writer.record([second, commit])
    is_replayed(logged)
    assert facts(logged)[b"five"].digest != facts(logged)[b"none"].digest


def test_what_was_never_committed_counts_for_nothing(logged: Path) -> None:
    before = facts(logged)
    five, block = inode_and_block(logged, "five")
    Writer(logged).record(transaction(map_intent(five, block + 1, 1, 2, 2))[:-1])
    assert records(logged)
    assert facts(logged) == before
    is_replayed(logged)


def test_a_record_that_was_not_written_whole_counts_for_nothing(logged: Path) -> None:
    five, block = inode_and_block(logged, "five")
    writer = Writer(logged)
    writer.record(transaction(map_intent(five, block + 1, 1, 1, 2)))
    writer.record(transaction(map_intent(five, block + 3, 3, 1, 2, identity=2)), broken=True)
    is_replayed(logged)
    assert records(logged) == 1


def test_the_only_record_was_not_written_whole(logged: Path) -> None:
    before = facts(logged)
    five, block = inode_and_block(logged, "five")
    Writer(logged).record(transaction(map_intent(five, block + 1, 1, 1, 2)), broken=True)
    assert facts(logged) == before
    assert differences(before, kernel_facts(copy(logged, logged.with_name("copy")), "rw")) == []


def test_a_record_without_its_end_counts_for_nothing(logged: Path) -> None:
    five, block = inode_and_block(logged, "five")
    writer = Writer(logged)
    writer.record(transaction(map_intent(five, block + 1, 1, 1, 2)))
    at = writer.record(transaction(map_intent(five, block + 3, 3, 1, 2, identity=2), [bytes(600)]))
    with logged.open("r+b") as file:
        os.pwrite(file.fileno(), bytes(512), at + 1024)
    is_replayed(logged)
    assert records(logged) == 1


def test_a_hole_before_the_head_is_the_head(logged: Path) -> None:
    five, block = inode_and_block(logged, "five")
    writer = Writer(logged)
    places = [
        writer.record(transaction(map_intent(five, block + number, number, 1, 2, identity=number)))
        for number in range(1, 4)
    ]
    with logged.open("r+b") as file:
        # The one in the middle was under way when the machine stopped, and the last one was not.
        os.pwrite(file.fileno(), bytes(1024), places[1])
    is_replayed(logged)
    assert records(logged) == 1


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (300, struct.pack(">I", 2), "a log of a big-endian machine"),
        (304, bytes(16), "another file system's"),
    ],
)
def test_records_of_others(logged: Path, at: int, value: bytes, match: str) -> None:
    place = Writer(logged).record(transaction(item(0x1236)))
    with pytest.raises((UnsupportedFeature, CorruptImage), match=match):
        facts(mended(logged, {place + at: value}))


def test_a_log_that_was_never_written(logged: Path) -> None:
    size = int.from_bytes(logged.read_bytes()[96:100], "big") * 4096
    with logged.open("r+b") as file:
        os.pwrite(file.fileno(), bytes(size), Writer(logged).start)
    with pytest.raises(CorruptImage, match="nothing was ever written to it"):
        facts(logged)


def test_what_a_transaction_may_take(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Writer(logged).record(transaction(buffer(8000, 8, {0: b"x" * 128, 9: b"y" * 128})))
    facts(logged)
    monkeypatch.setattr(log, "_MAX_OPEN", 300)
    with pytest.raises(LimitExceeded, match="a transaction in the log takes more than 300 bytes"):
        facts(logged)
