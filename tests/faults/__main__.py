"""``python -m tests.faults --minutes N``: kills at every instant, by every signal, and at random; a table."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from .kills import Bench
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: A run is over by then; the later half of random kills would hit nothing.
_LONGEST = 0.6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long at the most (default: 10)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the random instants")
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(each.name for each in SCENARIOS)} (default: all)")
    options = parser.parse_args()
    chosen = [each for each in SCENARIOS if not options.scenarios or each.name in options.scenarios]
    if not chosen:
        parser.error("no such scenario")
    stop = time.monotonic() + 60 * options.minutes
    failures: list[str] = []
    tables: dict[str, Counter[tuple[str, str]]] = {}
    left = len(chosen)
    for scenario in chosen:
        # What a scenario does not need of its time is for those that come after it.
        until = time.monotonic() + (stop - time.monotonic()) / left
        left -= 1
        with (
            tempfile.TemporaryDirectory(prefix="larder-faults-") as folder,
            Bench(scenario, Path(folder) / "b") as bench,
        ):

            def attempt(kill: Callable[[], None], until: float = until) -> None:
                if time.monotonic() > until:
                    return
                try:
                    kill()
                except AssertionError as error:
                    failures.append(str(error))
                    sys.stderr.write(f"{error}\n")

            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(attempt, _kills(bench, random.Random(options.seed))))
            tables[scenario.name] = bench.survived
            _tell(f"{scenario.name}: {bench.survived.total()} kills, {len(bench.instants)} instants")
    _print(tables, failures)
    return 1 if failures else 0


def _kills(bench: Bench, rng: random.Random) -> Iterator[Callable[[], None]]:
    instants = range(len(bench.instants))
    every = list(product(SIGNALS, instants))
    # Where the time does not last, no signal and no phase is left out.
    rng.shuffle(every)
    for number, at in every:
        yield lambda at=at, number=number: bench.kill(at, number)  # type: ignore[misc]
    for _ in range(100):
        seconds, number = rng.uniform(0.1, _LONGEST), rng.choice(SIGNALS)
        yield lambda seconds=seconds, number=number: bench.kill_after(seconds, number)  # type: ignore[misc]


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _print(tables: dict[str, Counter[tuple[str, str]]], failures: list[str]) -> None:
    total: Counter[tuple[str, str]] = sum(tables.values(), Counter())
    for what, rows in (("command", tables), ("at", _by_call(total))):
        _tell(f"\n| {what} | {' | '.join(each.name for each in SIGNALS)} |\n| --- |{' ---: |' * len(SIGNALS)}")
        for name, table in rows.items():
            counts = (sum(count for (number, _), count in table.items() if number == each.name) for each in SIGNALS)
            _tell(f"| {name} | {' | '.join(map(str, counts))} |")
    _tell(f"\n{total.total()} kills survived, {len(failures)} not")


def _by_call(total: Counter[tuple[str, str]]) -> dict[str, Counter[tuple[str, str]]]:
    rows: dict[str, Counter[tuple[str, str]]] = {}
    for (number, call), count in sorted(total.items(), key=lambda item: item[0][1]):
        rows.setdefault(call, Counter())[number, call] += count
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
