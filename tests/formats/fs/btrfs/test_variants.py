"""What is read is what Linux shows, for everything that mkfs.btrfs makes and mount does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.btrfs_images import agrees_with_the_kernel, make, mounted, populate_extents
from tests.kit.ext4_images import populate

if TYPE_CHECKING:
    from pathlib import Path

#: What mkfs.btrfs makes, and how it is mounted while it is filled.
VARIANTS = {
    "as it comes": ((), ()),
    "nodes of 4 KiB, zlib": (("-n", "4096"), ("compress-force=zlib:1",)),
    "nodes of 32 KiB, LZO": (("-n", "32768"), ("compress-force=lzo",)),
    "nodes of 64 KiB, zstd": (("-n", "65536"), ("compress-force=zstd:1",)),
    "xxhash": (("--csum", "xxhash"), ("compress=zstd:15",)),
    "sha256": (("--csum", "sha256"), ("compress=zlib",)),
    "blake2": (("--csum", "blake2"), ("compress=lzo",)),
    "mixed groups": (("--mixed",), ("compress-force=zstd",)),
    "everything once": (("-m", "single", "-d", "single"), ("max_inline=0",)),
    "everything twice": (("-m", "dup", "-d", "dup"), ("compress-force=zstd",)),
    "RAID0 of one device": (("-m", "raid0", "-d", "raid0"), ()),
    "holes are items": (("-O", "^no-holes"), ("compress-force=zlib",)),
    "no extended references, old space cache": (("-O", "^extref,^skinny-metadata", "-R", "^free-space-tree"), ()),
    "quota": (("-R", "quota"), ()),
    "large inline": (("-n", "16384"), ("max_inline=4095", "compress=zstd")),
    "no data checksums": ((), ("nodatasum", "max_inline=4095")),
}


@pytest.mark.parametrize(("options", "mount"), VARIANTS.values(), ids=VARIANTS)
def test_every_variant(tmp_path: Path, options: tuple[str, ...], mount: tuple[str, ...]) -> None:
    image = tmp_path / "image"
    make(image, *options)
    with mounted(image, *mount) as folder:
        populate(folder)
        # A file either has checksums or not, and shares with its like only.
        populate_extents(folder, clone="nodatasum" not in mount)
    agrees_with_the_kernel(image)
