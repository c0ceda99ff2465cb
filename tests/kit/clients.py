"""Clients of container images, with storage of their own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .oracles import need

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The limits of a container are its client's defaults, which a build machine may not allow.
LIMITS = ("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
#: crun and podman take a mount of cgroup v2 beside v1 for a mixture that they do not know.
NO_HYBRID = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh")


def output(*command: str | Path) -> str:
    """Run a client and return what it prints; fail with what it says where it fails."""
    done = attempt(*command)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def attempt(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@contextmanager
def podman_of_its_own() -> Iterator[tuple[str, ...]]:
    """Give the words that podman commands begin with, for as long as the body takes."""
    need("podman", "crun", "unshare")
    # Not below pytest's own: podman refuses a runroot of more than 50 characters.
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    storage = folder / "storage"
    try:
        yield ("podman", "--root", str(storage), "--runroot", str(folder / "run"))
    finally:
        # podman leaves its storage mounted on itself.
        attempt("umount", "--recursive", storage / "overlay")
        shutil.rmtree(folder)
