"""Which file system a file is on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.formats.io.mounts import file_system

_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@_LINUX
def test_proc_is_proc() -> None:
    with Path("/proc/self/mountinfo").open("rb") as file:
        assert file_system(file.fileno()) == "proc"


@_LINUX
@pytest.mark.skipif(not shutil.which("findmnt"), reason="findmnt (util-linux) is not installed")
def test_findmnt_says_the_same(tmp_path: Path) -> None:
    found = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", tmp_path], capture_output=True, text=True, check=True
    )
    with (tmp_path / "file").open("wb") as file:
        # A subvolume of btrfs has a device number of its own, which mountinfo does not know.
        assert file_system(file.fileno()) in (found.stdout.strip(), None)


def _mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> str | None:
    """Return the file system of a file on the device that `line` of mountinfo names as {device}."""
    status = tmp_path.stat()
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    text = f"1 0 9999:1 / / rw - xfs /dev/sda1 rw\n{line.format(device=device)}\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    with (tmp_path / "file").open("wb") as file:
        return file_system(file.fileno())


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("27 1 {device} / / rw,relatime - ext4 /dev/vda rw", "ext4"),
        ("27 1 {device} / /mnt rw shared:1 master:2 - ext4 /dev/vda rw", "ext4"),
        ("27 1 {device} / - rw - btrfs - rw", "btrfs"),
        ("27 1 {device} / / rw", None),
        ("27 1 {device}", None),
        ("", None),
    ],
)
def test_the_type_is_behind_the_dash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, name: str | None
) -> None:
    assert _mounted(monkeypatch, tmp_path, line) == name


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    with (tmp_path / "file").open("wb") as file:
        assert file_system(file.fileno()) is None
