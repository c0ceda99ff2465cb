"""Ctrl-C and SIGTERM: heard whatever is going on, told at once, and over within a second.

The first signal sets what meters look at, and raises KeyboardInterrupt in the main thread. Work that hears of it cleans
up. What does not within `GRACE` seconds, a thread that waits for a server, an fsync, a long step of C code, ends with
the process; a second signal ends that at once. Both are a kill, and what a kill leaves costs the next run nothing but
time: see the crash model in recipes/cache/store.py.

Python calls signal handlers in the main thread, once that executes bytecode again, which may be never. So a thread
listens as well, where the handler in C writes the number of each signal (signal.set_wakeup_fd).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from .console import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: Seconds that work has to clean up, once it was told to stop.
GRACE = 0.8
#: Exit status after Ctrl-C, as shells have it.
STATUS = 128 + signal.SIGINT

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds until a person is told that work stops: what has stopped by then says so itself.
_TOLD_AFTER = 0.1
#: Makes the cursor visible again, which progress bars hide (ECMA-48; DEC private mode 25).
_SHOW_CURSOR = b"\x1b[?25h"


class Interruption:
    """The end of this process by a signal, if there is one."""

    def __init__(self, stop: Callable[[], None], farewell: str) -> None:
        self._stop = stop
        self._farewell = farewell
        self._raised = False
        self._lock = threading.Lock()
        self._over = False
        #: Whether a signal has arrived.
        self.came = False

    def bid_farewell(self) -> None:
        """Tell the person, once, that it is over."""
        with self._lock:
            if self._over:
                return
            self._over = True
        tell(sys.stderr, f"larder: {self._farewell}\n")

    def end(self) -> NoReturn:
        """End the process as it is: threads that do not stop would go on while Python takes their modules away."""
        self.bid_farewell()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(STATUS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, but not again into the clean-up that the first one has begun."""
        if not self._raised:
            self._raised = True
            self._stop()
            raise KeyboardInterrupt

    def _listen(self, reader: int) -> None:
        heard = 0
        deadline: float | None = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([reader], [], [], left)[0]:
                self._abandon()
            numbers = os.read(reader, 64)
            if not numbers:
                return
            heard += sum(number in _SIGNALS for number in numbers)
            if heard > 1:
                self._abandon()
            if heard and deadline is None:
                self.came = True
                deadline = time.monotonic() + GRACE
                self._stop()
                # Not here: whoever reads what is told may not do so now, and this one listens.
                threading.Thread(target=self._announce, daemon=True).start()

    def _announce(self) -> None:
        time.sleep(_TOLD_AFTER)
        if not self._over:
            tell(sys.stderr, "larder: stopping; once more ends it at once\n")

    def _abandon(self) -> NoReturn:
        # No stream of Python's: another thread may hold its lock. A terminal that takes nothing is not waited for.
        over = "" if self._over else f"larder: {self._farewell}\n"
        with suppress(OSError):
            os.set_blocking(2, False)
            os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + over.encode())
        os._exit(STATUS)


@contextmanager
def heard(stop: Callable[[], None], *, farewell: str = "interrupted") -> Iterator[Interruption]:
    """Hear SIGINT and SIGTERM in the body, as told above; `stop` sets what meters look at, `farewell` is the last word.

    After a signal nothing is undone: the process is to end, and does so in any case. Signals that are ignored, as after
    nohup, or that a program around this one handles, are left alone; so are all, outside of the main thread.
    """
    interruption = Interruption(stop, farewell)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    ours = [each for each in _SIGNALS if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler)]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    outer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {each: signal.signal(each, interruption._handle) for each in ours}
    listener = threading.Thread(target=interruption._listen, args=(reader,), daemon=True)
    listener.start()
    try:
        yield interruption
    finally:
        if not interruption.came:
            for each, handler in before.items():
                signal.signal(each, handler)
            signal.set_wakeup_fd(outer)
            os.close(writer)
            listener.join()
            os.close(reader)
