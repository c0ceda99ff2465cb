from __future__ import annotations

import pytest

from recipes.errors import DigestMismatch, FetchError
from recipes.sources import retry
from recipes.sources.retry import Retryable, Unresolved, answered, first_of, once
from tests.kit.watch import Watch

pytestmark = pytest.mark.usefixtures("quick_and_alone")


class Attempts:
    """What fails in these ways, one after the other, and works then."""

    def __init__(self, *failures: FetchError) -> None:
        self.failures = list(failures)
        self.asked: list[str] = []

    def __call__(self, url: str) -> str:
        self.asked.append(url)
        if self.failures:
            raise self.failures.pop(0)
        return f"from {url}"


def run(attempts: Attempts, *urls: str, watch: Watch | None = None) -> str:
    return first_of(urls, attempts, label="x", progress=watch or Watch(), tick=lambda: None)


def test_what_may_work_is_tried_again() -> None:
    attempts = Attempts(Retryable("busy"), Retryable("busy"))
    assert run(attempts, "http://a.test/1") == "from http://a.test/1"
    assert len(attempts.asked) == 3


def test_what_will_not_is_not() -> None:
    attempts = Attempts(FetchError("404"))
    watch = Watch()
    assert run(attempts, "http://a.test/1", "http://b.test/1", watch=watch) == "from http://b.test/1"
    assert attempts.asked == ["http://a.test/1", "http://b.test/1"]
    assert watch.notes == ["x: http://a.test/1: 404; going on with http://b.test/1"]


def test_all_failures_are_told() -> None:
    attempts = Attempts(FetchError("404"), DigestMismatch("wrong", hint="what to do"))
    with pytest.raises(DigestMismatch) as caught:
        run(attempts, "http://a.test/1", "http://b.test/1")
    assert "none of 2 urls" in caught.value.message
    assert "http://a.test/1: 404" in caught.value.message
    assert caught.value.hint == "what to do"


def test_a_name_that_is_not_resolved_is_waited_for_a_moment_only() -> None:
    attempts = Attempts(*[Unresolved("no such name", hint="is there a network?")] * 50)
    with pytest.raises(FetchError, match="no such name \\(3 attempts\\)") as caught:
        run(attempts, "http://gone.test/1")
    assert caught.value.hint == "is there a network?"
    assert len(attempts.asked) == 3
    answered("http://gone.test/1")


def test_there_is_an_end() -> None:
    attempts = Attempts(*[Retryable("busy")] * 50)
    with pytest.raises(FetchError, match=f"busy \\({retry.ATTEMPTS} attempts\\)"):
        run(attempts, "http://a.test/1")
    assert len(attempts.asked) == retry.ATTEMPTS


def test_once_is_once() -> None:
    attempts = Attempts(Retryable("busy"))
    with pytest.raises(FetchError, match="busy"):
        first_of(["http://a.test/1"], once(attempts), label="x", progress=Watch(), tick=lambda: None)
    assert len(attempts.asked) == 1
