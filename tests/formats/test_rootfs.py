"""A root file system, wherever it is: what may be in it."""

from __future__ import annotations

import io
import json
import random
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, Interrupted, LimitExceeded, UnsupportedFeature
from recipes.formats import rootfs
from recipes.formats.io import bounds, sparse
from recipes.formats.io.context import Context
from recipes.formats.io.sparse import data_size
from recipes.progress import SILENCE, SILENT_METER
from tests.kit import ext4_images
from tests.kit.oci_images import Layout, docker_archive, entry, file, folder, hardlink, symlink, tar, write_tar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from recipes.formats.tree.tree import Tree
    from recipes.model import Kind
    from recipes.progress import Progress

MiB = 1 << 20


def load(
    path: Path,
    kind: Kind | None = None,
    strip: str = "",
    *,
    stored: int | None = None,
    progress: Progress = SILENCE,
) -> Tree:
    return rootfs.open_tree(
        path,
        Context(progress, limit=2 << 40, scratch=lambda: path.with_name("scratch")),
        rootfs.Wanted(kind, "x86_64", strip),
        stored=stored,
    )


@pytest.mark.long
class TestWhatAnInputJustifies:
    """Whoever makes something of a tree makes it of every name and every file, however they came into it."""

    @pytest.fixture(autouse=True)
    def _little_for_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "FREE_CONTENT", 2 * MiB)
        monkeypatch.setattr(bounds, "EXPANSION", 2)

    def test_files_on_a_disk_that_is_a_hole(self, tmp_path: Path) -> None:
        (tmp_path / "root/usr").mkdir(parents=True)
        (tmp_path / "root/usr/large").write_bytes(random.Random(1).randbytes(6 * MiB))
        image = tmp_path / "image"
        ext4_images.make(image, 16 * MiB, "-O", "^has_journal", "-d", str(tmp_path / "root"))
        with load(image) as tree:
            extents = tree.root.children[b"usr"].children[b"large"].data
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
        path.write_bytes(tar(*[file("etc/a")] * 5000))
        with load(path):
            pass
        with pytest.raises(LimitExceeded, match="too many files and attributes for an input of 9000 bytes"):
            load(path, stored=9000)

    def test_metadata_of_a_disk_that_was_compressed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "FREE_METADATA", MiB)
        (tmp_path / "root/etc").mkdir(parents=True)
        for number in range(1500):
            (tmp_path / f"root/etc/{number}").touch()
        image = tmp_path / "image"
        ext4_images.make(image, 16 * MiB, "-O", "^has_journal", "-d", str(tmp_path / "root"))
        with load(image):
            pass
        with pytest.raises(LimitExceeded, match="too many files and attributes for an input of 900 bytes"):
            load(image, stored=900)

    def test_pieces_of_files_on_a_disk_that_was_compressed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bounds, "FREE_METADATA", 100_000)
        (tmp_path / "root/etc").mkdir(parents=True)
        with (tmp_path / "root/holes").open("wb") as holes:
            for number in range(2000):
                holes.seek(number * 8192)
                holes.write(b"data")
        image = tmp_path / "image"
        ext4_images.make(image, 32 * MiB, "-O", "^has_journal", "-d", str(tmp_path / "root"))
        with load(image):
            pass
        with pytest.raises(LimitExceeded, match="too many files and attributes for an input of 1000 bytes"):
            load(image, stored=1000)

    def test_what_is_stored_is_justified(self, tmp_path: Path) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as members:
            members.addfile(tarfile.TarInfo("usr/empty"))
            info = tarfile.TarInfo("usr/large")
            info.size = 6 * MiB
            members.addfile(info, io.BytesIO(bytes(6 * MiB)))
        (tmp_path / "input").write_bytes(archive.getvalue())
        with load(tmp_path / "input") as tree:
            assert tree.root.children[b"usr"].children[b"large"].stored == 6 * MiB


ROOT = (folder("etc"), file("etc/os-release"), folder("usr"), folder("bin"))
QCOW2 = b"QFI\xfb\0\0\0\3" + bytes(504)
PROGRAM = entry("hello", data=b"\x7fELF", mode=0o755)


def within(name: str) -> tuple[Any, ...]:
    return (
        folder(name),
        folder(f"{name}/etc"),
        file(f"{name}/etc/os-release"),
        folder(f"{name}/usr"),
        folder(f"{name}/bin"),
    )


class TestWhatIsNoRoot:
    @pytest.mark.parametrize(
        ("members", "found"),
        [
            ((), "found nothing at all in it"),
            ((folder("."),), "found nothing at all in it"),
            (within("root.x86_64"), "found one in the folder 'root.x86_64'"),
            ((file("pkglist.x86_64.txt"), *within("./root.x86_64")), 'declare strip = "root.x86_64"'),
            # A unified image of LXD's and Incus's.
            ((file("metadata.yaml"), folder("templates"), *within("rootfs")), 'declare strip = "rootfs"'),
            ((folder("a"), *within("a/b")), 'declare strip = "a/b"'),
            ((*within("a"), *within("b")), "found 'a', 'b'"),
            ((file("disk.raw", bytes(510) + b"\x55\xaa" + bytes(512)),), "found a disk image in it: 'disk.raw'"),
            ((file("disk/any.name", QCOW2),), "found a disk image in it: 'disk/any.name'"),
            (
                (file("README"), file("src/main.c")),
                "with etc, usr, bin or the like, or any program; found 'README', 'src'",
            ),
            ([file(name) for name in "abcdef"], "found 'a', 'b', 'c', 'd', 'e' …"),
        ],
    )
    def test_tarballs(self, members: Sequence[Any], found: str, tmp_path: Path) -> None:
        (tmp_path / "input").write_bytes(tar(*members))
        with pytest.raises(UnsupportedFeature, match="expected a root file system") as caught:
            load(tmp_path / "input", "rootfs")
        assert found in str(caught.value)

    def test_images(self, tmp_path: Path) -> None:
        layout = Layout()
        layout.write(tmp_path / "oci", layout.image(tar(*ROOT)))
        listing, files = docker_archive([tar(*ROOT)])
        write_tar(tmp_path / "docker", {"manifest.json": json.dumps([listing]).encode(), **files})
        for name in ("oci", "docker"):
            with pytest.raises(UnsupportedFeature, match="found the archive of a container image") as caught:
                load(tmp_path / name, "rootfs")
            assert 'declare kind = "oci"' in str(caught.value)
            with load(tmp_path / name) as tree:
                assert tree.find(b"etc/os-release")

    def test_what_is_no_tarball(self, tmp_path: Path) -> None:
        (tmp_path / "input").write_bytes(b"MZ".ljust(0x3C, b"\0") + b"\x40\0\0\0PE\0\0" + bytes(200) + b".linux\0\0")
        with pytest.raises(UnsupportedFeature, match="expected a tarball, found a unified kernel image"):
            load(tmp_path / "input", "rootfs")

    @pytest.mark.parametrize("kind", ["rootfs", "oci"])
    def test_one_program_is_a_root(self, kind: Kind, tmp_path: Path) -> None:
        if kind == "oci":
            layout = Layout()
            layout.write(tmp_path / "input", layout.image(tar(PROGRAM)))
        else:
            (tmp_path / "input").write_bytes(tar(PROGRAM))
        with load(tmp_path / "input", kind) as tree:
            assert tree.find(b"hello")

    def test_a_disk_with_nothing_on_it(self, tmp_path: Path) -> None:
        ext4_images.make(tmp_path / "input", 4 * MiB)
        with pytest.raises(UnsupportedFeature, match="found nothing at all in it"):
            load(tmp_path / "input")


class TestStrip:
    def test_the_folder_is_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "input").write_bytes(
            tar(
                file("version"),
                *within("root.x86_64"),
                symlink("root.x86_64/run", "/usr"),
                # As in a root of its own: the link does not lead out of the folder.
                file("root.x86_64/run/new"),
                hardlink("root.x86_64/same", "root.x86_64/etc/os-release"),
                file("root.x86_64.txt"),
            )
        )
        for strip in ("root.x86_64", "./root.x86_64/"):
            with load(tmp_path / "input", "rootfs", strip) as tree:
                names = sorted(path.decode() for path, _ in tree.walk())
                assert names == ["", "bin", "etc", "etc/os-release", "run", "same", "usr", "usr/new"]
                assert tree.find(b"same") is tree.find(b"etc/os-release")

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "input").write_bytes(tar(*within("rootfs"), file("metadata.yaml")))
        with pytest.raises(UnsupportedFeature, match="expected a folder 'root', found 'rootfs', 'meta"):
            load(tmp_path / "input", "rootfs", "root")

    def test_a_hard_link_to_what_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "input").write_bytes(tar(file("a"), folder("root/etc"), hardlink("root/etc/b", "a")))
        with pytest.raises(CorruptImage, match="'root/etc/b' is a hard link to 'a', which is outside of 'root'"):
            load(tmp_path / "input", "rootfs", "root")

    def test_of_a_disk(self, tmp_path: Path) -> None:
        ext4_images.make(tmp_path / "input", 4 * MiB)
        with pytest.raises(UnsupportedFeature, match="a folder to strip is for a tarball"):
            load(tmp_path / "input", strip="root")


class Stopped:
    """The progress of a run that was told to stop: what is read says so as soon as it looks."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def note(self, message: str) -> None:
        pass

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Stopped]:
        self.labels.append(label)
        yield self

    def expect(self, total: int | None) -> None:
        pass

    def advance(self, count: int) -> None:
        if self.labels[-1].endswith(": reading"):
            raise Interrupted("told to stop")


@pytest.mark.parametrize("kind", ["disk", "rootfs", "oci"])
def test_reading_many_names_can_be_stopped(kind: Kind, tmp_path: Path) -> None:
    path, names = tmp_path / "input", [f"usr/{folder}/{name}" for folder in range(10) for name in range(100)]
    match kind:
        case "disk":
            for name in names:
                (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "root" / name).touch()
            ext4_images.make(path, 16 * MiB, "-d", str(tmp_path / "root"))
        case "rootfs":
            path.write_bytes(tar(*map(file, names)))
        case "oci":
            layout = Layout()
            layout.write(path, layout.image(tar(*map(file, names))))
    with pytest.raises(Interrupted):
        load(path, kind, progress=Stopped())
    with load(path, kind) as tree:
        assert tree.find(b"usr/9/99")
