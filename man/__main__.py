"""Writes the man pages: `python -m man FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from .pages import write


def main() -> int:
    """Write the pages into the folder that the command line names; return the exit status."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m man FOLDER\n")
        return 3
    for path in write(Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
