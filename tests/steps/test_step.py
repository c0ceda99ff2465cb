from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import LarderError
from recipes.steps.step import Request, run

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.progress import Progress


def request(folder: Path, *, force: bool = False, json: bool = False) -> Request:
    return Request(folder / "source", folder / "made", 1, 1 << 30, force, json, threading.Event())


def make(draft: Path, progress: Progress) -> dict[str, Any]:
    draft.write_bytes(b"made")
    return {}


def fail(draft: Path, progress: Progress) -> dict[str, Any]:
    draft.write_bytes(b"half")
    raise LarderError("no")


def test_it_is_there_whole_and_said(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    assert run(request(tmp_path), "raw", make).startswith(f"{tmp_path / 'made'}: 4 B, ")
    assert (tmp_path / "made").read_bytes() == b"made"


def test_after_an_error_there_is_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    (tmp_path / "made").write_bytes(b"before")
    with pytest.raises(LarderError, match="no"):
        run(request(tmp_path, force=True), "raw", fail)
    assert (tmp_path / "made").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "source"]


@pytest.mark.parametrize(("folders", "message"), [(False, "expected a file, found a folder"), (True, "")])
def test_a_folder_is_a_source_for_some(tmp_path: Path, folders: bool, message: str) -> None:
    (tmp_path / "source").mkdir()
    if folders:
        assert run(request(tmp_path), "rootfs", make, folders=True)
    else:
        with pytest.raises(LarderError, match=message):
            run(request(tmp_path), "raw", make)


def test_where_nothing_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(LarderError, match="expected a file, found nothing"):
        run(request(tmp_path), "raw", make)
    (tmp_path / "source").touch()
    (tmp_path / "made").write_bytes(b"mine")
    with pytest.raises(LarderError, match="exists already"):
        run(request(tmp_path), "raw", make)
    assert (tmp_path / "made").read_bytes() == b"mine"
