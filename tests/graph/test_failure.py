from __future__ import annotations

from recipes.errors import FetchError, Interrupted
from recipes.graph.failure import failure


def test_a_task_fails_in_the_words_of_its_error() -> None:
    failed = failure(FetchError("404", hint="ask them"))
    assert failed.message == "404\n  hint: ask them"
    assert failed.report


def test_of_an_interruption_the_run_tells_once() -> None:
    assert not failure(Interrupted("told to stop")).report
