"""What the boot loader of a file system would boot, whichever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import bls, grub

if TYPE_CHECKING:
    from recipes.formats.tree.tree import Tree

    from .bls import Entry

#: Below /boot: one of these is there if there are entries.
MARKS = (bls.ENTRIES, *grub.PLACES)


def entries(tree: Tree, boot: bytes = b"") -> list[Entry]:
    """Return the entries below the folder `boot` of `tree`, the one that would be booted first.

    Those in files of their own go before GRUB's configuration, which only loads them if there are any. Errors: those of
    `bls.entries` and `grub.entries`.
    """
    return bls.entries(tree, boot) or grub.entries(tree, boot)
