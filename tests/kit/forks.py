"""`doit` without the quarter of a second that an interpreter takes to start and to import everything.

A server of its own, without threads, has imported doit and larder, and forks for each command line: the child has the
environment, the folder and the standard streams of a real `doit`, and shares nothing with others. What is about the
start itself (encodings, imports, hooks) takes the real program.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, NoReturn

_ROOT = Path(__file__).parents[2]
#: Bytes of the longest request: an environment and a command line.
_LONGEST = 1 << 20


class Forks:
    """The server, as a test sees it; one for each process that runs tests."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (self._ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                each.setsockopt(socket.SOL_SOCKET, option, _LONGEST)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.forks", str(theirs.fileno())],
            cwd=_ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    def run(self, words: list[str], folder: Path, environ: dict[str, str], timeout: float) -> tuple[int, str, str]:
        """Run a program, the first of `words`, with the others; return its status and what it printed."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, contextlib.ExitStack() as stack:
            request = json.dumps({"words": words, "folder": str(folder), "environ": environ}).encode()
            answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(answers)
            with theirs:
                socket.send_fds(self._ours, [request], [out.fileno(), err.fileno(), theirs.fileno()])
            answers.settimeout(timeout)
            pid = int(answers.recv(64))
            try:
                status = int(answers.recv(64))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
            return status, _text(out), _text(err)

    def close(self) -> None:
        """End the server."""
        self._ours.close()
        self._server.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


_forks: Forks | None = None
_lock = threading.Lock()


def run(words: list[str], folder: Path, environ: dict[str, str], timeout: float) -> tuple[int, str, str]:
    """Run `doit` or `larder`, the first of `words`, in `folder`; return its status and what it printed."""
    global _forks
    with _lock:
        if _forks is None:
            _forks = Forks()
            atexit.register(_forks.close)
    return _forks.run(words, folder, environ, timeout)


def serves(environ: dict[str, str]) -> bool:
    """Say whether a process with this environment starts as the server did, as far as an interpreter looks at it."""
    if sys.platform != "linux":
        return False

    def looked_at(each: dict[str, str] | os._Environ[str]) -> dict[str, str]:
        return {name: value for name, value in each.items() if name.startswith(("PYTHON", "LC_", "LANG"))}

    return looked_at(environ) == looked_at(os.environ)


def _child(request: dict[str, Any], streams: list[int]) -> NoReturn:
    status = 1
    try:
        os.dup2(streams[0], 1)
        os.dup2(streams[1], 2)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environ"])
        sys.argv = request["words"]
        sys.path[0] = os.path.dirname(sys.executable)  # noqa: PTH120
        from doit.__main__ import main as doit

        from recipes.graph.program import main as larder

        try:
            status = larder() if sys.argv[0] == "larder" else doit() or 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


def _serve(theirs: socket.socket) -> None:
    # Nobody waits for those that wait.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, handed, _, _ = socket.recv_fds(theirs, _LONGEST, 3)
        if not data:
            return
        if not os.fork():
            theirs.close()
            _supervise(json.loads(data), handed)
        for each in handed:
            os.close(each)


def _supervise(request: dict[str, Any], handed: list[int]) -> NoReturn:
    """Start one `doit`, and tell its number and, once it has ended, its status: several may run at once."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    out, err, answers = handed
    pid = os.fork()
    if not pid:
        os.close(answers)
        _child(request, [out, err])
    os.write(answers, str(pid).encode())
    os.write(answers, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


def _warm() -> None:
    """Import what commands import."""
    sys.argv = ["doit"]
    import importlib
    import pkgutil

    import doit.doit_cmd  # noqa: F401
    import jsonschema  # noqa: F401
    import requests  # noqa: F401
    import rich.console
    import rich.progress  # noqa: F401
    import zstandard  # noqa: F401

    import recipes

    for module in pkgutil.walk_packages(recipes.__path__, "recipes."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _theirs:
        _warm()
        _serve(_theirs)
