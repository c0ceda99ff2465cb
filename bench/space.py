"""What instances take on disk: each its own conversion, or clones of one; by what the file systems say."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.kit.debian import GiB, run

from . import images
from .rows import mounted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .rows import Kit

_CLONES = 20
HEADER = ["| on | what | bytes on disk |", "| --- | --- | --- |"]


def lines(kit: Kit) -> list[str]:
    """Return the lines of the table that `HEADER` begins, one group for each file system."""
    table = []
    for name in images.FILE_SYSTEMS:
        folder = mounted(kit, name, 6 * GiB)
        table += [f"| {name} | {what} | {taken:,} |" for what, taken in _measured(kit, folder, name != "ext4")]
    return table


def _measured(kit: Kit, folder: Path, shares: bool) -> list[tuple[str, int]]:
    qcow2, raw = folder / "image.qcow2", folder / "disk.raw"
    wrapper = _taken(folder, lambda: run("cp", kit.variant("zlib.qcow2"), qcow2))
    once = _taken(folder, lambda: _recipes("raw", "--no-blkhash", qcow2, raw))
    form = "raw" if shares else "qcow2"
    first = _taken(folder, lambda: _clones(raw, folder, 2, form))
    # Nothing is deleted before or between: XFS frees what was deleted when it finds the time.
    many = [(f"{_CLONES} clones more (raw)", "raw")] if shares else []
    more = [
        (what, _taken(folder, lambda form=form: _clones(raw, folder, _CLONES, form)))  # type: ignore[misc]
        for what, form in (*many, (f"{_CLONES} overlays more", "qcow2"))
    ]
    two = _taken(folder, lambda: _conversions(qcow2, folder, 2))
    return [
        ("the download, and a conversion for each of two instances", wrapper + two),
        (f"one conversion, two clones of it ({form})", once + first),
        ("the same, the download kept", wrapper + once + first),
        *more,
    ]


def _conversions(qcow2: Path, folder: Path, count: int) -> None:
    for number in range(count):
        run("qemu-img", "convert", "-O", "raw", qcow2, folder / f"own-{number}")


def _clones(raw: Path, folder: Path, count: int, form: str) -> None:
    taken = sum(1 for _ in folder.iterdir())
    for number in range(count):
        _recipes("clone", "--format", form, raw, folder / f"{form}-{taken + number}")


def _recipes(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "recipes", *words], stdout=subprocess.DEVNULL, check=True)


def _taken(folder: Path, make: Callable[[], object]) -> int:
    """Return the bytes by which the file system is fuller after `make`."""
    before = _used(folder)
    make()
    return _used(folder) - before


def _used(folder: Path) -> int:
    os.sync()
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
