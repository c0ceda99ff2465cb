"""Tar archives of a real Debian, with its capabilities and access control lists."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.formats.tar import read as tar_read
from recipes.formats.tar import write as tar_write
from recipes.formats.tree import posix_acl
from recipes.progress import SILENT_METER
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.debian import Debian

pytestmark = pytest.mark.system


def test_the_canonical_archive_is_extracted_as_the_original_says(image: Debian, tmp_path: Path) -> None:
    need("tar")
    folder = tmp_path / "folder"
    folder.mkdir()
    with tar_read.load(image.rootfs) as tree, (tmp_path / "canonical.tar").open("wb") as file:
        tar_write.write(tree, file, meter=SILENT_METER)
        file.flush()
        command = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf", file.name]
        subprocess.run(command, cwd=folder, check=True)
        expected = of_tree(tree)
        assert differences(of_folder(folder), expected) == []
        with tar_read.load(tmp_path / "canonical.tar") as again:
            assert differences(of_tree(again), expected) == []
        attributes = {name for facts in expected.values() for name, _ in facts.xattrs}
        assert attributes >= {b"security.capability", posix_acl.ACCESS, posix_acl.DEFAULT}
