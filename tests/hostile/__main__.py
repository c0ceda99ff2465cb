"""``python -m tests.hostile``: a campaign of any length, and its table."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from .campaign import HEADER, TARGETS, Campaign, until
from .costly import HEADER as HEADER_OF_COSTS
from .costly import Search

if TYPE_CHECKING:
    from .target import Target


def main() -> int:
    """Run a campaign as the command line says; return 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", help=f"targets, with commas between: {','.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--costly", action="store_true", help="search for inputs that cost most, instead")
    parser.add_argument("--input", type=int, help="try the input with this number only")
    parser.add_argument("--keep", type=Path, default=Path("hostile-findings"), help="folder for inputs that fail")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"unknown targets: {', '.join(unknown)}")
    targets = []
    for name in names:
        missing = [each for each in TARGETS[name].tools if not which(each) and not which(each, path="/usr/sbin:/sbin")]
        if missing:
            sys.stderr.write(f"{name} is left out: {', '.join(missing)} is not installed\n")
        else:
            targets.append(TARGETS[name])
    if options.costly:
        return _costly(targets, options)
    with Campaign(targets, options.seed, options.keep) as campaign:
        if options.input is not None:
            campaign.run([options.input])
        else:
            campaign.run(until(time.monotonic() + 60 * options.minutes))
    lines = [HEADER, *map(str, campaign.rows.values())]
    found = [(row.target, number, said) for row in campaign.rows.values() for number, said in row.findings.items()]
    for target, number, said in found:
        lines.append(f"\npython -m tests.hostile --only {target} --seed {options.seed} --input {number}\n{said}")
    sys.stdout.write("\n".join(lines) + "\n")
    return bool(found)


def _costly(targets: list[Target], options: argparse.Namespace) -> int:
    """Search on each target for its part of the time; return 1 where one exceeds what it is allowed."""
    _say(HEADER_OF_COSTS)
    wrong = False
    for target in targets:
        with Search(target, options.seed) as search:
            for _ in until(time.monotonic() + 60 * options.minutes / len(targets)):
                search.step()
        _say(str(search.found))
        for number, (said, data) in enumerate(search.found.findings):
            wrong = True
            options.keep.mkdir(parents=True, exist_ok=True)
            kept = options.keep / f"costly-{target.name}-{options.seed}-{number}"
            kept.write_bytes(data)
            sys.stderr.write(f"{kept}: {said}\n")
    return int(wrong)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    # It takes minutes to the next one.
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
