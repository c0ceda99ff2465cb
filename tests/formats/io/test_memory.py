from __future__ import annotations

import subprocess
import sys

import pytest

_CHURN = """
import resource
from recipes.formats.io.memory import keep_freed
{}
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(500):
    held = [bytes(b"x") * (512 << 10) for _ in range(4)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def _faults(call: str) -> int:
    done = subprocess.run([sys.executable, "-c", _CHURN.format(call)], capture_output=True, check=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_pages_are_not_given_back_between_two_chunks() -> None:
    assert _faults("keep_freed()") < _faults("") / 10
