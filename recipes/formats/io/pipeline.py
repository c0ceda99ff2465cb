"""Threads that hand chunks on in order, through queues of bounded size.

An error anywhere ends everything: it is raised to whoever feeds or reads, once the threads have ended.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from threading import Condition, Semaphore, Thread
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")


class _Lane:
    """What one task has made and nobody has taken yet."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.ended = False
        self.error: BaseException | None = None


def in_order(tasks: Iterable[Iterator[bytes] | None], *, workers: int, room: int) -> Generator[bytes]:
    """Yield the chunks of every task, those of the first task first, while `workers` threads work ahead.

    None among the `tasks` says that the next one is not known yet: it is asked for again once the tasks so far were
    read, or at once where there are none, so whoever says None waits a moment first.

    Once `room` bytes wait to be taken, a task waits, but for the one that is being read while nothing of it waits. So
    what is held is `room` bytes and a chunk for each worker. The one that is being read always has a thread: tasks
    start in order, not more of them ahead than twice the workers.
    """
    changed = Condition()
    lanes: deque[_Lane] = deque()
    held = 0
    stopped = False

    def work(lane: _Lane, task: Iterator[bytes]) -> None:
        nonlocal held

        def may_put() -> bool:
            return stopped or held < room or (lane is lanes[0] and not lane.chunks)

        try:
            for chunk in task:
                with changed:
                    changed.wait_for(may_put)
                    if stopped:
                        return
                    lane.chunks.append(chunk)
                    held += len(chunk)
                    changed.notify_all()
        except BaseException as error:
            lane.error = error
        finally:
            with changed:
                lane.ended = True
                changed.notify_all()

    def drain(lane: _Lane) -> Iterator[bytes]:
        nonlocal held
        while True:
            with changed:
                changed.wait_for(lambda: lane.chunks or lane.ended)
                # Whoever waits may do so for room, or for its turn to be read.
                changed.notify_all()
                if not lane.chunks:
                    lanes.popleft()
                    break
                chunk = lane.chunks.popleft()
                held -= len(chunk)
            yield chunk
        if lane.error:
            raise lane.error

    todo = iter(tasks)
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                task: Iterator[bytes] | None
                for task in islice(todo, 2 * workers + 1 - len(lanes)):
                    if task is None:
                        break
                    lanes.append(_Lane())
                    pool.submit(work, lanes[-1], task)
                else:
                    if not lanes:
                        return
                if lanes:
                    yield from drain(lanes[0])
        finally:
            with changed:
                stopped = True
                changed.notify_all()
            pool.shutdown(wait=False, cancel_futures=True)


class _Abort(Exception):
    """Ends a stage whose feeder has given up."""


class Stage(Generic[T]):
    """A thread that runs `consume` over the chunks that are `put`, through a queue bounded to `room` chunks.

    `consume` may end before the chunks do. By an exception: `put` and `finish` raise it. By returning: it has all that
    it wanted, and what is still put is dropped. Neither ever leaves `put` waiting. Leave the context without `finish`,
    and `consume` ends by an exception at its next chunk.
    """

    def __init__(self, consume: Callable[[Iterator[bytes]], T], *, room: int = 4) -> None:
        self._consume = consume
        self._queue: SimpleQueue[bytes | type[_Abort] | None] = SimpleQueue()
        self._room = Semaphore(room)
        self._ended = False
        self._error: BaseException | None = None
        self._result: list[T] = []
        # A daemon: an interruption between its start and the body of the context leaves nobody to end it.
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(_Abort)
        self._thread.join()

    def put(self, chunk: bytes) -> None:
        """Hand `chunk` on, or raise the error by which `consume` ended."""
        self._room.acquire()
        if not self._ended:
            self._queue.put(chunk)
            return
        # For whoever puts the next one: `consume` makes no room any more.
        self._room.release()
        if self._error:
            raise self._error

    def finish(self) -> T:
        """Say that no chunk follows; return what `consume` returned, or raise its error."""
        self._queue.put(None)
        self._thread.join()
        if self._error:
            raise self._error
        return self._result[0]

    def _chunks(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if not isinstance(item, bytes):
                raise _Abort
            yield item
            self._room.release()

    def _run(self) -> None:
        try:
            self._result.append(self._consume(self._chunks()))
        except BaseException as error:
            self._error = error
        finally:
            # In this order: the feeder may be waiting for room that nobody else would make any more.
            self._ended = True
            self._room.release()
