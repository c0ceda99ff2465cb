"""Throws hostile inputs at everything that reads what strangers wrote, and judges what happens.

Input `number` of a target and a seed is always the same, so a failure is repeated by its name alone.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from . import disks, documents, filesystems, packed, roots, sandbox, wrappers, xfs
from .target import Wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for group in (disks, wrappers, packed, filesystems, xfs, roots, documents)
    for target in group.TARGETS
}
#: Of the refused inputs, every so many are shown to the other program as well: it takes longer than larder.
_THOROUGH = 4


@dataclass
class Row:
    """What a target did with its inputs."""

    target: str
    refused: int = 0
    accepted: int = 0
    #: Accepted, and what another program makes of the input; None where there is none to compare with.
    equal: int | None = None
    cpu: float = 0.0
    memory: int = 0
    written: int = 0
    share: float = 0.0
    #: What went wrong, by number of the input.
    findings: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        equal = "-" if self.equal is None else str(self.equal)
        inputs = self.refused + self.accepted
        return (
            f"| {self.target} | {inputs} | {self.refused} | {self.accepted} | {equal} | {self.cpu:.2f} s "
            f"| {self.memory >> 20} MiB | {self.written >> 20} MiB | {self.share:.0%} | {len(self.findings)} |"
        )


HEADER = """\
| target | inputs | refused | accepted | accepted and equal | most CPU | memory | written | of its due | findings |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


class Campaign:
    """Targets with their seeds, in a temporary folder; a context manager."""

    def __init__(self, targets: Sequence[Target], seed: int, keep: Path | None = None) -> None:
        self.rows = {target.name: Row(target.name, equal=0 if target.judge else None) for target in targets}
        self._seed = seed
        self._keep = keep
        self._targets = targets
        self._folder = Path(tempfile.mkdtemp(prefix="larder-hostile-"))
        self._seeds = {}
        for target in targets:
            folder = self._folder / "seeds"
            folder.mkdir()
            self._seeds[target.name] = target.seeds(folder)
            shutil.rmtree(folder)

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    def run(self, numbers: Iterable[int]) -> None:
        """Throw the inputs with these numbers at each target."""
        for number in numbers:
            for target in self._targets:
                self._try(target, number)

    def input(self, target: Target, number: int) -> bytes:
        """Return an input; those with the first numbers are the seeds as they are."""
        seeds = self._seeds[target.name]
        if number < len(seeds):
            return seeds[number]
        rng = Random(f"{self._seed}/{target.name}/{number}")
        return target.mutate(rng, rng.choice(seeds), seeds)

    def _try(self, target: Target, number: int) -> None:
        row = self.rows[target.name]
        folder = self._folder / "work"
        folder.mkdir()
        source, out = folder / "input", folder / "out"
        data = self.input(target, number)
        source.write_bytes(data)
        outcome = sandbox.run(lambda: target.read(source, out), folder, len(data))
        wrong = outcome.wrong
        if not wrong:
            left = sorted(path.name for path in folder.iterdir() if path not in (source, out))
            if not outcome.accepted and out.exists():
                left.append(out.name)
            if left:
                wrong = f"left behind: {', '.join(left)}"
            elif number < len(self._seeds[target.name]) and not outcome.accepted:
                wrong = f"refused a valid input: {outcome.message}"
        if not wrong and target.judge:
            try:
                equal = target.judge(source, outcome, out, number % _THOROUGH == 0)
                row.equal = (row.equal or 0) + equal
            except Wrong as error:
                wrong = str(error)
        row.accepted += outcome.accepted
        row.refused += not outcome.accepted
        row.cpu = max(row.cpu, outcome.cpu)
        row.memory = max(row.memory, outcome.memory)
        row.written = max(row.written, outcome.written)
        row.share = max(row.share, outcome.share)
        if wrong:
            row.findings[number] = wrong
            if self._keep:
                self._keep.mkdir(parents=True, exist_ok=True)
                (self._keep / f"{target.name}-{self._seed}-{number}").write_bytes(data)
        shutil.rmtree(folder)


def until(deadline: float) -> Iterator[int]:
    """Yield numbers until `time.monotonic()` passes `deadline`."""
    for number in count():
        if time.monotonic() >= deadline:
            return
        yield number
