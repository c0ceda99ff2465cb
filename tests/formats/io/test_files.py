"""Refusals of the operating system in a person's words, and files that are replaced as a whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from recipes.errors import NoSpace, StoreError
from recipes.formats.io import files


def refused(number: int, name: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), name)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (refused(errno.EIO), StoreError, "here: Input/output error"),
        (refused(errno.EACCES, "there"), StoreError, "there: Permission denied"),
        (refused(errno.ENOSPC), NoSpace, "here: No space left on device"),
        (refused(errno.EDQUOT), NoSpace, f"here: {os.strerror(errno.EDQUOT)}"),
        # As gzip and others raise it.
        (OSError("not what was expected"), StoreError, "here: not what was expected"),
    ],
    ids=str,
)
def test_what_the_system_refuses(error: OSError, kind: type[StoreError], message: str) -> None:
    with pytest.raises(StoreError) as caught, files.os_errors(Path("here")):
        raise error
    assert type(caught.value) is kind
    assert caught.value.message == message
    assert caught.value.__cause__ is not None


def test_only_a_full_disk_is_a_disk_error() -> None:
    with pytest.raises(FileExistsError), files.disk_errors(Path("here")):
        raise FileExistsError
    with pytest.raises(NoSpace, match="here"), files.disk_errors(Path("here")):
        raise refused(errno.ENOSPC, "there")


def test_replace_makes_the_new_file_durable_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"old")
    seen = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        (draft,) = (each for each in tmp_path.iterdir() if each != path)
        assert os.path.samestat(os.fstat(descriptor), draft.stat())
        seen.append((path.read_bytes(), draft.read_bytes()))

    monkeypatch.setattr(os, "fsync", watched)
    files.replace(path, b"new")
    assert seen == [(b"old", b"new")]
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_replaced_stays_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise refused(errno.ENOSPC)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_file_can_be_made(tmp_path: Path) -> None:
    files.require_folder(tmp_path / "new")
    files.require_free(tmp_path / "new", force=False)
    with pytest.raises(StoreError, match="none is not a folder"):
        files.require_folder(tmp_path / "none" / "new")
    with pytest.raises(StoreError, match="expected the name of a file, found a folder"):
        files.require_free(tmp_path, force=True)
    (tmp_path / "old").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("old", "loop"):
        files.require_free(tmp_path / name, force=True)
        with pytest.raises(StoreError, match=f"{name} exists already"):
            files.require_free(tmp_path / name, force=False)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="expected a file or nothing, found what is neither"):
        files.require_free(tmp_path / "fifo", force=True)
