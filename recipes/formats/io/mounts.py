"""Which file system a file is on."""

from __future__ import annotations

import os
from pathlib import Path


def file_system(fd: int) -> str | None:
    """Name the file system of the open file, as mount(8) does; None where that is not known, as outside of Linux.

    It is looked up in /proc/self/mountinfo (proc_pid_mountinfo(5)). statfs(2) tells as well, but not without ctypes,
    whose import takes as long as writing 25 MB.
    """
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in mounts.splitlines():
        fields = line.split(" ")
        # Optional fields, as many as there are, end with a "-", and the type follows.
        if len(fields) > 6 and fields[2] == device and "-" in fields[6:-1]:
            return fields[fields.index("-", 6) + 1]
    return None
