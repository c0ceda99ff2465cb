"""``python -m tests.hostile.guided TARGET [OPTION …]``: inputs that are led to code which no input has reached yet.

Beside the campaign, which compares but does not look inside: here libFuzzer watches through atheris
(``pip install atheris``) which branches an input takes, and goes on from those that take new ones. Half of the changes
are the target's own, which know the format. Options are libFuzzer's, ``-max_total_time=600`` for instance. An input
that ends in anything but a LarderError, takes longer than its bytes allow or too much memory, or leaves something
behind is kept as ``hostile-findings/guided-TARGET-…``.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["recipes"]):
    from .campaign import TARGETS

from recipes.errors import LarderError

from .mutate import LONGEST
from .sandbox import CPU_PER_BYTE, CPU_SECONDS

_FINDINGS = Path("hostile-findings")
#: MiB that libFuzzer allows the process: Python, larder, its own tables, and what an input may take.
_MEMORY = 2048


def main() -> None:
    """Fuzz the target that the command line names; ends as libFuzzer does, and not before it is told to."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.hostile.guided {{{','.join(TARGETS)}}} [-max_total_time=SECONDS …]")
    target = TARGETS[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="larder-guided-") as name:
        folder = Path(name)
        for each in ("seeds", "corpus", "work"):
            (folder / each).mkdir()
        seeds = target.seeds(folder / "seeds")
        for number, seed in enumerate(seeds):
            (folder / "corpus" / str(number)).write_bytes(seed)
        work = folder / "work"
        source, out = work / "input", work / "out"

        def once(data: bytes) -> None:
            source.write_bytes(data)
            try:
                target.read(source, out)
                accepted = True
            except LarderError:
                accepted = False
            left = {path.name for path in work.iterdir()} - {source.name} - ({out.name} if accepted else set())
            out.unlink(missing_ok=True)
            assert not left, f"left behind: {left}"

        def change(data: bytes, longest: int, seed: int) -> bytes:
            rng = Random(seed)
            if not data or rng.random() < 0.5:
                mutated: bytes = atheris.Mutate(data, longest)
                return mutated
            return target.mutate(rng, data, seeds)[:longest]

        _FINDINGS.mkdir(exist_ok=True)
        limits = (
            f"-max_len={LONGEST}",
            f"-timeout={math.ceil(CPU_SECONDS + CPU_PER_BYTE * LONGEST)}",
            f"-rss_limit_mb={_MEMORY}",
        )
        kept = f"-artifact_prefix={_FINDINGS}/guided-{target.name}-"
        words = [sys.argv[0], *limits, kept, *sys.argv[2:], str(folder / "corpus")]
        atheris.Setup(words, once, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
