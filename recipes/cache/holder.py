"""Who holds a lock: what is said to whoever waits for it."""

from __future__ import annotations

import os
from pathlib import Path

from recipes.units import format_duration

_PROC = Path("/proc")
#: Words of a command line that are told.
_WORDS = 4


def holder(path: Path) -> str:
    """Return who has locked the file `path`: ``process 4711 (doit raw:x, 2 min)``, as far as the system tells.

    Linux does, of processes in the same container (proc(5), /proc/locks); elsewhere it is ``another process``.
    """
    try:
        status = path.stat()
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in (_PROC / "locks").read_text().splitlines():
            # "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF"; who waits has an arrow.
            fields = line.split()
            if fields[1] != "->" and fields[5] == place and int(fields[4]) not in (0, -1, os.getpid()):
                return _process(int(fields[4]))
    except (OSError, ValueError, IndexError):
        pass
    return "another process"


def _process(number: int) -> str:
    folder = _PROC / str(number)
    try:
        words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        # The name in brackets may have spaces (proc(5), /proc/PID/stat): field 22 is the 20th after it.
        ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
        age = float((_PROC / "uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        # It has just ended, or is another user's.
        return f"process {number}"
    if len(words) > 1 and Path(words[0]).name.startswith("python"):
        del words[0]
    # A url may have a password in it.
    told = [Path(words[0]).name, *(word for word in words[1:] if "://" not in word)][:_WORDS]
    return f"process {number} ({' '.join(told)}, {format_duration(max(0.0, age))})"
