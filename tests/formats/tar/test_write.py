from __future__ import annotations

import os
import random
import stat
import subprocess
import tarfile
import tempfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.io import bounds
from recipes.formats.io.source import FileSource
from recipes.formats.io.sparse import CHUNK, allocated
from recipes.formats.tar import read as tar_read
from recipes.formats.tar import write as tar_write
from recipes.formats.tree import posix_acl
from recipes.formats.tree.tree import Extent, Node, Tree
from recipes.progress import SILENT_METER
from tests.kit import tar_archives as make
from tests.kit.oracles import lack, need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

KiB = 1024
MiB = 1 << 20
NS = 1_000_000_000

DIRECTORY, FILE, SYMLINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
ACL = posix_acl.from_text("user::rw-,user:1001:rw-,group::r--,mask::rw-,other::---")
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
SCHÖN = "schön-中".encode()
LATIN = b"sch\xf6n"


class Sink:
    """What was written, and in which pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: memoryview) -> None:
        self.pieces.append(bytes(data))

    @property
    def archive(self) -> bytes:
        return b"".join(self.pieces)


class Counter:
    """A meter that adds up."""

    def __init__(self) -> None:
        self.done, self.total = 0, -1

    def advance(self, count: int) -> None:
        self.done += count

    def expect(self, total: int | None) -> None:
        assert total is not None
        self.total = total


def archive_of(tree: Tree, *, sparse: bool = True) -> bytes:
    sink = Sink()
    assert tar_write.write(tree, sink, sparse=sparse, meter=SILENT_METER) == len(sink.archive)
    return sink.archive


@pytest.fixture
def tree() -> Iterator[Tree]:
    """One of each kind that there is, and what their headers cannot hold."""
    with Tree() as tree:
        tree.root = Node(stat.S_IFDIR | 0o750, 1, 2, 3 * NS + 5)
        rng = random.Random(7)
        file = tree.keep(tempfile.TemporaryFile())  # noqa: SIM115 - the tree closes it
        data = rng.randbytes(3 * MiB)
        file.write(data)
        file.flush()

        def add(path: bytes, mode: int = FILE, **rest: object) -> Node:
            return tree.add(path, Node(mode, mtime_ns=rng.randrange(1 << 33) * NS, **rest))  # type: ignore[arg-type]

        def extent(at: int, length: int) -> Extent:
            return Extent(at, length, FileSource(file.fileno(), "file"), rng.randrange(len(data) - length))

        add(b"bin", SYMLINK, target=b"usr/bin")
        add(b"usr/bin", stat.S_IFDIR | 0o1777, uid=5)
        add(
            b"usr/bin/ping",
            stat.S_IFREG | 0o4755,
            size=999,
            data=(extent(0, 999),),
            xattrs={b"security.capability": CAPABILITY},
        )
        add(b"usr/none", uid=(1 << 21) - 1, gid=(1 << 21) - 1)
        add(b"usr/large ids", uid=1 << 21, gid=0xFFFFFFFE)
        add(b"usr/own data", size=7, data=b"content")
        add(b"usr/large", size=2 * MiB, data=(extent(0, MiB), extent(MiB, MiB)))
        add(b"usr/zwei", size=5, data=b"hello")
        tree.link(b"usr/alias", b"usr/zwei")
        tree.link(b"aaa", b"usr/zwei")
        add(
            b"usr/lists",
            mode=stat.S_IFREG | 0o660,
            xattrs={posix_acl.ACCESS: ACL, b"user.a=b%3D": bytes(range(256)), b"user.none": b""},
        )
        add(b"usr/lists.d", DIRECTORY, xattrs={posix_acl.DEFAULT: ACL})
        add(b"dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
        add(b"dev/disk", stat.S_IFBLK | 0o660, device=(4095, (1 << 20) - 1))
        add(b"dev/fifo", stat.S_IFIFO | 0o600)
        add(b"sub-second").mtime_ns = 1_700_000_000 * NS + 120_000_000
        add(b"before").mtime_ns = -NS
        add(b"long before").mtime_ns = -(1 << 31) * NS
        add(b"late").mtime_ns = ((1 << 34) - (1 << 31) - 1) * NS
        add(b"back\\slash\n")
        add(SCHÖN + b"/" + LATIN)
        add(LATIN, SYMLINK, target=SCHÖN)
        for name in (
            b"n" * 100,
            b"m" * 101,
            b"d" * 155 + b"/" + b"n" * 100,
            b"e" * 156 + b"/n",
            b"f/" * 100 + b"n" * 255,
        ):
            add(b"long/" + name, size=1, data=b"1")
        add(b"long/" + b"d" * 95, DIRECTORY)
        add(b"long/" + SCHÖN * 20)
        add(b"long/" + LATIN * 40, SYMLINK, target=LATIN * 40)
        add(b"long/link", SYMLINK, target=b"x" * 4095)
        tree.link(b"long/zz", b"long/" + b"m" * 101)
        add(b"holes", size=8 * MiB, data=tuple(extent(64 * KiB * index, 4 * KiB) for index in range(1, 100)))
        add(SCHÖN + b"/holes", size=MiB, data=(extent(0, 4 * KiB), extent(4 * KiB, 1), extent(MiB - 1, 1)))
        add(b"hole", size=MiB)
        add(b"half", size=MiB, data=b"only the beginning")
        yield tree


class TestRoundTrip:
    def test_as_it_was(self, tree: Tree, tmp_path: Path) -> None:
        path = tmp_path / "archive.tar"
        path.write_bytes(archive_of(tree))
        with tar_read.load(path) as again:
            assert differences(of_tree(again), of_tree(tree)) == []
            assert archive_of(again) == path.read_bytes()
            for name in (b"holes", SCHÖN + b"/holes", b"hole", b"half"):
                assert sum(len(piece) for _, piece in again.find(name).chunks(MiB)) < 512 * KiB  # type: ignore[union-attr,misc]

    def test_with_holes_written_out(self, tree: Tree, tmp_path: Path) -> None:
        path = tmp_path / "archive.tar"
        path.write_bytes(archive_of(tree, sparse=False))
        assert b"GNU.sparse" not in path.read_bytes()
        with tar_read.load(path) as again:
            assert differences(of_tree(again), of_tree(tree)) == []

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_of_any_file(self, data: st.DataObject) -> None:
        times = st.integers(-(1 << 31) * NS, ((1 << 34) - (1 << 31) - 1) * NS)
        names = st.lists(
            st.binary(max_size=80).map(lambda name: b"_" + name.replace(b"/", b"_").replace(b"\0", b"_")),
            min_size=1, max_size=5,
        )  # fmt: skip
        ids = st.integers(0, 0xFFFFFFFE)
        lengths = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 2000)), max_size=6)
        with ExitStack() as files:
            tree = files.enter_context(Tree())
            file = tree.keep(tempfile.TemporaryFile())  # noqa: SIM115 - the tree closes it
            file.write(random.Random(1).randbytes(2000))
            file.flush()
            for path in data.draw(st.lists(names.map(b"/".join), max_size=6)):
                size, extents = 0, []
                for hole, length in data.draw(lengths):
                    extents.append(Extent(size + hole, length, FileSource(file.fileno(), "file"), 2000 - length))
                    size += hole + length
                node = Node(
                    FILE,
                    data.draw(ids),
                    data.draw(ids),
                    data.draw(times),
                    size + data.draw(st.sampled_from([0, 99])),
                    tuple(extents),
                )
                try:
                    tree.add(path, node)
                except CorruptImage:
                    continue
            archive = files.enter_context(tempfile.NamedTemporaryFile())
            archive.write(archive_of(tree))
            archive.flush()
            again = files.enter_context(tar_read.load(Path(archive.name)))
            assert differences(of_tree(again), of_tree(tree)) == []
            assert archive_of(again) == archive_of(tree)


class TestCanonical:
    def test_to_the_byte(self) -> None:
        tree = Tree()
        tree.add(b"b/two", Node(SYMLINK, target=b"one"))
        tree.add(b"b", Node(DIRECTORY, 1000, 100, 77 * NS))
        tree.add(b"b/one", Node(FILE, mtime_ns=78 * NS, size=3, data=b"abc"))
        tree.link(b"a", b"b/one")
        tree.add(b"c", Node(stat.S_IFCHR | 0o666, mtime_ns=NS // 2, device=(1, 3)))

        def header(name: bytes, kind: bytes, mode: int, **fields: object) -> bytes:
            block = bytearray(make.header(name, kind, mode=mode, **fields))  # type: ignore[arg-type]
            # Names of users mean nothing on another machine.
            block[265:329] = bytes(64)
            return make.summed(block)

        record = b"13 mtime=0.5\n"
        assert archive_of(tree) == b"".join(
            [
                header(b"./", b"5", 0o755),
                header(b"a", b"0", 0o644, mtime=78, size=3) + make.padded(b"abc"),
                header(b"b/", b"5", 0o755, uid=1000, gid=100, mtime=77),
                header(b"b/one", b"1", 0o644, mtime=78, link=b"a"),
                header(b"b/two", b"2", 0o777, link=b"one"),
                header(b"PaxHeaders.0/c", b"x", 0o644, size=13) + make.padded(record),
                header(b"c", b"3", 0o666, device=(1, 3)),
                bytes(1024),
            ]
        )

    def test_where_the_bytes_are_makes_no_difference(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(b"helloXworld")
        with (tmp_path / "data").open("rb") as file:
            one, other = Tree(), Tree()
            one.add(b"file", Node(FILE, size=99, data=b"helloworld"))
            pieces = (
                Extent(0, 5, FileSource(file.fileno(), "file"), 0),
                Extent(5, 5, FileSource(file.fileno(), "file"), 6),
            )
            other.add(b"file", Node(FILE, size=99, data=pieces))
            assert archive_of(one) == archive_of(other)
            assert archive_of(one, sparse=False) == archive_of(other, sparse=False)

    def test_every_name_of_a_file_has_its_metadata(self, tree: Tree) -> None:
        tree.link(b"aa", b"usr/bin/ping")
        with tarfile.open(fileobj=BytesIO(archive_of(tree))) as archive:
            link = archive.getmember("usr/bin/ping")
        assert (link.islnk(), link.linkname, link.mode) == (True, "aa", 0o4755)
        assert "SCHILY.xattr.security.capability" in link.pax_headers

    def test_sockets_are_left_out(self) -> None:
        tree = Tree()
        tree.add(b"socket", Node(stat.S_IFSOCK | 0o755))
        assert archive_of(tree) == archive_of(Tree())


class TestPieces:
    def test_are_large(self, tree: Tree) -> None:
        for index in range(5000):
            tree.add(b"small/%d" % index, Node(FILE, size=9, data=b"some data"))
        sink = Sink()
        tar_write.write(tree, sink, meter=SILENT_METER)
        assert {len(piece) for piece in sink.pieces[:-1]} == {CHUNK}
        assert 0 < len(sink.pieces[-1]) <= CHUNK

    @pytest.mark.parametrize("sparse", [True, False])
    def test_the_meter_is_told_the_data(self, tree: Tree, sparse: bool) -> None:
        meter = Counter()
        tar_write.write(tree, Sink(), sparse=sparse, meter=meter)
        data = {id(node): sum(len(piece) for _, piece in node.chunks(MiB)) for _, node in tree.walk()}
        assert meter.done == meter.total == sum(data.values())


def test_holes_that_reading_would_refuse_are_written_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_write, "MAX_PIECES", 99)
    with tarfile.open(fileobj=BytesIO(archive_of(tree))) as archive:
        assert {member.name for member in archive if member.issparse()} == {"half", "hole", "schön-中/holes"}


class TestRefused:
    def test_data_that_is_gone(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(b"12345")
        tree = Tree()
        with (tmp_path / "data").open("rb") as file:
            tree.add(b"some/file", Node(FILE, size=9, data=(Extent(0, 9, FileSource(file.fileno(), "file"), 0),)))
            with pytest.raises(CorruptImage, match=r"'some/file': expected 9 bytes of data at 0, found 5"):
                archive_of(tree)

    def test_more_attributes_than_can_be_read(self) -> None:
        tree = Tree()
        tree.add(b"file", Node(FILE, xattrs={b"user.%d" % index: bytes(65536) for index in range(16)}))
        with pytest.raises(LimitExceeded, match=r"'file': 1049\d+ bytes of attributes"):
            archive_of(tree)

    def test_what_no_path_leads_to(self) -> None:
        tree = Tree()
        tree.add(b"d/" * 2000 + b"link", Node(SYMLINK, target=b"."))
        tree.add(b"s", Node(SYMLINK, target=b"d/" * 2000))
        tree.add(b"s/" + b"e/" * 2000 + b"file", Node(FILE))
        with pytest.raises(LimitExceeded, match="a path has fewer than 4096 bytes"):
            archive_of(tree)


class TestOtherReaders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        if os.getuid() != 0:
            lack("devices and owners take root")
        (tmp_path / "folder").mkdir()
        return tmp_path / "folder"

    @pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
    @pytest.mark.parametrize("sparse", [True, False])
    def test_gnu_tar(self, tree: Tree, folder: Path, locale: str, sparse: bool) -> None:
        need("tar")
        (folder.parent / "archive.tar").write_bytes(archive_of(tree, sparse=sparse))
        self.extract("tar --xattrs --xattrs-include=* --acls --numeric-owner -xpf ../archive.tar", folder, locale)
        self.same(tree, folder, sparse)

    @pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
    @pytest.mark.parametrize("sparse", [True, False])
    def test_bsdtar_as_wsl_runs_it(self, tree: Tree, folder: Path, locale: str, sparse: bool) -> None:
        need("bsdtar")
        # libarchive takes the names of attributes as they are, GNU tar's signs for "=" and "%" included.
        del tree.find(b"usr/lists").xattrs[b"user.a=b%3D"]  # type: ignore[union-attr]
        (folder.parent / "archive.tar").write_bytes(archive_of(tree, sparse=sparse))
        done = self.extract(f"bsdtar -C {folder} -x -p --xattrs --numeric-owner -f ../archive.tar", folder, locale)
        assert done.stderr == b""
        # It leaves the time of the folder that it is in.
        os.utime(folder, ns=(0, tree.root.mtime_ns))
        self.same(tree, folder, sparse)

    def extract(self, command: str, folder: Path, locale: str) -> subprocess.CompletedProcess[bytes]:
        environ = {**os.environ, "LC_ALL": locale}
        return subprocess.run(command.split(), cwd=folder, env=environ, check=True, capture_output=True)

    def same(self, tree: Tree, folder: Path, sparse: bool) -> None:
        assert differences(of_folder(folder), of_tree(tree)) == []
        if sparse:
            assert allocated(folder / "holes") < MiB
            assert allocated(folder / "hole") == 0

    def test_python(self, tree: Tree) -> None:
        with tarfile.open(fileobj=BytesIO(archive_of(tree))) as archive:
            found = {os.fsencode(member.name): member for member in archive}
        assert {b"" if path == b"." else path for path in found} == {path for path, _ in tree.walk()}
        for path, node in tree.walk():
            member = found[path or b"."]
            assert member.uid == node.uid
            assert member.mode == stat.S_IMODE(node.mode)
            assert member.islnk() or member.size == node.size
            assert abs(member.mtime * NS - node.mtime_ns) < NS


@pytest.mark.parametrize("sparse", [True, False])
def test_holes_that_are_written_out_are_limited(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that reading would refuse, a small archive may claim terabytes."""
    monkeypatch.setattr(tar_write, "MAX_PIECES", 3)
    monkeypatch.setattr(bounds, "FREE_CONTENT", MiB)
    monkeypatch.setattr(bounds, "EXPANSION", 10)
    tree = Tree()
    for index in range(9):
        tree.add(b"%d" % index, Node(FILE, size=1 << 20, data=b"data"))
    with pytest.raises(LimitExceeded, match="holes"):
        archive_of(tree, sparse=sparse)
    small = Tree()
    for index in range(9):
        small.add(b"%d" % index, Node(FILE, size=100_000, data=b"data"))
    with tarfile.open(fileobj=BytesIO(archive_of(small, sparse=sparse))) as archive:
        assert len(archive.getmembers()) == 10
