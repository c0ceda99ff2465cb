"""btrfs, for reading: one subvolume and those in it as a tree, with data that is decompressed as it is read."""

from __future__ import annotations

from .read import Btrfs, Subvolume, open

__all__ = ["Btrfs", "Subvolume", "open"]
