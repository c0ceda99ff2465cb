"""Trying again, and trying the next url: how often, how long, and what is said when nothing helps."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from recipes.errors import DigestMismatch, FetchError, OfflineError
from recipes.redact import shown

from .urls import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from recipes.progress import Progress

T = TypeVar("T")

#: Attempts in a row that bring nothing new before a url is given up; five ride out the restart of a server.
ATTEMPTS = 5

#: Attempts in a row where a redirector chose the server: it may choose a better one, and may have no other.
ATTEMPTS_ELSEWHERE = 3

#: Seconds before the second attempt; doubled each time, so five attempts take about a quarter of a minute.
BACKOFF = 1.0

#: Seconds that a Retry-After can make us wait. One who asks for an hour is down, and the next url may not be.
MAX_RETRY_AFTER = 60.0

#: Bytes a second below which a server is not worth waiting for; a gigabyte would take 12 days.
SLOWEST = 1000

#: Seconds from which on a wait is told: below it is over before it is read.
VISIBLE_WAIT = 5.0

_TICK = 0.25


class Retryable(FetchError):
    """An attempt failed in a way that the next one may not."""

    #: How often it is worth trying.
    attempts = ATTEMPTS

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        #: Seconds that the server asked us to wait.
        self.retry_after = retry_after


class Unreachable(Retryable):
    """There was no connection: whatever else the host is asked for will fare alike."""


class Unresolved(Unreachable):
    """The host's name could not be resolved: mostly there is no network, and no server whose restart to wait for."""

    attempts = ATTEMPTS_ELSEWHERE


class Elsewhere(Retryable):
    """The server that a redirector chose has not what was asked for; another of them may."""

    attempts = ATTEMPTS_ELSEWHERE


#: Hosts that were not to be reached, after all attempts: each of what else they are asked for in this run gets one.
#: The threads of a run share it; those that are at it already stop at their next attempt.
_down: set[str] = set()


def answered(url: str) -> None:
    """Take note that the host of `url` is there."""
    _down.discard(host_of(url))


def once(attempt: Callable[[str], T]) -> Callable[[str], T]:
    """Return `attempt` for `first_of` to try once: a person waits for an answer that may as well be "not known"."""

    def single(url: str) -> T:
        try:
            return attempt(url)
        except Retryable as error:
            raise _last(error, error.message) from error

    return single


def first_of(
    urls: Sequence[str],
    attempt: Callable[[str], T],
    *,
    label: str,
    progress: Progress,
    tick: Callable[[], None],
    reached: Callable[[], int] = lambda: 0,
) -> T:
    """Return what `attempt` makes of the first of `urls` that serves it, trying each again after a `Retryable`.

    `tick` is called while waiting and may raise to stop it. `reached` says how many bytes the attempts have brought:
    those that bring `SLOWEST` more a second do not count as failures, so a link that keeps breaking still finishes, and
    one that brings a byte at a time does not keep us from the next url.

    Errors: FetchError with every url's failure, as a DigestMismatch or OfflineError where one of them was.
    """
    failures: list[tuple[str, FetchError]] = []
    for url in urls:
        if failures:
            progress.note(f"{label}: {_line(*failures[-1])}; going on with {shown(url)}")
        try:
            return _persevere(url, attempt, label=label, progress=progress, tick=tick, reached=reached)
        except FetchError as error:
            failures.append((url, error))
    if not failures:
        raise FetchError(f"{label}: no url to fetch it from")
    kinds = {type(error) for _, error in failures}
    kind = next((kind for kind in (DigestMismatch, OfflineError) if kind in kinds), FetchError)
    hint = next((error.hint for _, error in failures if error.hint), None)
    lines = [_line(*failure) for failure in failures]
    if len(lines) == 1:
        raise kind(f"{label}: {lines[0]}", hint=hint) from failures[0][1]
    listed = "".join(f"\n  {line}" for line in lines)
    raise kind(f"{label}: none of {len(lines)} urls serves it:{listed}", hint=hint) from failures[-1][1]


def _line(url: str, error: FetchError) -> str:
    led = f", redirected to {shown(error.redirected)}" if error.redirected else ""
    return f"{shown(url)}{led}: {error.message}"


def _persevere(
    url: str,
    attempt: Callable[[str], T],
    *,
    label: str,
    progress: Progress,
    tick: Callable[[], None],
    reached: Callable[[], int],
) -> T:
    furthest, since = reached(), time.monotonic()
    failures = 0
    while True:
        try:
            return attempt(url)
        except Retryable as error:
            brought, now = reached() - furthest, time.monotonic()
            if brought > SLOWEST * (now - since):
                failures = 0
            furthest, since = max(furthest, reached()), now
            failures += 1
            if failures >= _most(url, error):
                if isinstance(error, Unreachable):
                    _down.add(host_of(error.redirected or url))
                tried = f"{failures} attempts" if failures > 1 else "one attempt, since the host was down before"
                raise _last(error, f"{error.message} ({tried})") from error
            # Jitter, since many clients that one outage threw out would come back in step.
            delay = BACKOFF * 2 ** (failures - 1) * random.uniform(0.5, 1.5)
            asked = error.retry_after or 0.0
            delay = max(delay, min(asked, MAX_RETRY_AFTER))
            if delay >= VISIBLE_WAIT:
                capped = f" (the server asked for {asked:.0f} s)" if asked > delay else ""
                progress.note(f"{label}: {_line(url, error)}; trying again in {delay:.0f} s{capped}")
        _pause(delay, tick)


def _most(url: str, error: Retryable) -> int:
    """Return how many attempts in a row that end with `error` are enough."""
    if not isinstance(error, Unreachable):
        return min(error.attempts, ATTEMPTS)
    known = host_of(error.redirected or url) in _down
    if error.redirected:
        # The redirector may choose a better one, even if this one is known to be down.
        return 2 if known else ATTEMPTS_ELSEWHERE
    return 1 if known else error.attempts


def _last(error: Retryable, message: str) -> FetchError:
    """Return what `error` is, with `message`, when nobody tries again."""
    kind = DigestMismatch if isinstance(error.__cause__, DigestMismatch) else FetchError
    found = kind(message, hint=error.hint)
    found.redirected = error.redirected
    return found


def _pause(seconds: float, tick: Callable[[], None]) -> None:
    while seconds > 0:
        tick()
        step = min(seconds, _TICK)
        time.sleep(step)
        seconds -= step
