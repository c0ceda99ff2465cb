"""What the search for a root needs of any file system, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from recipes.formats.tree.tree import Tree


class FileSystem(Protocol):
    """A file system that was opened for reading; a package of its own and a row of `recipes.formats.fs.table`.

    What it shows is what Linux shows of a read-only mount, sockets excepted. Errors: `CorruptImage`;
    `UnsupportedFeature`, which names the feature; `LimitExceeded`.
    """

    def exists(self, path: bytes) -> bool:
        """Say whether something is at `path`; symbolic links are followed within the file system, as by chroot(2).

        It costs a few directories, not the whole file system.
        """

    def fill(self, tree: Tree) -> None:
        """Make the root directory that of `tree`, whose extents refer to the source: it has to stay open as long."""
