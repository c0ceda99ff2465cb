from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from recipes.cache import holder as module
from recipes.cache.holder import holder
from tests.kit.locks import LOCK

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/locks")
def test_of_a_lock_that_another_process_holds(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.touch()
    words = [sys.executable, "-c", LOCK, str(file), "https://me:secret@example.org/"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        said = holder(file)
        process.stdin.close()
    if said != "another process":  # a container may hide /proc/locks
        assert re.fullmatch(rf"process {process.pid} \(-c .*, \d.* s\)", said, re.DOTALL), said
        assert "secret" not in said


def test_of_a_file_that_nobody_else_has_locked(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert holder(file) == "another process"
    assert holder(tmp_path / "missing") == "another process"


def test_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".lock"
    file.touch()
    status = file.stat()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    (tmp_path / "locks").write_text(
        f"1: FLOCK  ADVISORY  WRITE 1 00:00:1 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 {place} 0 EOF\n"
        f"2: -> FLOCK  ADVISORY  WRITE 4712 {place} 0 EOF\n"
    )
    (tmp_path / "uptime").write_text("1000.00 1.00\n")
    monkeypatch.setattr(module, "_PROC", tmp_path)
    assert holder(file) == "process 4711"
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711" / "cmdline").write_bytes(b"/usr/bin/python3\0/venv/bin/doit\0raw:x\0")
    ticks = 880 * os.sysconf("SC_CLK_TCK")
    (tmp_path / "4711" / "stat").write_text(f"4711 (a ) b) S {'0 ' * 18}{ticks} 0\n")
    assert holder(file) == "process 4711 (doit raw:x, 2 min 0 s)"
