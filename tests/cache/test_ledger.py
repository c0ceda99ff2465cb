from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from recipes.cache import ledger
from recipes.cache.store import Entry
from recipes.export.clone import Cloned, Wish, clone
from recipes.formats.io import sparse
from tests.kit.project import MiB, disk


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    folder = tmp_path / "cache" / "images" / "a" / "x86_64"
    folder.mkdir(parents=True)
    with sparse.SparseFile(folder / "disk.raw") as file:
        file.write(disk("a"))
        file.finish(2 * MiB)
    (tmp_path / "vm").mkdir()
    return Entry(folder, "a", "x86_64")


def take(entry: Entry, path: Path, wish: Wish) -> Cloned:
    cloned = clone(entry.artifact("raw"), path, wish)
    ledger.remember(entry, cloned.path, cloned.base, kind=wish.kind, format=wish.format, method=cloned.method)
    return cloned


def test_clones_are_remembered_as_long_as_they_are_there(entry: Entry, tmp_path: Path) -> None:
    first, second = tmp_path / "vm" / "1", tmp_path / "vm" / "2"
    assert ledger.living(entry) == []
    take(entry, first, Wish("raw"))
    take(entry, second, Wish("qcow2"))
    one, two = ledger.living(entry)
    assert (one.path, one.kind, one.format, one.base) == (first, "raw", "raw", None)
    assert (two.path, two.kind, two.format, two.method) == (second, "raw", "qcow2", "hardlink")
    assert two.base == tmp_path / "vm" / "2.base.raw"
    # A guest's writes make no other file of it.
    first.write_bytes(b"written")
    assert ledger.living(entry) == [one, two]

    first.unlink()
    assert ledger.living(entry) == [two]
    # Another file of that name, made while the old one was there: it cannot have its inode.
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").replace(two.base)
    assert ledger.living(entry) == []
    assert list(entry.clones.iterdir()) == []


def test_a_clone_that_replaces_another_is_remembered_once(entry: Entry, tmp_path: Path) -> None:
    for _ in range(3):
        take(entry, tmp_path / "vm" / "1", Wish("raw", force=True))
    assert len(ledger.living(entry)) == 1


def test_what_is_gone_is_dropped_also_where_nobody_looks(entry: Entry, tmp_path: Path) -> None:
    for number in range(150):
        path = tmp_path / "vm" / str(number)
        take(entry, path, Wish("fetch", method="hardlink"))
        path.unlink()
    assert len(list(entry.clones.iterdir())) < 64


def test_what_is_no_record_is_dropped(entry: Entry, tmp_path: Path) -> None:
    take(entry, tmp_path / "vm" / "1", Wish("raw"))
    for name, text in (
        ("torn", '{"path": "/'),
        ("list", "[]"),
        ("empty", ""),
        ("later", '{"base": null, "path": "/"}'),
    ):
        (entry.clones / name).write_text(text)
    assert len(ledger.living(entry)) == 1
    assert len(list(entry.clones.iterdir())) == 1


def test_a_cache_that_cannot_be_written_to_gives_clones_all_the_same(entry: Entry, tmp_path: Path) -> None:
    entry.clones.write_bytes(b"no folder")
    assert take(entry, tmp_path / "vm" / "1", Wish("raw")).path.exists()


class TestShares:
    def test_of_a_hard_link_is_everything(self, entry: Entry, tmp_path: Path) -> None:
        cloned = take(entry, tmp_path / "vm" / "1", Wish("qcow2"))
        whole = sparse.allocated(entry.artifact("raw"))
        (share,), shared = ledger.shares(entry.artifact("raw"), ledger.living(entry))
        assert (share.shared, share.saved) == (whole, whole - sparse.allocated(cloned.path))
        assert shared == whole

    def test_of_an_overlay_that_was_written_to_is_less(self, entry: Entry, tmp_path: Path) -> None:
        cloned = take(entry, tmp_path / "vm" / "1", Wish("qcow2"))
        with cloned.path.open("ab") as file:
            file.write(b"x" * 8 * MiB)
        (share,), _ = ledger.shares(entry.artifact("raw"), ledger.living(entry))
        assert share.saved == 0

    def test_of_a_copy_is_nothing(self, entry: Entry, tmp_path: Path) -> None:
        take(entry, tmp_path / "vm" / "1", Wish("raw", method="copy"))
        (share,), shared = ledger.shares(entry.artifact("raw"), ledger.living(entry))
        assert (share.shared, share.saved, shared) == (0, 0, 0)

    def test_with_an_artifact_that_was_made_anew_is_nothing(self, entry: Entry, tmp_path: Path) -> None:
        take(entry, tmp_path / "vm" / "1", Wish("qcow2"))
        (tmp_path / "new").write_bytes(disk("new"))
        (tmp_path / "new").replace(entry.artifact("raw"))
        (share,), shared = ledger.shares(entry.artifact("raw"), ledger.living(entry))
        assert (share.shared, share.saved, shared) == (0, 0, 0)

    def test_of_a_reflink_is_not_guessed(self, entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("recipes.formats.io.fiemap.places", lambda path: None)
        monkeypatch.setattr(sparse, "reflink", lambda src, dst, **_: bool(dst.write_bytes(src.read_bytes())))
        take(entry, tmp_path / "vm" / "1", Wish("raw", method="reflink"))
        (share,), shared = ledger.shares(entry.artifact("raw"), ledger.living(entry))
        assert (share.shared, share.saved, shared) == (None, None, None)

    def test_without_clones(self, entry: Entry) -> None:
        assert ledger.shares(entry.artifact("raw"), []) == ([], 0)


class TestManyAtOnce:
    """Records are written while others read them, and drop what is gone."""

    def test_a_draft_is_its_writer_s(self, entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write = Path.write_text

        def read_meanwhile(draft: Path, *arguments: Any, **named: Any) -> int:
            draft.touch()
            assert ledger.living(entry) == []
            assert draft.exists()
            return write(draft, *arguments, **named)

        monkeypatch.setattr(Path, "write_text", read_meanwhile)
        take(entry, tmp_path / "vm" / "1", Wish("raw"))
        assert len(ledger.living(entry)) == 1

    def test_a_record_that_takes_the_place_of_one_that_is_dropped(
        self, entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The clone was replaced: between the look at the old one and the deletion the new one is recorded."""
        path = tmp_path / "vm" / "1"
        take(entry, path, Wish("raw"))
        lives = ledger.Clone.lives

        def replaced_meanwhile(record: ledger.Clone) -> bool | None:
            monkeypatch.setattr(ledger.Clone, "lives", lives)
            take(entry, path, Wish("raw", force=True))
            return lives(record)

        monkeypatch.setattr(ledger.Clone, "lives", replaced_meanwhile)
        ledger.living(entry)
        assert [clone.path for clone in ledger.living(entry)] == [path]

    def test_what_one_may_not_look_at_is_not_gone(
        self, entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take(entry, tmp_path / "vm" / "1", Wish("raw"))
        lstat = Path.lstat

        def refused(path: Path) -> os.stat_result:
            if path.parent.name == "vm":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return lstat(path)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "lstat", refused)
            assert ledger.living(entry) == []
        assert len(ledger.living(entry)) == 1

    def test_drafts_of_the_dead_go(self, entry: Entry) -> None:
        entry.clones.mkdir()
        (entry.clones / ".0123456789abcdef.01234567").touch()
        os.utime(entry.clones / ".0123456789abcdef.01234567", (1, 1))
        assert ledger.living(entry) == []
        assert list(entry.clones.iterdir()) == []
