"""doit's database: what is there after a kill, beside another run, and where none is to be had."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from doit.dependency import JSONCodec
from doit.exceptions import InvalidCommand

from recipes.graph import database
from recipes.graph.database import WriteThrough

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "doit.db"


@pytest.fixture
def opened(path: Path) -> Iterator[list[WriteThrough]]:
    """Close what a test opens."""
    found: list[WriteThrough] = []
    yield found
    for each in found:
        each._conn.close()


def db(path: Path, opened: list[WriteThrough]) -> WriteThrough:
    opened.append(WriteThrough(str(path), JSONCodec()))
    return opened[-1]


def stored(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("select task_id from doit order by task_id")]


def done(found: WriteThrough, task: str) -> None:
    """Record a task as doit does, field by field."""
    found.set(task, "result:", "x")
    found.set(task, "deps:", [])


class TestWriting:
    def test_a_task_is_there_when_its_last_field_is(self, path: Path, opened: list[WriteThrough]) -> None:
        found = db(path, opened)
        found.set("raw:a", "result:", "x")
        assert stored(path) == []
        found.set("raw:a", "deps:", [])
        assert stored(path) == ["raw:a"]
        # Without dump(), as after a kill.
        assert db(path, opened).get("raw:a", "result:") == "x"

    def test_an_ignored_task_too(self, path: Path, opened: list[WriteThrough]) -> None:
        db(path, opened).set("raw:a", "ignore:", "1")
        assert stored(path) == ["raw:a"]

    def test_two_runs_keep_each_others_records(self, path: Path, opened: list[WriteThrough]) -> None:
        one, other = db(path, opened), db(path, opened)
        done(one, "raw:a")
        done(other, "raw:b")
        one.dump()
        other.dump()
        assert stored(path) == ["raw:a", "raw:b"]

    def test_forgetting(self, path: Path, opened: list[WriteThrough]) -> None:
        found = db(path, opened)
        for task in ("raw:a", "raw:b", "raw:c"):
            done(found, task)
        found.remove("raw:a")
        assert stored(path) == ["raw:b", "raw:c"]
        assert list(found.records()) == ["raw:b", "raw:c"]
        found.remove_all()
        found.dump()
        assert stored(path) == []


class TestWhatIsNoDatabase:
    @pytest.mark.parametrize("content", [b"nonsense" * 100, b"SQLite format 3\0" + b"x" * 5000])
    def test_is_kept_beside_a_new_one(self, path: Path, opened: list[WriteThrough], content: bytes) -> None:
        path.write_bytes(content)
        done(db(path, opened), "raw:a")
        assert stored(path) == ["raw:a"]
        assert path.with_name("doit.db.broken").read_bytes() == content

    def test_of_somebody_else(self, path: Path, opened: list[WriteThrough]) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table doit (other text)")
            connection.commit()
        done(db(path, opened), "raw:a")
        assert stored(path) == ["raw:a"]
        assert path.with_name("doit.db.broken").exists()

    def test_an_empty_file_is_a_new_one(self, path: Path, opened: list[WriteThrough]) -> None:
        path.touch()
        done(db(path, opened), "raw:a")
        assert stored(path) == ["raw:a"]
        assert not path.with_name("doit.db.broken").exists()

    def test_a_record_that_is_none_is_of_no_task(self, path: Path, opened: list[WriteThrough]) -> None:
        done(db(path, opened), "raw:a")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("update doit set task_data = 'nonsense'")
            connection.commit()
        found = db(path, opened)
        assert found.get("raw:a", "result:") is None
        assert found.records() == {"raw:a": {}}


class TestWhereNoneIsToBeHad:
    def test_a_folder_in_its_place(self, path: Path, opened: list[WriteThrough]) -> None:
        path.mkdir()
        found = db(path, opened)
        done(found, "raw:a")
        assert found.get("raw:a", "result:") == "x"
        assert path.is_dir()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_cache_that_is_read_only(self, path: Path, opened: list[WriteThrough]) -> None:
        path.parent.chmod(0o500)
        found = db(path, opened)
        done(found, "raw:a")
        path.parent.chmod(0o700)
        assert not path.exists()

    def test_somebody_holds_it(self, path: Path, opened: list[WriteThrough], monkeypatch: pytest.MonkeyPatch) -> None:
        done(db(path, opened), "raw:a")
        monkeypatch.setattr(database, "_BUSY_MILLISECONDS", 10)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin exclusive")
            found = db(path, opened)
            done(found, "raw:b")
            assert found.get("raw:b", "result:") == "x"
            other.execute("rollback")
        assert stored(path) == ["raw:a"]
        assert not path.with_name("doit.db.broken").exists()

    def test_what_a_person_asks_for_fails_in_words(self, path: Path, opened: list[WriteThrough]) -> None:
        found = db(path, opened)
        found._conn.execute("drop table doit")
        with pytest.raises(InvalidCommand, match="no such table"):
            found.remove_all()
        with pytest.raises(InvalidCommand, match="no such table"):
            found.records()
        # Neither a task nor the end of a run is worth an error.
        found.remove("raw:a")
        done(found, "raw:a")
