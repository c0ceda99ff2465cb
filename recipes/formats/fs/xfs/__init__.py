"""XFS, versions 4 and 5, for reading: `read` has the file system, the other modules one structure of the disk each."""

from __future__ import annotations

from .read import Xfs, open

__all__ = ["Xfs", "open"]
