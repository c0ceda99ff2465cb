"""The benchmark can be repeated: one row of each sort, on small files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.oracles import need

pytestmark = pytest.mark.system


def test_a_quick_run_prints_its_table() -> None:
    need("qemu-img", "gzip", "make", "ninja")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--runs", "1", "zlib", "gz", "graph"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    cells = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({len(row) for row in cells}) == 1
    assert [row[1] for row in cells if row[1]][2:] == [
        "QCOW2 zlib → RAW, synthetic, 1 GiB",
        "raw.gz → sparse RAW, first GiB of it",
        "100 images, all current",
    ]
