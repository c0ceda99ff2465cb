from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from recipes.cache import store
from recipes.cache.receipt import Receipt
from recipes.cache.store import Store
from recipes.errors import StoreError
from recipes.model import Artifact
from recipes.progress import SILENCE
from tests.kit.receipts import DIGEST, publish, receipt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.cache.store import Entry


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return Store(tmp_path).entry_of("a", "x86_64")


def test_what_is_published_is_current(entry: Entry) -> None:
    with entry.hold() as held:
        written = publish(held, "k1", b"bytes")
    assert entry.current("raw", "k1") == written
    assert entry.current("raw", "k2") is None
    assert written.artifact.size == 5
    assert entry.artifact("raw").stat().st_mode & 0o222 == 0


def test_a_receipt_survives_its_json(entry: Entry) -> None:
    with entry.hold() as held:
        written = publish(held, "k1", b"bytes")
    assert Receipt.from_json(written.to_json()) == written


@pytest.mark.parametrize("harm", ["size", "mtime", "gone"])
def test_an_artifact_that_is_not_as_its_receipt_says_is_not_current(entry: Entry, harm: str) -> None:
    with entry.hold() as held:
        publish(held, "k1", b"bytes")
    path = entry.artifact("raw")
    match harm:
        case "size":
            recorded = path.stat()
            path.chmod(0o644)
            path.write_bytes(b"longer bytes")
            os.utime(path, ns=(recorded.st_atime_ns, recorded.st_mtime_ns))
        case "mtime":
            os.utime(path)
        case _:
            path.unlink()
    assert entry.current("raw", "k1") is None


class Crash(BaseException):
    pass


def crash_points() -> list[tuple[str, int]]:
    """Return each step of a publication as the name of the call and its turn."""
    return [("fsync", 0), ("fsync", 1), ("fsync", 2), ("replace", 0), ("replace", 1)]


@pytest.mark.parametrize(("call", "turn"), crash_points())
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_step_leaves_the_old_or_the_new(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, call: str, turn: int, after: bool
) -> None:
    with entry.hold() as held:
        publish(held, "old", b"old bytes")
    calls = 0
    real: Any = os.fsync if call == "fsync" else Path.replace

    def crashing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 == turn and not after:
            raise Crash
        result = real(*arguments)
        if calls - 1 == turn:
            raise Crash
        return result

    monkeypatch.setattr(os if call == "fsync" else Path, call, crashing)
    with pytest.raises(Crash), entry.hold() as held:
        publish(held, "new", b"new bytes")
    monkeypatch.undo()
    old, new = entry.current("raw", "old"), entry.current("raw", "new")
    if old:
        assert entry.artifact("raw").read_bytes() == b"old bytes"
    if new:
        assert entry.artifact("raw").read_bytes() == b"new bytes"
    # At every one of these instants, one of them serves.
    assert bool(old) != bool(new)
    with entry.hold() as held:
        assert {path.name for path in entry.path.iterdir()} <= {".lock", "disk.raw", "raw.json"}
        publish(held, "new", b"new bytes")
    assert entry.current("raw", "new")


def test_only_one_holds_an_entry(entry: Entry) -> None:
    with entry.hold(), pytest.raises(StoreError, match="in use by another"), entry.hold():
        pass
    with entry.hold():
        pass


def test_who_waits_for_an_entry_that_is_removed_holds_a_new_one(entry: Entry) -> None:
    class Waiting:
        """Tell that somebody waits."""

        def __init__(self) -> None:
            self.waits = threading.Event()

        @contextmanager
        def meter(self, label: str, total: int | None = None) -> Iterator[Waiting]:
            yield self

        def note(self, message: str) -> None:
            pass

        def expect(self, total: int | None) -> None:
            pass

        def advance(self, count: int) -> None:
            self.waits.set()

    waiting, held, checked = Waiting(), threading.Event(), threading.Event()
    refused: list[str] = []

    def wait() -> None:
        try:
            with entry.hold(waiting) as second:
                publish(second, "k2", b"bytes")
                held.set()
                checked.wait(20)
        except StoreError as error:
            refused.append(str(error))
            held.set()

    waiter = threading.Thread(target=wait)
    with entry.hold() as first:
        publish(first, "k1", b"other")
        entry.ask("raw")
        entry.clones.mkdir()
        waiter.start()
        assert waiting.waits.wait(20)
        first.remove()
    assert held.wait(20)
    assert refused == []
    # The lock that it holds is the one that everybody else finds.
    with pytest.raises(StoreError, match="in use"), entry.hold():
        pass
    checked.set()
    waiter.join()
    assert entry.current("raw", "k2") is not None
    assert entry.asked() == set()


def test_a_lock_on_a_file_without_a_name_is_none(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our opening of the lock's file and our locking it, its holder removes the entry and is gone."""
    real = fcntl.flock
    removed: list[bool] = []

    def flock(fd: int, operation: int) -> None:
        if not removed:
            removed.append(True)
            shutil.rmtree(entry.path)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with entry.hold(SILENCE) as held:
        publish(held, "k1", b"bytes")
        with pytest.raises(StoreError, match="in use"), entry.hold():
            pass
    assert removed
    assert entry.current("raw", "k1") is not None


def test_leftovers_go_with_the_next_lock(entry: Entry) -> None:
    with entry.hold() as held:
        held.temporary("raw").write_bytes(b"half")
    assert entry.leftovers()
    with entry.hold():
        assert not entry.leftovers()


def test_marks(entry: Entry) -> None:
    assert entry.asked() == set()
    entry.ask("fetch")
    entry.ask("fetch")
    assert entry.asked() == {"fetch"}
    with entry.hold() as held:
        held.forget("fetch")
    assert entry.asked() == set()


def test_link_falls_back_to_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"bytes" * 1000)

    def refuse(*arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    store.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"bytes" * 1000
    assert not (tmp_path / "b").samefile(tmp_path / "a")


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="LARDER_CACHE"), Store(tmp_path / "file").entry_of("a", "x86_64").hold():
        pass


def test_the_cache_is_marked_for_backup_tools(tmp_path: Path) -> None:
    Store(tmp_path / "cache").prepare()
    tag = (tmp_path / "cache" / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_a_receipt_of_another_version_is_refused() -> None:
    document = receipt("k").to_json()
    with pytest.raises(ValueError, match="receipt version 2"):
        Receipt.from_json({**document, "larder": 2})
    assert dataclasses.replace(receipt("k"), artifact=Artifact(0, 0, 0, digest=DIGEST)) == Receipt.from_json(document)


@pytest.mark.parametrize(
    ("number", "gone"),
    [(errno.ENOENT, True), (errno.ENOTDIR, True), (errno.EACCES, False), (errno.EIO, False), (errno.ESTALE, False)],
    ids=lambda value: errno.errorcode.get(value, "") if value is not True else "",
)
def test_what_is_not_found_is_gone_only_where_that_is_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, gone: bool
) -> None:
    def fail(path: Path, **_: object) -> os.stat_result:
        raise OSError(number, os.strerror(number), str(path))

    assert not store.is_gone(tmp_path)
    assert store.is_gone(tmp_path / "nothing")
    monkeypatch.setattr(Path, "stat", fail)
    assert store.is_gone(tmp_path) == gone
    assert not store.is_there(tmp_path)


def test_a_mark_that_cannot_be_read_may_ask_for_something(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    entry.ask("raw")
    stat = Path.stat

    def fail(path: Path, **named: Any) -> os.stat_result:
        if path.suffix == ".asked":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return stat(path, **named)

    monkeypatch.setattr(Path, "stat", fail)
    assert "raw" in entry.asked()


def test_an_entry_is_spent_with_its_last_artifact(entry: Entry) -> None:
    assert not entry.is_spent()
    with entry.hold() as held:
        publish(held, "k", b"bytes")
        (entry.path / ".tmp-raw-1").touch()
        (entry.path / "disk.qcow3").touch()
        entry.ask("raw")
        held.discard("raw")
        assert not entry.is_spent(), "a later version may know what that is"
        (entry.path / "disk.qcow3").unlink()
        assert entry.is_spent()
        entry.part.touch()
        assert not entry.is_spent()


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_a_folder_above_the_entry_that_vanishes_is_made_again(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """Another process removes the last entry of the image while this one makes a folder in it."""
    mkdir = Path.mkdir

    def vanish(path: Path, *arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(Path, "mkdir", mkdir)
        raise error(errno.ENOENT, "vanished", str(path))

    monkeypatch.setattr(Path, "mkdir", vanish)
    with entry.hold() as held:
        publish(held, "k", b"bytes")
    assert entry.current("raw", "k")


def test_a_file_in_place_of_an_entry_is_told(entry: Entry) -> None:
    entry.path.parent.mkdir(parents=True)
    entry.path.touch()
    with pytest.raises(StoreError, match="it is no folder"), entry.hold():
        pass
