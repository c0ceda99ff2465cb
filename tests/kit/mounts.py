"""File systems in files, as the kernel shows them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .debian import run
from .oracles import lack, need

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def mounted(image: Path, options: str = "ro,noload") -> Iterator[Path]:
    """Mount the file system in `image` on a folder of its own, which is what the body gets; skip where nobody may."""
    if sys.platform != "linux" or os.getuid() != 0:
        lack("a loop mount takes Linux, and root")
    need("mount", "umount")
    with tempfile.TemporaryDirectory(prefix="larder-mount-") as folder:
        done = subprocess.run(["mount", "-o", f"loop,{options}", image, folder], capture_output=True, text=True)
        if done.returncode:
            # Only the machine may be the reason to skip, not the image.
            if "loop device" in done.stderr:
                lack(f"mount: {done.stderr.strip()}")
            raise AssertionError(done.stderr)
        try:
            yield Path(folder)
        finally:
            run("umount", folder)
