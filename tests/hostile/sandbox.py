"""One input in a process of its own, which is watched: what it opens, what it changes, what it costs.

A fork for each input, so that the peak of its memory is its own, and nothing that one input does shows at the next.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LarderError
from recipes.formats.io import bounds

if TYPE_CHECKING:
    from collections.abc import Callable

#: What any input may cost, and for each of its bytes what it may cost beyond that: SECURITY.md promises these figures.
CPU_SECONDS = 10.0
CPU_PER_BYTE = 4.0 / (1 << 20)
MEMORY = 256 << 20
MEMORY_PER_BYTE = 64
#: What is written is the content and, of container images, the layers before it; what becomes a hole is not written.
WRITTEN = 2 * bounds.FREE_CONTENT
WRITTEN_PER_BYTE = 2 * bounds.EXPANSION
#: Where a runaway ends: behind the figures above, which are for the judge.
_CPU_END = 90
_MEMORY_END = 6 << 30
_WALL_END = 240.0

#: What Python itself opens, and what is larder's own.
_OWN = tuple(str(Path(each).resolve()) for each in (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])))
_LIBRARIES = ("/usr/lib/", "/lib/", "/usr/local/lib/", "/usr/share/zoneinfo/")
_ALWAYS = frozenset({"/dev/null", "/etc/localtime"})
_CHANGES = frozenset(
    f"os.{name}" for name in ("remove", "rename", "link", "symlink", "mkdir", "rmdir", "truncate", "chmod", "chown")
)
_NEVER = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "ctypes.dlopen"}
)


class Outcome(NamedTuple):
    """What became of an input."""

    #: Whether it was accepted; False where a LarderError refused it.
    accepted: bool
    #: The error as a person would see it.
    message: str
    #: What must not happen and did: a traceback, a foreign file, a bound exceeded; empty where all is well.
    wrong: str
    cpu: float
    #: Bytes beyond what the process had before.
    memory: int
    #: Bytes that were handed to the operating system to be written; 0 where it does not count them.
    written: int = 0
    #: How much was taken of what was allowed: of CPU, of memory, of bytes written.
    shares: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def share(self) -> float:
        """The largest of the shares."""
        return max(self.shares)


def run(work: Callable[[], object], folder: Path, size: int = 0) -> Outcome:
    """Do `work` in a process of its own, which may open and change what is in `folder` only.

    `size` are the bytes of the input, by which it is judged what it may cost.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            os.write(writer, json.dumps(_watched(work, folder.resolve())).encode())
        finally:
            # Nothing of the parent's, pytest's for instance, is to be flushed or torn down twice.
            os._exit(0)
    os.close(writer)
    said = b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], _WALL_END)
            if not ready:
                os.kill(child, signal.SIGKILL)
            if not (piece := pipe.read(1 << 16)):
                break
            said += piece
    _, status, usage = os.wait4(child, 0)
    cpu = usage.ru_utime + usage.ru_stime
    if not said:
        return Outcome(False, "", f"the process ended by itself: {os.waitstatus_to_exitcode(status)}", cpu, 0)
    accepted, message, wrong, before, written = json.loads(said)
    memory = (usage.ru_maxrss - before) * 1024
    shares = (
        cpu / (CPU_SECONDS + CPU_PER_BYTE * size),
        memory / (MEMORY + MEMORY_PER_BYTE * size),
        written / (WRITTEN + WRITTEN_PER_BYTE * size),
    )
    if not wrong and max(shares) > 1:
        wrong = f"{size} bytes took {cpu:.1f} s of CPU, {memory >> 20} MiB of memory and {written >> 20} MiB written"
    return Outcome(accepted, message, wrong, cpu, memory, written, shares)


def _written() -> int:
    """Return the bytes that this process has written (proc(5), /proc/PID/io); 0 where there is no such file."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["wchar"])


def _watched(work: Callable[[], object], folder: Path) -> tuple[bool, str, str, int, int]:
    """Do `work`; return whether it was accepted, with what message, what went wrong, what was there, what was written.

    What was there are the KiB of the process before, and what was written are bytes.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    written = _written()
    watching = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_END, _CPU_END))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_END, _MEMORY_END))
    wrong: list[str] = []

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if watching:
            _audit(event, arguments, str(folder), wrong)

    sys.addaudithook(audit)
    accepted, message = False, ""
    try:
        work()
        accepted = True
    except LarderError as error:
        message = str(error)
        if any(not line.isprintable() for line in message.split("\n")):
            wrong.append(f"a message with control characters: {message!r}")
    except BaseException:
        wrong.append(traceback.format_exc(limit=-6))
    watching = False
    return accepted, message[:2000], "; ".join(wrong)[:4000], before, _written() - written


def _audit(event: str, arguments: tuple[object, ...], folder: str, wrong: list[str]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        inside = path.startswith((f"{folder}/", *(f"{own}/" for own in _OWN), *_LIBRARIES))
        writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        always = path in _ALWAYS or path == f"/proc/{os.getpid()}/mountinfo"
        if not always and (not inside or (writes and not path.startswith(f"{folder}/"))):
            wrong.append(f"opened {path}")
    elif event in _CHANGES:
        for each in arguments[:2]:
            if isinstance(each, (str, bytes)) and not os.path.realpath(os.fsdecode(each)).startswith(f"{folder}/"):
                wrong.append(f"{event} {each!r}")
    # The program itself is no library that an input could name: io/memory.py asks it for a function of the C library.
    elif event in _NEVER and (event, *arguments) != ("ctypes.dlopen", None):
        wrong.append(f"{event} {arguments!r}"[:200])
