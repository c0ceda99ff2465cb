"""UUIDs and labels, held against blkid's."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.formats.fs.identity import Identity, identity
from recipes.formats.io.source import BytesSource, FileSource
from tests.kit import btrfs_images, xfs_images
from tests.kit.ext4_images import MiB, make
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

UUID = "01234567-89ab-4def-8123-456789abcdef"


@pytest.mark.parametrize("kind", ["ext2", "ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("label", ["", "a b-ä"])
def test_as_blkid_has_them(tmp_path: Path, kind: str, label: str) -> None:
    need("blkid")
    image = tmp_path / "image"
    if kind == "xfs":
        xfs_images.make(image, xfs_images.SMALL, "-m", f"uuid={UUID}", "-L", label)
    elif kind == "btrfs":
        btrfs_images.make(image, "-U", UUID, "-L", label)
    else:
        make(image, 4 * MiB, "-t", kind, "-U", UUID, "-L", label)
    with image.open("rb") as file:
        assert identity(FileSource(file.fileno(), "image"), kind) == Identity(UUID, label)
    done = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "UUID", image], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == UUID


def test_of_what_is_not_read() -> None:
    assert identity(BytesSource(bytes(4096), "x"), "vfat") == Identity()
    assert identity(BytesSource(bytes(40), "x"), "xfs") == Identity()
    assert identity(BytesSource(bytes(4096), "x"), None) == Identity()
