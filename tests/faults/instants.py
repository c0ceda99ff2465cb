"""Kills or fails the process that loads this as its sitecustomize, at one of the instants at which files change.

An instant is before or after a call that changes files, in the middle of a write, or when a file is opened for writing;
each has a label: call, name of the file, phase. With INSTANT_LOG the labels are written there, one a line, and nothing
else happens; with INSTANT_AT=N the process gets the signal INSTANT_SIGNAL at the N-th, from 0, or the call fails with
INSTANT_ERRNO.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Functions of `os` that change files; what they change is named by their last path or descriptor.
CALLS = (
    "chmod",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "pwrite",
    "rename",
    "replace",
    "rmdir",
    "truncate",
    "unlink",
    "utime",
)
_WRITING = os.O_WRONLY | os.O_RDWR
_lock = threading.Lock()
_count = 0


def _reach(label: str) -> None:
    global _count
    with _lock:
        number, _count = _count, _count + 1
    if log := os.environ.get("INSTANT_LOG"):
        # Not os.open: it is one of what is watched.
        with _Unwatched(), open(log, "a") as file:
            file.write(f"{label}\n")
    elif number == int(os.environ["INSTANT_AT"]):
        if failure := os.environ.get("INSTANT_ERRNO"):
            raise OSError(int(failure), os.strerror(int(failure)))
        os.kill(os.getpid(), int(os.environ["INSTANT_SIGNAL"]))
        if os.environ["INSTANT_SIGNAL"] == "9":
            time.sleep(60)


class _Unwatched:
    depth = threading.local()

    def __enter__(self) -> None:
        self.depth.value = True

    def __exit__(self, *_: object) -> None:
        self.depth.value = False


def _name(file: object) -> str:
    if isinstance(file, int):
        try:
            file = Path(f"/proc/self/fd/{file}").readlink()
        except OSError:
            return str(file)
    # Random parts of names make no new instant.
    return re.sub(r"[0-9a-f]{8,}", "*", Path(os.fsdecode(file)).name)  # type: ignore[arg-type]


def _watch(call: str) -> None:
    original: Callable[..., Any] = getattr(os, call)

    def watched(*arguments: Any, **options: Any) -> Any:
        if call in ("link", "rename", "replace"):
            label = f"{call} {_name(arguments[0])} to {_name(arguments[1])}"
        else:
            label = f"{call} {_name(arguments[0])}"
        _reach(f"{label}: before")
        if call == "pwrite" and len(arguments[1]) > 1:
            fd, data, offset = arguments
            half = len(data) // 2
            written = original(fd, data[:half], offset)
            _reach(f"{label}: in the middle")
            result = written + original(fd, data[half:], offset + half)
        else:
            result = original(*arguments, **options)
        _reach(f"{label}: after")
        return result

    setattr(os, call, watched)
    for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if original in able:
            able.add(watched)


def _opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and not getattr(_Unwatched.depth, "value", False):
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and not str(path).startswith("/dev"):
            _reach(f"open {_name(path)} to write")


if {"INSTANT_LOG", "INSTANT_AT"} & os.environ.keys():
    for _call in CALLS:
        _watch(_call)
    sys.addaudithook(_opened)
