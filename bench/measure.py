"""What commands cost, held against each other: interleaved runs, medians, outputs checked equal."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LAUNCH = str(Path(__file__).with_name("launch.py"))


@dataclass(frozen=True)
class Contender:
    """A command that does a row's job; the word DST in it stands for the output file."""

    label: str
    command: tuple[str, ...]
    #: The output file is the command's stdout.
    to_stdout: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One job: larder and what a user would use instead."""

    name: str
    title: str
    #: One or more: what is asked for, and the same with other options.
    ours: tuple[Contender, ...]
    rivals: tuple[Contender, ...]
    #: Where the commands run and write.
    folder: Path
    #: What ours must reach, in words.
    goal: str = ""
    #: Raises where two outputs differ; None where the job has no output.
    same: Callable[[Path, Path], None] | None = None
    #: What a part of our work costs, to show where the time goes.
    parts: tuple[Contender, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What one run of a command cost: seconds, and bytes of memory at the peak of its largest process."""

    wall: float
    user: float
    system: float
    peak: int

    @property
    def cpu(self) -> float:
        """Seconds of processor time."""
        return self.user + self.system


@dataclass(frozen=True)
class Result:
    """All runs of one contender."""

    contender: Contender
    costs: tuple[Cost, ...]

    def median(self, of: str) -> float:
        """Return the median of one of `Cost`'s values."""
        return float(statistics.median(getattr(cost, of) for cost in self.costs))

    def spread(self) -> tuple[float, float]:
        """Return the shortest and the longest wall time."""
        walls = [cost.wall for cost in self.costs]
        return min(walls), max(walls)


def race(row: Row, runs: int, tell: Callable[[str], None], *, quick: bool = False) -> list[Result]:
    """Run the contenders of `row` in turn, `runs` times after one that warms up and compares; ours come first.

    With `quick` they do not begin alike, which is no measurement. Raises CalledProcessError where a command fails.
    """
    contenders = (*row.ours, *row.rivals, *row.parts)
    costs: dict[str, list[Cost]] = {each.label: [] for each in contenders}
    outputs = [row.folder / f"output-{number}" for number in range(len(contenders))]
    try:
        for turn in range(runs + 1):
            for contender, output in zip(contenders, outputs, strict=True):
                if turn and not quick:
                    _warm(contender, output, row.folder)
                cost = _run(contender, output, row.folder)
                tell(f"{row.name} {turn}/{runs}: {contender.label}: {cost.wall:.3f} s")
                if turn:
                    costs[contender.label].append(cost)
                    output.unlink(missing_ok=True)
            if not turn:
                for number, output in enumerate(outputs[1:], 1):
                    # A part of our work makes something else, or nothing.
                    if row.same is not None and number < len(row.ours) + len(row.rivals):
                        row.same(outputs[0], output)
                    output.unlink(missing_ok=True)
                outputs[0].unlink(missing_ok=True)
    finally:
        for output in outputs:
            output.unlink(missing_ok=True)
    return [Result(each, tuple(costs[each.label])) for each in contenders]


def _warm(contender: Contender, output: Path, folder: Path) -> None:
    """Run the command once and delete its output, so that the next run finds the machine as it leaves it itself.

    The host of a virtual machine takes pages back that were free for two seconds (free page reporting), and whoever
    touches them next pays up to ten times of what they cost otherwise; it takes idle processors back, too. So what ran
    last decides what a run costs, and here that is always the command itself.
    """
    # What others left to be written must not be paid for either.
    os.sync()
    _run(contender, output, folder)
    output.unlink(missing_ok=True)


def _run(contender: Contender, output: Path, folder: Path) -> Cost:
    command = [str(output) if word == "DST" else word for word in contender.command]
    stdout = str(output) if contender.to_stdout else os.devnull
    launch = [sys.executable, "-I", "-S", _LAUNCH, stdout, *command]
    environ = {**os.environ, **contender.environ}
    # pip compiles what it installs, and so does Python what it imports, unless a developer's environment forbids it.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A terminal would make larder draw bars, which its rivals do not.
    done = subprocess.run(launch, cwd=folder, env=environ, capture_output=True, check=True)
    report = json.loads(done.stdout)
    if report["code"]:
        sys.stderr.buffer.write(done.stderr)
        raise subprocess.CalledProcessError(report["code"], command)
    return Cost(report["wall"], report["user"], report["system"], report["peak"])


def lines(row: Row, results: list[Result]) -> list[str]:
    """Return the row's lines of the table that `HEADER` begins; ratios are those to the rival with the least wall."""
    ours, rest = results[: len(row.ours)], results[len(row.ours) :]
    best = min(rest[: len(row.rivals)], key=lambda result: result.median("wall"))
    table = []
    for result in results:
        low, high = result.spread()
        wall, cpu = (best.median(of) / result.median(of) for of in ("wall", "cpu"))
        ratios = f"**{wall:.2f}** | {cpu:.2f}" if result in ours else "1 | 1" if result is best else " | "
        first = result is results[0]
        table.append(
            f"| {row.title if first else ''} | {result.contender.label} "
            f"| {result.median('wall'):.3f} ({low:.3f}-{high:.3f}) | {result.median('cpu'):.2f} "
            f"| {result.median('user'):.2f} + {result.median('system'):.2f} "
            f"| {result.median('peak') / 1e6:.0f} | {ratios} | {row.goal if first else ''} |"
        )
    return table


HEADER = [
    "| job | command | wall s: median (min-max) | cpu s | user + sys | peak MB | x wall | x cpu | goal |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]
