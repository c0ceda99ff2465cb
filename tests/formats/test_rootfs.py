"""A root file system, wherever it is: what may be in it."""

from __future__ import annotations

import io
import random
import tarfile
from typing import TYPE_CHECKING

import pytest

from recipes.errors import LimitExceeded
from recipes.formats import bounds, rootfs, sparse
from recipes.formats.sparse import data_size
from recipes.progress import SILENCE, SILENT_METER
from tests.formats import ext4_images
from tests.formats.oci_images import Layout, file, folder, symlink, tar

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.tree import Tree
    from recipes.model import Kind

MiB = 1 << 20


def load(path: Path, kind: Kind | None = None, stored: int | None = None) -> Tree:
    return rootfs.open_tree(
        path,
        kind=kind,
        arch="x86_64",
        scratch=lambda: path.with_name("scratch"),
        jobs=1,
        limit=2 << 40,
        progress=SILENCE,
        label="",
        stored=stored,
    )


class TestWhatAnInputJustifies:
    """Whoever makes something of a tree makes it of every name and every file, however they came into it."""

    @pytest.fixture(autouse=True)
    def _little_for_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "FREE_CONTENT", 2 * MiB)
        monkeypatch.setattr(bounds, "EXPANSION", 2)

    def test_files_on_a_disk_that_is_a_hole(self, tmp_path: Path) -> None:
        (tmp_path / "root").mkdir()
        (tmp_path / "root/large").write_bytes(random.Random(1).randbytes(6 * MiB))
        image = tmp_path / "image"
        ext4_images.make(image, 16 * MiB, "-O", "^has_journal", "-d", str(tmp_path / "root"))
        with load(image) as tree:
            extents = tree.root.children[b"large"].data
        with image.open("r+b") as disk:
            for extent in extents:
                assert not isinstance(extent, int)
                disk.seek(extent.offset)
                disk.write(bytes(extent.length))
        sparse.punch(image, meter=SILENT_METER)
        assert data_size(image) < MiB
        with pytest.raises(LimitExceeded, match="bytes of data justify"):
            load(image)

    @pytest.mark.parametrize("kind", ["rootfs", "oci"])
    def test_paths_that_links_make_long(self, kind: Kind, tmp_path: Path) -> None:
        path = "/".join(["d" * 200] * 19)
        data = tar(folder(path), symlink("a", path), *[file(f"a/{number}") for number in range(1500)])
        if kind == "oci":
            layout = Layout()
            layout.write(tmp_path / "input", layout.image(data))
        else:
            (tmp_path / "input").write_bytes(data)
        with pytest.raises(LimitExceeded, match="bytes of data justify"):
            load(tmp_path / "input", kind)

    def test_attributes_that_inodes_share(self, tmp_path: Path) -> None:
        """One block of attributes serves any number of files."""
        image = tmp_path / "image"
        (tmp_path / "root").mkdir()
        for number in range(1000):
            (tmp_path / f"root/{number}").touch()
        ext4_images.make(image, 16 * MiB, "-O", "^has_journal,^metadata_csum", "-d", str(tmp_path / "root"))
        (tmp_path / "value").write_bytes(b"x" * 3900)
        ext4_images.debugfs(image, f"ea_set -f {tmp_path / 'value'} /0 user.a")
        block = next(
            line.split()[-1]
            for line in ext4_images.debugfs(image, "stat /0").replace("File ACL", "\nFile ACL").splitlines()
            if line.startswith("File ACL")
        )
        ext4_images.debugfs(image, *(f"set_inode_field /{number} file_acl {block}" for number in range(1, 1000)))
        sparse.punch(image, meter=SILENT_METER)
        assert data_size(image) < MiB
        with pytest.raises(LimitExceeded, match="bytes of data justify"):
            load(image)

    def test_metadata_of_a_tarball_that_was_compressed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What counts are the bytes that were downloaded, and not what they expanded to."""
        monkeypatch.setattr(bounds, "FREE_METADATA", MiB)
        path = tmp_path / "input"
        path.write_bytes(tar(*[file("a")] * 5000))
        with load(path):
            pass
        with pytest.raises(LimitExceeded, match="too many files and attributes for an input of 9000 bytes"):
            load(path, stored=9000)

    def test_metadata_of_a_disk_that_was_compressed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "FREE_METADATA", MiB)
        (tmp_path / "root").mkdir()
        for number in range(3000):
            (tmp_path / f"root/{number}").touch()
        image = tmp_path / "image"
        ext4_images.make(image, 16 * MiB, "-O", "^has_journal", "-d", str(tmp_path / "root"))
        with load(image):
            pass
        with pytest.raises(LimitExceeded, match="too many files and attributes for an input of 9000 bytes"):
            load(image, stored=9000)

    def test_what_is_stored_is_justified(self, tmp_path: Path) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as members:
            members.addfile(tarfile.TarInfo("empty"))
            info = tarfile.TarInfo("large")
            info.size = 6 * MiB
            members.addfile(info, io.BytesIO(bytes(6 * MiB)))
        (tmp_path / "input").write_bytes(archive.getvalue())
        with load(tmp_path / "input") as tree:
            assert tree.root.children[b"large"].stored == 6 * MiB
