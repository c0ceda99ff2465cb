from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.xfs_damage import Image, damageable
from tests.kit.xfs_images import SMALL, make, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory if there is room: images are mounted, and each unmount waits for the disk."""
    if not _MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="larder-xfs-", dir=_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return damageable(tmp_path_factory.mktemp("xfs") / "image")


@pytest.fixture
def image(made: Image, tmp_path: Path) -> Image:
    """Return a small file system with one of each structure in it, to be damaged."""
    path = tmp_path / "image"
    path.write_bytes(made.path.read_bytes())
    return Image(path, made.numbers)


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A file system with a file of five blocks in one extent, and another without any."""
    made = make(tmp_path / "image", SMALL)
    with mounted(made) as folder:
        (folder / "five").write_bytes(b"".join(b"%d" % number * 4096 for number in range(5)))
        (folder / "none").touch()
        os.truncate(folder / "none", 20 * 4096)
        (folder / "folder").mkdir()
    return made
