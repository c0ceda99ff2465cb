from __future__ import annotations

import os
import platform
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kit import debian
from tests.kit.oracles import lack, need

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def image() -> debian.Debian:
    """A Debian that boots, as small as it gets."""
    need("mmdebstrap", "sfdisk", "mke2fs")
    if platform.machine() != "x86_64":
        lack("the image is for x86_64, and its packages run while it is made")
    if os.getuid() != 0:
        lack("making an image with its owners and devices takes root")
    try:
        return debian.build(debian.CI)
    except subprocess.CalledProcessError as error:
        lack(f"{error.cmd[0]} failed: making the image takes Debian's mirrors, once")


@pytest.fixture(scope="session")
def qcow2(image: debian.Debian) -> Path:
    """The image as its makers publish it: zlib clusters."""
    need("qemu-img")
    return debian.once(
        image.folder / "debian.qcow2",
        lambda path: debian.run("qemu-img", "convert", "-c", "-O", "qcow2", image.raw, path),
    )


@pytest.fixture(scope="session")
def gzipped(qcow2: Path) -> Path:
    """The same in an outer compression, so that there is something to undo."""
    need("gzip")
    return debian.once(
        qcow2.with_name("debian.qcow2.gz"),
        lambda path: debian.run("sh", "-ec", 'gzip -1 <"$1" >"$2"', "sh", qcow2, path),
    )
