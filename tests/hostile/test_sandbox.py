"""What watches has to see."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage

from . import sandbox

if TYPE_CHECKING:
    import pytest


def test_what_is_right_is_right(tmp_path: Path) -> None:
    (tmp_path / "own").write_bytes(b"own")
    outcome = sandbox.run((tmp_path / "own").read_bytes, tmp_path)
    assert outcome.accepted
    assert outcome.wrong == ""


def test_a_refusal_is_right(tmp_path: Path) -> None:
    def refuse() -> None:
        raise CorruptImage("damaged")

    assert sandbox.run(refuse, tmp_path)[:3] == (False, "damaged", "")


def test_a_traceback(tmp_path: Path) -> None:
    assert "ZeroDivisionError" in sandbox.run(lambda: 1 // 0, tmp_path).wrong


def test_a_foreign_file(tmp_path: Path) -> None:
    assert sandbox.run(Path("/etc/passwd").read_bytes, tmp_path).wrong == "opened /etc/passwd"


def test_a_foreign_file_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert sandbox.run((tmp_path / "link").read_bytes, tmp_path).wrong == "opened /etc/passwd"


def test_a_change_elsewhere(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    assert "opened" in sandbox.run(lambda: (tmp_path / "new").write_bytes(b""), inside).wrong
    assert "os.mkdir" in sandbox.run((tmp_path / "folder").mkdir, inside).wrong


def test_another_program(tmp_path: Path) -> None:
    assert "subprocess.Popen" in sandbox.run(lambda: subprocess.run(["true"], check=True), tmp_path).wrong


def test_a_library(tmp_path: Path) -> None:
    assert "ctypes.dlopen" in sandbox.run(lambda: ctypes.CDLL("libm.so.6"), tmp_path).wrong
    assert sandbox.run(lambda: ctypes.CDLL(None), tmp_path).wrong == "", "the program itself"


def test_too_much_memory(tmp_path: Path) -> None:
    # Three times the limit: some of it may be memory that this process had kept, which costs no page.
    assert "MiB of memory" in sandbox.run(lambda: len(b"x" * (800 << 20)), tmp_path).wrong


def test_too_much_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 0.05)
    assert "s of CPU" in sandbox.run(lambda: sum(range(20_000_000)), tmp_path).wrong


def test_a_process_that_dies(tmp_path: Path) -> None:
    assert "ended by itself: -9" in sandbox.run(lambda: os.kill(os.getpid(), 9), tmp_path).wrong
