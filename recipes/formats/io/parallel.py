"""A few threads over one stream of work. The wheels and system calls that do the work release the GIL."""

from __future__ import annotations

from threading import Lock, Thread
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")


class _Shared(Generic[T]):
    """An iterator that several threads may advance, until it is told to stop."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._lock = Lock()
        self._stopped = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._lock:
            if self._stopped:
                raise StopIteration
            return next(self._items)

    def stop(self) -> None:
        """Have nothing more."""
        self._stopped = True


def in_threads(items: Iterable[T], worker: Callable[[Iterator[T]], None], *, jobs: int) -> None:
    """Call `worker` in `jobs` threads, the caller's own among them, each with an iterator over its share of `items`.

    `items` is read lazily, by one thread at a time, in order. The first error, of a worker or of `items`, ends the
    iteration for all and is raised once every worker has returned.
    """
    shared = _Shared(items)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            worker(shared)
        except BaseException as error:
            shared.stop()
            errors.append(error)

    threads = [Thread(target=work, daemon=True) for _ in range(jobs - 1)]
    try:
        for thread in threads:
            thread.start()
        work()
    except BaseException as error:
        shared.stop()
        errors.append(error)
    for thread in threads:
        # A KeyboardInterrupt must not leave threads behind that write to a descriptor its owner is about to close.
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:
                shared.stop()
                errors.append(error)
    if errors:
        raise errors[0]
