from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.errors import CorruptImage, LarderError, LimitExceeded, UnsupportedFeature
from recipes.formats.fs.ext4 import write as ext4_write
from recipes.formats.io.source import FileSource
from recipes.formats.io.sparse import SparseFile, allocated
from recipes.formats.tree.posix_acl import ACCESS
from recipes.formats.tree.tree import Extent, Node, Tree
from recipes.progress import SILENT_METER
from tests.kit.debian import run
from tests.kit.mounts import mounted
from tests.kit.nasty import BLK, CHR, DIR, FILE, LINK, SECOND, file, nasty
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40
BLOCK = 4096


def write(tree: Tree, path: Path, size: int = 16 * MiB, label: str = "root") -> Path:
    """Write `tree` to the image `path`, new or not, and hold e2fsck against it."""
    path.unlink(missing_ok=True)
    with SparseFile(path, durable=False) as disk:
        ext4_write.write(tree, disk, size=size, label=label, meter=SILENT_METER)
        disk.finish(size)
    check(path)
    return path


def check(image: Path) -> None:
    need("e2fsck")
    run("e2fsck", "-fn", image)


def same(image: Path, tree: Tree) -> None:
    with mounted(image) as folder:
        assert differences(of_folder(folder), of_tree(tree)) == []


def debugfs(image: Path, command: str) -> str:
    need("debugfs")
    environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(
        ["debugfs", "-R", command, image], env=environ, check=True, capture_output=True, text=True, errors="replace"
    ).stdout


def blocks_of(image: Path, path: str) -> int:
    """Return the blocks that a file takes."""
    found = re.search(r"Blockcount: (\d+)", debugfs(image, f"stat {path}"))
    assert found
    return int(found[1]) * 512 // BLOCK


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "ext4"


@pytest.fixture
def holed(tmp_path: Path) -> Callable[..., tuple[Tree, Node]]:
    """Make a tree with a file called `file` that has these ``(at, data)`` extents, in a file that the tree keeps."""

    def make(size: int, *extents: tuple[int, bytes]) -> tuple[Tree, Node]:
        path = tmp_path / "data"
        path.write_bytes(b"".join(data for _, data in extents))
        tree = Tree()
        fd = FileSource(tree.keep(path.open("rb")).fileno(), "data")
        placed = []
        offset = 0
        for at, data in extents:
            placed.append(Extent(at, len(data), fd, offset))
            offset += len(data)
        return tree, tree.add(b"file", Node(FILE | 0o644, size=size, data=tuple(placed)))

    return make


class TestTree:
    def test_every_attribute_is_what_the_kernel_shows(self, image: Path) -> None:
        tree = nasty()
        same(write(tree, image), tree)

    def test_times_out_of_range_are_the_nearest(self, image: Path) -> None:
        tree = Tree()
        tree.add(b"early", file(mtime_ns=-(1 << 31) * SECOND - 1))
        tree.add(b"late", file(mtime_ns=(1 << 62)))
        with mounted(write(tree, image)) as folder:
            assert (folder / "early").stat().st_mtime_ns == -(1 << 31) * SECOND
            assert (folder / "late").stat().st_mtime_ns == (1 << 62)
        tree.add(b"late", file(mtime_ns=(1 << 70)))
        shown = debugfs(write(tree, image), "stat /late")
        assert re.search(r"mtime: 0x7fffffff:00000003", shown)

    def test_lost_and_found_is_added(self, image: Path) -> None:
        with mounted(write(Tree(), image)) as folder:
            found = (folder / "lost+found").stat()
            assert (found.st_ino, found.st_mode) == (11, DIR | 0o700)

    def test_its_own_lost_and_found_is_kept(self, image: Path) -> None:
        tree = Tree()
        tree.add(b"lost+found", Node(DIR | 0o755, 3, 4, 5, xattrs={b"user.mine": b"yes"}))
        tree.add(b"lost+found/#12", file(b"found"))
        with mounted(write(tree, image)) as folder:
            assert differences(of_folder(folder, skip=frozenset()), of_tree(tree)) == []
            assert (folder / "lost+found").stat().st_ino == 11

    def test_more_folders_than_links(self, image: Path) -> None:
        tree = Tree()
        for number in range(64_999):
            tree.root.children[b"%d" % number] = Node(DIR | 0o755)
        write(tree, image, 2 * GiB)
        # lost+found is one more.
        with mounted(image, "rw,data=ordered") as folder:
            assert folder.stat().st_nlink == 1
            (folder / "another").mkdir()
            (folder / "0").rmdir()
            assert len(list(folder.iterdir())) == 65_000
            assert folder.stat().st_nlink == 1
        check(image)

    @pytest.mark.parametrize(("count", "levels"), [(15, None), (16, 0), (200, 0), (7500, 0), (7700, 1)])
    def test_a_folder_with_many_names_has_an_index(self, image: Path, count: int, levels: int | None) -> None:
        tree = Tree()
        # 15 names fit into a block, and 508 blocks into the root of an index.
        for number in range(count):
            # Words of the hash that are full and not, within and behind its blocks of 32 bytes; all bits of a byte.
            name = b"%d-" % number + bytes([number % 200 + 50]) * (250 - number % 7)
            tree.add(b"folder/" + name[: 255 - number % 7], file())
        write(tree, image, 64 * MiB)
        assert (f"Indirect levels: {levels}" in debugfs(image, "htree /folder")) == (levels is not None)
        with mounted(image, "rw,data=ordered") as folder:
            assert differences(of_folder(folder), of_tree(tree)) == []
            # The kernel looks names up by their hash, and puts new ones where they belong.
            for number in range(50):
                (folder / "folder" / f"new{number}").write_bytes(b"")
        check(image)

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_any_tree(self, image: Path, data: st.DataObject) -> None:
        tree = data.draw(trees())
        same(write(tree, image, data.draw(st.integers(2048, 20_000)) * BLOCK), tree)


ids = st.integers(0, (1 << 32) - 2)
times = st.integers(-(1 << 31) * SECOND, ((1 << 33) + (1 << 32)) * SECOND)
names = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..", b"lost+found")
)
permissions = st.integers(0, 0o7777)
xattrs = st.dictionaries(
    st.builds(
        lambda prefix, name: prefix + name.replace(b"\0", b"0"),
        st.sampled_from([b"user.", b"trusted.", b"security."]),
        st.binary(min_size=1, max_size=40).filter(lambda name: name != b"capability"),
    ),
    st.binary(max_size=200),
    max_size=6,
)
attributes = {"uid": ids, "gid": ids, "mtime_ns": times, "xattrs": xattrs}
nodes = st.one_of(
    st.builds(
        lambda mode, data, **others: Node(FILE | mode, size=len(data), data=data, **others),
        permissions,
        st.builds(bytes.__mul__, st.binary(max_size=40), st.integers(0, 1000)),
        **attributes,
    ),
    st.builds(lambda mode, **others: Node(DIR | mode, **others), permissions, **attributes),
    st.builds(
        lambda target, **others: Node(LINK | 0o777, target=target, **others),
        st.binary(min_size=1, max_size=200).filter(lambda target: 0 not in target),
        # The kernel gives nobody the user attributes of a symbolic link.
        **{**attributes, "xattrs": st.just({})},
    ),
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree = Tree()
    folders = [b""]
    others: list[bytes] = []

    def place() -> bytes:
        return draw(st.sampled_from(folders).flatmap(lambda folder: names.map(lambda name: folder + name)))

    for node in draw(st.lists(nodes, max_size=25)):
        path = place()
        if tree.find(path) is None:
            tree.add(path, node)
            if node.is_dir:
                folders.append(path + b"/")
            else:
                others.append(path)
    for target in draw(st.lists(st.sampled_from(others), max_size=5)) if others else ():
        path = place()
        if tree.find(path) is None:
            tree.link(path, target)
    return tree


class TestHoles:
    def test_holes_stay_holes(self, image: Path, holed: Callable[..., tuple[Tree, Node]]) -> None:
        tree, _ = holed(2 * MiB, (BLOCK, b"a" * BLOCK), (MiB, b"b" * 3 * BLOCK))
        with tree:
            same(write(tree, image), tree)
        assert blocks_of(image, "/file") == 4

    def test_extents_within_blocks(self, image: Path, holed: Callable[..., tuple[Tree, Node]]) -> None:
        tree, _ = holed(
            100_000,
            *((1, b"a"), (100, b"b" * 10), (4095, b"cc"), (9000, b"d" * 5000), (20480, b"e" * 4096), (24576, b"f")),
            *((40_000, b"g" * 700), (40_900, b"h" * 20_000), (99_999, b"i")),
        )
        with tree:
            same(write(tree, image), tree)

    def test_nothing_but_a_hole(self, image: Path) -> None:
        tree = Tree()
        tree.add(b"file", Node(FILE | 0o644, size=5 * MiB + 1))
        same(write(tree, image), tree)
        assert blocks_of(image, "/file") == 0

    def test_blocks_of_zeros_become_holes(self, image: Path) -> None:
        tree = Tree()
        tree.add(b"file", file(b"a" * BLOCK + bytes(MiB) + b"b" + bytes(BLOCK)))
        same(write(tree, image), tree)
        assert blocks_of(image, "/file") == 2

    @pytest.mark.parametrize(("extents", "depth"), [(4, 0), (5, 1), (4 * 340, 1), (4 * 340 + 1, 2)])
    def test_the_tree_of_extents_is_as_deep_as_it_has_to_be(
        self, image: Path, tmp_path: Path, extents: int, depth: int
    ) -> None:
        path = tmp_path / "block"
        path.write_bytes(b"\1" * BLOCK)
        with Tree() as tree:
            fd = FileSource(tree.keep(path.open("rb")).fileno(), "data")
            data = tuple(Extent(2 * number * BLOCK, BLOCK, fd, 0) for number in range(extents))
            tree.add(b"file", Node(FILE | 0o644, size=2 * extents * BLOCK, data=data))
            write(tree, image, 32 * MiB + extents * BLOCK)
            same(image, tree)
        assert f"0/{depth}" in debugfs(image, "dump_extents /file").replace(" ", "")

    def test_extents_have_a_longest_length(self, image: Path, tmp_path: Path) -> None:
        # A file of 200 MiB of data: more than the 128 MiB that one extent can have.
        path = tmp_path / "data"
        path.write_bytes(b"\1" * MiB)
        with Tree() as tree:
            fd = FileSource(tree.keep(path.open("rb")).fileno(), "data")
            tree.add(
                b"file",
                Node(FILE, size=200 * MiB, data=tuple(Extent(at * MiB, MiB, fd, 0) for at in range(200))),
            )
            same(write(tree, image, 300 * MiB), tree)

    def test_a_file_that_is_larger_than_the_disk(self, image: Path, holed: Callable[..., tuple[Tree, Node]]) -> None:
        tree, _ = holed(16 * TiB - BLOCK, (0, b"first"), (16 * TiB - 2 * BLOCK, b"l" * BLOCK))
        with tree, mounted(write(tree, image)) as folder, (folder / "file").open("rb") as found:
            assert found.seek(0, os.SEEK_END) == 16 * TiB - BLOCK
            found.seek(-BLOCK, os.SEEK_END)
            assert found.read() == b"l" * BLOCK
            assert found.seek(0) == 0
            assert found.read(BLOCK) == b"first".ljust(BLOCK, b"\0")


class TestDisk:
    @pytest.mark.parametrize(
        "size",
        [
            *(8 * MiB, 64 * MiB, 128 * MiB, 128 * MiB + BLOCK, 130 * MiB, 140 * MiB, 256 * MiB),
            *(384 * MiB + 5 * MiB, 513 * MiB, GiB, 5 * GiB + 123 * BLOCK, 100 * GiB, TiB, TiB + 77 * MiB + 5),
        ],
    )
    def test_every_size_gives_a_clean_file_system(self, image: Path, size: int) -> None:
        tree = Tree()
        tree.add(b"etc/os-release", file(b"ID=test\n"))
        write(tree, image, size)
        assert allocated(image) < 2 * MiB + size // 32768
        same(image, tree)

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        size=st.one_of(st.integers(6 * MiB, 20 * MiB), st.integers(120 * MiB, 2 * GiB), st.integers(2 * GiB, 200 * GiB))
    )
    def test_any_size(self, image: Path, size: int) -> None:
        write(Tree(), image, size)

    def test_the_largest_size(self, image: Path) -> None:
        # Groups of 16 TiB have numbers that the superblock's copies do not hold. e2fsck takes ten seconds for it.
        tree = Tree()
        tree.add(b"file", file(b"data"))
        with SparseFile(image, durable=False) as disk:
            ext4_write.write(tree, disk, size=16 * TiB - BLOCK, label="", meter=SILENT_METER)
            disk.finish(16 * TiB - BLOCK)
        same(image, tree)
        assert superblock(image)["Block count"] == str((1 << 32) - 1)

    def test_two_writes_are_equal(self, image: Path, tmp_path: Path) -> None:
        need("cmp")
        run("cmp", write(nasty(), image), write(nasty(), tmp_path / "again"))

    def test_other_trees_have_other_identifiers(self, image: Path, tmp_path: Path) -> None:
        tree = Tree()
        one = uuid(write(tree, image))
        tree.add(b"x", file())
        assert uuid(write(tree, tmp_path / "other")) != one

    def test_what_dumpe2fs_says(self, image: Path) -> None:
        tree = Tree()
        tree.add(b"newest", file(mtime_ns=1_700_000_000 * SECOND + 5))
        shown = superblock(write(tree, image, GiB, label="a label that is longer \N{SNOWMAN} than 16 bytes"))
        assert set(shown["Filesystem features"].split()) == {
            *("has_journal", "ext_attr", "dir_index", "filetype", "extent", "flex_bg", "sparse_super", "large_file"),
            *("huge_file", "uninit_bg", "dir_nlink", "extra_isize"),
        }
        assert shown["Filesystem volume name"] == "a label that is"
        assert shown["Filesystem state"] == "clean"
        assert shown["Block count"] == str(GiB // BLOCK)
        assert shown["Inode count"] == str(GiB // 16384)
        assert shown["Total journal size"] == "32M"
        assert shown["Default mount options"] == "user_xattr acl"

    def test_more_files_than_a_disk_of_this_size_usually_has(self, image: Path) -> None:
        tree = Tree()
        for number in range(5000):
            tree.add(b"%d" % number, Node(LINK | 0o777, target=b"x"))
        same(write(tree, image, 16 * MiB), tree)

    def test_it_can_be_used_as_wsl_mounts_it(self, image: Path) -> None:
        need("dd")
        tree = nasty()
        write(tree, image, 64 * MiB)
        with mounted(image, "rw,discard,errors=remount-ro,data=ordered") as folder:
            full = subprocess.run(["dd", "if=/dev/zero", f"of={folder}/full", "bs=1M"], capture_output=True, text=True)
            assert "No space left" in full.stderr
            (folder / "full").unlink()
            for number in range(1000):
                (folder / "long" / f"{number}").write_bytes(b"new")
            os.sync()
            for entry in sorted(folder.rglob("*"), reverse=True):
                entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            assert list(folder.iterdir()) == []
            (folder / "lost+found").mkdir(0o700)
        check(image)

    def test_resize2fs_grows_it(self, image: Path) -> None:
        need("resize2fs")
        tree = nasty()
        write(tree, image, 64 * MiB)
        with image.open("r+b") as file:
            file.truncate(512 * MiB)
        run("resize2fs", image)
        check(image)
        assert superblock(image)["Block count"] == str(512 * MiB // BLOCK)
        same(image, tree)


def superblock(image: Path) -> dict[str, str]:
    need("dumpe2fs")
    environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C"}
    shown = subprocess.run(["dumpe2fs", "-h", image], env=environ, check=True, capture_output=True, text=True).stdout
    return {key: value.strip() for key, _, value in (line.partition(":") for line in shown.splitlines())}


def uuid(image: Path) -> str:
    return superblock(image)["Filesystem UUID"]


class TestRefused:
    @pytest.mark.parametrize(
        ("node", "error"),
        [
            pytest.param(file(uid=1 << 32), LimitExceeded, id="uid"),
            pytest.param(file(gid=(1 << 32) - 1), LimitExceeded, id="no gid"),
            pytest.param(file(uid=-1), LimitExceeded, id="negative uid"),
            pytest.param(Node(FILE, size=16 * TiB), LimitExceeded, id="size"),
            pytest.param(Node(LINK, target=b"x" * 4096), LimitExceeded, id="long symlink"),
            pytest.param(Node(LINK), LimitExceeded, id="empty symlink"),
            pytest.param(Node(LINK, target=b"a\0b"), CorruptImage, id="symlink with NUL"),
            pytest.param(Node(CHR, device=(4096, 0)), LimitExceeded, id="major number"),
            pytest.param(Node(BLK, device=(0, 1 << 20)), LimitExceeded, id="minor number"),
            pytest.param(Node(0o644), UnsupportedFeature, id="no type"),
            pytest.param(file(xattrs={b"user.x": bytes(5000)}), UnsupportedFeature, id="large attribute"),
            pytest.param(file(xattrs={b"user." + b"n" * 256: b""}), UnsupportedFeature, id="long attribute name"),
            pytest.param(file(xattrs={b"user.": b""}), UnsupportedFeature, id="empty attribute name"),
            pytest.param(file(xattrs={b"com.apple.quarantine": b""}), UnsupportedFeature, id="namespace"),
            pytest.param(file(xattrs={b"system.nfs4_acl": b""}), UnsupportedFeature, id="system attribute"),
            pytest.param(file(xattrs={ACCESS: b"junk"}), CorruptImage, id="ACL"),
        ],
    )
    def test_what_ext4_has_no_place_for(self, image: Path, node: Node, error: type[LarderError]) -> None:
        tree = Tree()
        tree.add(b"the/path", node)
        with pytest.raises(error, match="the/path"):
            write(tree, image)

    def test_a_root_that_ext4_has_no_place_for(self, image: Path) -> None:
        tree = Tree()
        tree.root.uid = 1 << 40
        with pytest.raises(LimitExceeded, match=str(1 << 40)):
            write(tree, image)

    def test_more_links_than_ext4_has(self, image: Path) -> None:
        tree = Tree()
        node = file()
        for number in range(65_001):
            tree.root.children[b"%d" % number] = node
        with pytest.raises(LimitExceeded, match="65000 links"):
            write(tree, image)
        del tree.root.children[b"0"]
        with mounted(write(tree, image)) as folder:
            assert (folder / "1").stat().st_nlink == 65_000

    def test_lost_and_found_that_is_a_file(self, image: Path) -> None:
        tree = Tree()
        tree.add(b"lost+found", file())
        with pytest.raises(UnsupportedFeature, match=r"lost\+found"):
            write(tree, image)

    @pytest.mark.parametrize("size", [0, 4095, MiB, 5 * MiB, 100 * MiB, 129 * MiB])
    def test_a_size_that_is_too_small_says_how_much_is_enough(self, image: Path, size: int) -> None:
        tree = Tree()
        for number in range(20):
            tree.add(b"%d" % number, file(b"\1" * 6 * MiB))
        for number in range(5000):
            tree.add(b"folder/%d" % number + b"n" * 200, file(b"small"))
        with pytest.raises(LimitExceeded, match="too small") as raised:
            write(tree, image, size)
        assert raised.value.hint
        enough = int(raised.value.hint.split()[0])
        assert enough < 190 * MiB
        write(tree, image, enough)

    def test_a_size_that_is_too_large(self, image: Path) -> None:
        with pytest.raises(LimitExceeded, match=str(16 * TiB - BLOCK)):
            write(Tree(), image, 16 * TiB)

    def test_data_that_is_not_there(self, image: Path, holed: Callable[..., tuple[Tree, Node]]) -> None:
        tree, node = holed(MiB, (0, b"x" * 1000))
        node.data = (Extent(0, 2000, node.data[0].source, 0),)  # type: ignore[union-attr]
        with tree, pytest.raises(CorruptImage, match="2000 bytes"):
            write(tree, image)
