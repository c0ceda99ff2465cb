"""The real `doit` program, killed at named instants; `python -m tests.faults` kills at all of them, and at random."""

from __future__ import annotations

import errno
import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from .kills import Bench
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .kills import Scenario

#: How many instants of each command are taken, unless it is every one.
_KILLS = 6
_ALL = "LARDER_TEST_ALL_INSTANTS"


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario.name)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    scenario: Scenario = request.param
    with Bench(scenario, tmp_path / "bench") as bench:
        yield bench


def chosen(bench: Bench) -> list[int]:
    """Return instants of all of the run, those of publishing before others; of equal labels the first one only."""
    first = {label: at for at, label in reversed(list(enumerate(bench.instants)))}
    if os.environ.get(_ALL):
        return sorted(first.values())
    publishing = sorted(at for label, at in first.items() if label.startswith(("replace", "link", "unlink", "pwrite")))
    step = max(1, len(publishing) // _KILLS)
    return publishing[::step]


def test_a_kill_at_any_instant_costs_nothing_but_time(bench: Bench) -> None:
    signals = itertools.cycle((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(bench.kill, chosen(bench), signals))
    assert bench.survived.total() >= min(_KILLS, len(bench.instants) // 4)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_a_call_that_fails_is_told_and_costs_nothing_but_time(tmp_path: Path, number: int) -> None:
    update = next(scenario for scenario in SCENARIOS if scenario.name == "update")
    with Bench(update, tmp_path / "bench") as bench:
        instants = [at for at in chosen(bench) if not bench.instants[at].endswith("after")]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda at: bench.fail(at, number), instants))


def test_what_was_downloaded_is_not_downloaded_again(tmp_path: Path) -> None:
    first = next(scenario for scenario in SCENARIOS if scenario.name == "first")
    with Bench(first, tmp_path / "bench") as bench:
        at = bench.instants.index("replace wrapper.part to wrapper: before")
        before = len(bench.server.seen)
        bench.kill(at, signal.SIGKILL)
        assert len(bench.server.seen) == before + 1
