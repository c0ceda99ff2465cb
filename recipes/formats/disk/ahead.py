"""Chunks of a disk that threads encode ahead of whoever writes them in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")


def encoded(encode: Callable[[int, int], T], chunks: Iterable[tuple[int, int]], jobs: int) -> Iterator[T]:
    """Yield what `encode` makes of each chunk, in order; at most four results a thread wait."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for start, stop in chunks:
                waiting.append(pool.submit(encode, start, stop))
                if len(waiting) > 4 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
