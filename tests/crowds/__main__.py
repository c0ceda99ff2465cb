"""A crowd for minutes: ``python -m tests.crowds --minutes 10 [--seed N]``; ends with 1 and says what is wrong."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from .crowd import CROWD, crowd
from .rush import rush_at_random


def main() -> int:
    """Run it, and print the figures of SECURITY.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.crowds", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--rush", action="store_true", help="into empty caches, again and again")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    if options.rush:
        return _rush(options.minutes * 60, random.Random(options.seed))
    with tempfile.TemporaryDirectory() as folder, crowd(Path(folder)) as many:
        many.start_together()
        many.mingle(options.minutes * 60, options.seed)
        wrong = many.judge()
        runs = many.tally.runs
        sys.stdout.write(
            f"{sum(runs.values())} processes, {CROWD} at a time, {many.tally.killed} of them killed; "
            f"{sum(many.made().values())} derivations, {sum(many.asked().values())} requests; {len(wrong)} wrong\n"
        )
        sys.stdout.write("".join(f"{text}\n" for text in wrong))
    return 1 if wrong else 0


def _rush(seconds: float, dice: random.Random) -> int:
    end, rushes, processes = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder:
            processes += rush_at_random(Path(folder) / "rush", dice)
            rushes += 1
    sys.stdout.write(f"{processes} processes in {rushes} rushes; each image was downloaded and made once\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
