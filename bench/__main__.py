"""``python -m bench``: measure larder beside what a user would use instead, and print one table."""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.kit.debian import home

from . import containers, images, measure, rows, share, space
from .rows import Kit, Unavailable

ROWS = {**rows.ROWS, **containers.ROWS, **share.ROWS}
#: What is measured in bytes and not in seconds.
SPACE = "space"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"no {command[0]}"
    return done.stdout.splitlines()[0].strip()


def _machine() -> str:
    """Describe what the numbers depend on."""
    cpus = Path("/proc/cpuinfo")
    models = [line for line in cpus.read_text().splitlines() if line.startswith("model name")] if cpus.exists() else []
    model = models[0].partition(":")[2].strip() if models else platform.processor()
    parts = [
        f"{datetime.now(UTC):%Y-%m-%d}: {len(models) or '?'} x {model}",
        f"{platform.system()} {platform.release()}",
        f"{_first_line('stat', '-f', '-c', '%T', str(home()))}",
        f"Python {platform.python_version()}",
        *(f"{wheel} {version(wheel)}" for wheel in ("deflate", "isal", "zstandard", "blake3", "doit")),
        *(_first_line(tool, "--version") for tool in ("qemu-img", "gzip", "zstd", "xz", "podman", "skopeo", "make")),
        f"ninja {_first_line('ninja', '--version')}",
    ]
    return "; ".join(parts)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = (*ROWS, SPACE)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"what to measure, default all: {' '.join(names)}")
    parser.add_argument("--runs", type=int, default=5, help="runs of each command after the one that warms up")
    parser.add_argument("--quick", action="store_true", help="a synthetic disk and a small graph: a look, no figures")
    options = parser.parse_args()
    unknown = set(options.rows) - set(names)
    if unknown or options.runs < 1:
        parser.error(f"no such row: {' '.join(sorted(unknown))}" if unknown else "--runs takes a number from 1")

    if options.quick:
        disk, title, declared = images.synthetic(), "synthetic, 1 GiB", 100
    else:
        disk, title, declared = images.debian(), "Debian, 10 GiB", 1000
    table, taken, missing = list(measure.HEADER), [], []
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=home()))
    try:
        for name in options.rows or names:
            with ExitStack() as stack:
                kit = Kit(disk, title, folder, stack, declared)
                try:
                    if name == SPACE:
                        taken = ["", *space.HEADER, *space.lines(kit)]
                        continue
                    row = ROWS[name](kit)
                except Unavailable as reason:
                    missing.append(f"Not measured: {name}: {reason}.")
                    continue
                table += measure.lines(row, measure.race(row, options.runs, _tell, quick=options.quick))
    finally:
        shutil.rmtree(folder)
    print(_machine(), *missing, "", *table, *taken, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
