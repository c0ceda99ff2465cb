"""Run one command and print what it cost as JSON: ``python -I -S launch.py OUTPUT COMMAND…`` (OUTPUT: its stdout).

A process of its own, and no imports but these: Linux gives a new process its parent's peak memory as a start, so that
what starts the commands has to be smaller than anything that is measured.
"""

import os
import sys
import time

output = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, output, 1)])
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - began
# Kilobytes, except on macOS, where ru_maxrss is bytes.
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
sys.stdout.write(
    f'{{"code": {os.waitstatus_to_exitcode(status)}, "wall": {wall}, "user": {usage.ru_utime}, '
    f'"system": {usage.ru_stime}, "peak": {peak}}}\n'
)
