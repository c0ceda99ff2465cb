"""A real Debian's disk, read without mounting it, against what Linux shows of it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from recipes.formats.fs import root as disk_tree
from tests.kit.debian import ROOT_OFFSET
from tests.kit.ext4_images import mounted
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from tests.kit.debian import Debian

pytestmark = pytest.mark.system


def test_every_entry_is_what_a_mount_shows(image: Debian) -> None:
    with mounted(image.raw, "ro", "noload", f"offset={ROOT_OFFSET}") as folder:
        expected = of_folder(folder, skip=frozenset())
    with disk_tree.load(image.raw) as tree:
        found = of_tree(tree)
    assert len(found) > 5000
    assert differences(found, expected) == []
    # What other tools lose.
    kinds = {stat.S_IFMT(each.mode) for each in found.values()}
    assert {stat.S_IFCHR, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFREG} <= kinds
    names = {name for each in found.values() for name, _value in each.xattrs}
    assert {b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"} <= names
