"""A Debian disk that boots, or does not."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .oracles import need

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .debian import Debian


def says(command: Sequence[str], text: bytes, folder: Path) -> bool:
    """Run a machine until it says `text` on its standard output; return whether it did before it ended."""
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as machine:
        assert machine.stdout is not None
        try:
            return any(text in line for line in machine.stdout)
        finally:
            machine.kill()


def boots(image: Debian, drive: str, root: str, script: str = "true") -> None:
    """Assert that the kernel of `image` starts a shell from the partition or disk `root` of QEMU's `drive`.

    It runs `script`, in which no double quotes may be, and which has to succeed.
    """
    need("qemu-system-x86_64")
    # The kernel may print its command line: only a shell that runs says 42.
    script = f"{script} && sync && echo BOOT-$((6*7)); mount -t proc proc /proc; echo o >/proc/sysrq-trigger; sleep 60"
    console = subprocess.run(
        [
            # TCG, since not every machine has a KVM that works.
            *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "512"),
            *("-nographic", "-no-reboot", "-nic", "none"),
            *("-drive", f"if=virtio,{drive}"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", f'root={root} rw console=ttyS0 panic=-1 quiet init=/bin/sh -- -c "{script}"'),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
    assert "BOOT-42" in console.stdout, console.stdout + console.stderr
