from __future__ import annotations

import os
import stat
import struct
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.tar import read as tar_read
from recipes.formats.tar import sparse as tar_sparse
from recipes.formats.tree import posix_acl, tree
from tests.kit import tar_archives as make
from tests.kit.oracles import lack, need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recipes.formats.tree.tree import Node, Tree

    Load = Callable[[bytes], Tree]

KiB = 1024
MiB = 1 << 20
NS = 1_000_000_000


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """What the bytes of an archive are read as."""
    trees: list[Tree] = []

    def load(archive: bytes) -> Tree:
        path = tmp_path / "archive.tar"
        path.write_bytes(archive)
        trees.append(tar_read.load(path))
        return trees[-1]

    yield load
    for each in trees:
        each.__exit__()


def node(tree: Tree, path: bytes = b"file") -> Node:
    found = tree.find(path)
    assert found is not None
    return found


def content(node: Node) -> bytes:
    data = bytearray(node.size)
    for at, piece in node.chunks(MiB):
        data[at : at + len(piece)] = piece
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each, with times of whole seconds."""
    top = tmp_path_factory.mktemp("folder")
    (top / "directory" / "empty").mkdir(parents=True)
    (top / "directory" / "file").write_bytes(bytes(range(256)) * 99)
    (top / "none").touch(0o4755)
    (top / "back\\slash").write_bytes(b"1")
    (top / os.fsdecode(b"latin-\xf6")).write_bytes(b"2")
    (top / "schön-中").write_bytes(b"3")
    (top / ("n" * 120)).write_bytes(b"4")
    (top / ("p" * 90)).mkdir()
    (top / ("p" * 90) / ("n" * 90)).write_bytes(b"5")
    (top / "link").symlink_to("/directory/../none")
    (top / "long-link").symlink_to("x" * 300)
    (top / "another name").hardlink_to(top / "directory" / "file")
    os.mkfifo(top / "fifo")
    with (top / "sparse").open("wb") as file:
        for index in range(60):
            file.seek(index * 64 * KiB)
            file.write(b"%04d" % index * KiB)
        file.truncate(8 * MiB)
    (top / "hole").touch()
    os.truncate(top / "hole", MiB)
    if os.getuid() == 0:
        os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 300))
        os.chown(top / "directory", 1000, 100)
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(NS, 1_700_000_000 * NS), follow_symlinks=False)
    os.utime(top, ns=(NS, 1_700_000_000 * NS))
    return top


@pytest.mark.parametrize(
    "command",
    [
        "tar --format=gnu -cf",
        "tar --format=oldgnu -cf",
        "tar --format=oldgnu --sparse -cf",
        "tar --format=pax -cf",
        "tar --format=pax --sparse --sparse-version=0.0 -cf",
        "tar --format=pax --sparse --sparse-version=0.1 -cf",
        "tar --format=pax --sparse --sparse-version=1.0 -cf",
        "bsdtar --format=pax -cf",
        "bsdtar --format=gnutar -cf",
    ],
)
def test_what_archivers_write(command: str, folder: Path, tmp_path: Path) -> None:
    need(command.split()[0])
    archive = tmp_path / "archive.tar"
    environ = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run([*command.split(), archive, "."], cwd=folder, env=environ, capture_output=True, check=False)
    # bsdtar warns of a name that is not UTF-8, and writes it.
    assert b"another name" not in done.stderr
    with tar_read.load(archive) as tree:
        assert differences(of_tree(tree), of_folder(folder)) == []
        if "sparse" in command:
            assert sum(len(piece) for _, piece in node(tree, b"sparse").chunks(MiB)) < MiB


@pytest.mark.parametrize("command", ["tar --format=v7 -cf", "tar --format=ustar -cf", "bsdtar --format=ustar -cf"])
def test_what_archivers_write_of_short_names(command: str, folder: Path, tmp_path: Path) -> None:
    need(command.split()[0])
    archive = tmp_path / "archive.tar"
    subprocess.run([*command.split(), archive, "directory", "none", "link"], cwd=folder, check=True)
    found, expected = {}, of_folder(folder)
    with tar_read.load(archive) as tree:
        found = of_tree(tree)
    assert {*found} == {b"", b"directory", b"directory/empty", b"directory/file", b"none", b"link"}
    for path in found.keys() - {b"", b"directory/file"}:
        assert found[path] == expected[path]
    assert found[b"directory/file"].digest == expected[b"directory/file"].digest


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes(format: int, load: Load, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "python.tar", "w", format=format) as archive:
        info = tarfile.TarInfo("ä/" * 60 + "file")
        info.uid, info.mode, info.mtime = 65534, 0o6711, 12345
        archive.addfile(info)
    found = node(load((tmp_path / "python.tar").read_bytes()), "ä/".encode() * 60 + b"file")
    assert (found.uid, found.mode, found.mtime_ns) == (65534, stat.S_IFREG | 0o6711, 12345 * NS)


class TestHeader:
    def test_prefix_and_name(self, load: Load) -> None:
        assert node(load(make.header(b"n" * 100, prefix=b"p" * 155)), b"p" * 155 + b"/" + b"n" * 100).is_file

    @pytest.mark.parametrize("magic", [b"ustar  \0", bytes(8)], ids=["gnu", "v7"])
    def test_others_have_no_prefix(self, magic: bytes, load: Load) -> None:
        assert node(load(make.header(magic=magic, prefix=b"12345670123"))).is_file

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            (b"0001750\0", 1000),
            (b"   1750 ", 1000),
            (b"1750\0  x", 1000),
            (b"00001750", 1000),
            (bytes(8), 0),
            (b" " * 8, 0),
            (b"\x80\0\0\0\xff\xff\xff\xfe", 0xFFFFFFFE),
        ],
    )
    def test_numbers(self, field: bytes, expected: int, load: Load) -> None:
        assert node(load(make.header(uid=field))).uid == expected

    @pytest.mark.parametrize(
        "field", [b"0000008\0", b"0x1750\0 ", b"-000001\0", b"+00001\0\0", b"1_0\0\0\0\0\0", b"\x01" * 8]
    )
    def test_no_numbers(self, field: bytes, load: Load) -> None:
        with pytest.raises(CorruptImage, match=r"archive.tar: at byte 0 of 512: 'file': expected an octal number"):
            load(make.header(gid=field))

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            (make.octal(1, 12), NS),
            (b"\xff" * 12, -NS),
            (b"\xff" * 8 + struct.pack(">i", -(1 << 31)), -(1 << 31) * NS),
            (b"\xff" + bytes(11), -(1 << 31) * NS),
            (b"\x80" + b"\xff" * 11, ((1 << 34) - (1 << 31) - 1) * NS),
        ],
        ids=["octal", "before 1970", "first of ext4", "before ext4", "after ext4"],
    )
    def test_times(self, field: bytes, expected: int, load: Load) -> None:
        assert node(load(make.header(mtime=field))).mtime_ns == expected

    def test_signed_checksum(self, load: Load) -> None:
        assert node(load(make.header(b"f\xf6\xff", signed=True)), b"f\xf6\xff").is_file

    @pytest.mark.parametrize(
        ("kind", "name", "expected"),
        [
            (b"0", b"file", stat.S_IFREG),
            (b"\0", b"file", stat.S_IFREG),
            (b"7", b"file", stat.S_IFREG),
            (b"\0", b"file/", stat.S_IFDIR),
            (b"5", b"file", stat.S_IFDIR),
            (b"D", b"file", stat.S_IFDIR),
            (b"6", b"file", stat.S_IFIFO),
        ],
    )
    def test_types(self, kind: bytes, name: bytes, expected: int, load: Load) -> None:
        tree = load(
            make.header(name, kind, size=3 if kind in b"0\0D7" else 0)
            + (make.padded(b"abc") * (kind in b"0\0D7"))
            + make.header(b"next")
        )
        assert node(tree).type == expected
        assert node(tree, b"next").is_file
        assert not node(tree).is_file or content(node(tree)) == b"abc"

    def test_what_has_no_data_has_no_size(self, load: Load) -> None:
        tree = load(
            b"".join(make.header(b"m" + kind, kind, size=512, link=b"x") for kind in (b"5", b"2", b"3", b"4", b"6"))
        )
        assert [path for path, _ in tree.walk()] == [b"", b"m2", b"m3", b"m4", b"m5", b"m6"]
        assert {each.size for _, each in tree.walk()} == {0}

    def test_volume_labels_are_skipped(self, load: Load) -> None:
        assert [*load(make.header(b"backup of monday", b"V") + make.header()).root.children] == [b"file"]

    @pytest.mark.parametrize("kind", [b"M", b"N", b"A", b"Z", b"\xff"])
    def test_unknown_types_are_named(self, kind: bytes, load: Load) -> None:
        with pytest.raises(UnsupportedFeature, match="at byte 512 of 1024: members of the type ") as caught:
            load(make.header() + make.header(kind=kind))
        assert tree.show(kind) in caught.value.message


class TestEnd:
    @pytest.mark.parametrize(
        "end",
        [
            b"",
            bytes(512),
            bytes(1024),
            bytes(10240),
            bytes(1024) + b"garbage" * 200,
            bytes(1024) + make.file(b"", b"2"),
        ],
        ids=["none", "one block", "two blocks", "record", "garbage after it", "another archive after it"],
    )
    def test_end(self, end: bytes, load: Load) -> None:
        assert [*load(make.file(b"data") + end).root.children] == [b"file"]

    def test_an_archive_may_be_empty(self, load: Load) -> None:
        assert not load(b"").root.children

    @pytest.mark.parametrize(
        "archive",
        [
            make.header(size=1),
            make.header(size=513) + bytes(512),
            make.file(b"data") + make.header()[:-1],
            make.header(kind=b"L", size=600) + bytes(512),
            make.extended([(b"path", b"x")]),
            make.extended([(b"path", b"x")]) + make.END,
            make.long(b"x"),
            make.long(b"x", b"K") + make.END,
            make.old_sparse(MiB, [(0, 1)], b"", stored=1),
            make.old_sparse(MiB, [(0, 1)], b"", more=True),
        ],
    )
    def test_a_cut_archive_is_refused(self, archive: bytes, load: Load) -> None:
        with pytest.raises(CorruptImage, match="the archive is cut: expected"):
            load(archive)

    def test_one_block_of_zeros_is_no_end(self, load: Load) -> None:
        with pytest.raises(CorruptImage, match="one block of zeros"):
            load(make.file(b"data") + bytes(512) + make.file(b"", b"2"))

    def test_what_is_no_archive(self, load: Load) -> None:
        with pytest.raises(CorruptImage, match=r"at byte 0 of 2000: expected a tar header.*\n.*compressed"):
            load(b"\x1f\x8b\x08" + bytes(1997))

    def test_a_damaged_header_is_refused(self, load: Load) -> None:
        with pytest.raises(CorruptImage, match=r"at byte 512 of 1024: expected a tar header, found a checksum of"):
            load(make.header() + make.header(b"other").replace(b"other", b"owner"))


class TestRecords:
    def test_override_the_header(self, load: Load) -> None:
        records = [
            (b"path", b"sub/" + b"n" * 200),
            (b"uid", b"4000000000"),
            (b"gid", b"4000000001"),
            (b"mtime", b"1700000000.1234567899"),
            (b"size", b"3"),
            (b"comment", b"unknown records are ignored"),
            (b"hdrcharset", b"BINARY"),
        ]
        found = node(
            load(make.extended(records) + make.header(b"short", size=0) + make.padded(b"abc")), b"sub/" + b"n" * 200
        )
        assert (found.uid, found.gid, found.mtime_ns) == (4000000000, 4000000001, 1700000000 * NS + 123456789)
        assert content(found) == b"abc"

    def test_of_links(self, load: Load) -> None:
        target = b"t" * 200
        tree = load(
            make.extended([(b"path", target)]) + make.header()
            + make.extended([(b"linkpath", target)]) + make.header(b"hard", b"1", link=b"t")
            + make.extended([(b"linkpath", b"/" + target)], b"X") + make.header(b"soft", b"2", link=b"t")
        )  # fmt: skip
        assert node(tree, b"hard") is node(tree, target)
        assert node(tree, b"soft").target == b"/" + target

    @pytest.mark.parametrize(
        ("text", "expected"),
        [(b"5", 5 * NS), (b"-1.5", -NS - NS // 2), (b"5.", 5 * NS), (b"1.000000001", NS + 1), (b"0.0", 0)],
    )
    def test_times(self, text: bytes, expected: int, load: Load) -> None:
        assert node(load(make.extended([(b"mtime", text)]) + make.header(mtime=7))).mtime_ns == expected

    def test_an_empty_one_is_none(self, load: Load) -> None:
        assert node(load(make.extended([(b"path", b""), (b"mtime", b"")]) + make.header(mtime=7))).mtime_ns == 7 * NS

    def test_global_ones_last(self, load: Load) -> None:
        tree = load(
            make.extended([(b"uid", b"7"), (b"comment", b"abc")], b"g") + make.header(b"1", uid=1)
            + make.extended([(b"uid", b"8")]) + make.header(b"2")
            + make.extended([(b"uid", b"")]) + make.header(b"3", uid=3)
            + make.extended([(b"gid", b"9")], b"g") + make.header(b"4")
        )  # fmt: skip
        assert [(each.uid, each.gid) for _, each in tree.walk()][1:] == [(7, 0), (8, 0), (3, 0), (7, 9)]

    def test_long_names_and_links(self, load: Load) -> None:
        tree = load(make.long(b"n" * 200) + make.long(b"l" * 300, b"K") + make.header(kind=b"2") + make.header(b"next"))
        assert node(tree, b"n" * 200).target == b"l" * 300
        assert node(tree, b"next").is_file

    @pytest.mark.parametrize(
        "data",
        [
            b"x",
            b"6 a=b",
            b"7 a=b\n",
            b"5 a=b\n",
            b"4 a\n",
            b"4 =\n",
            b"0 a=b\n",
            b"-6 a=b\n",
            b"99999999999999 a=b\n",
            b"6 a=b\n\0",
            b"7 a\0=b\n",
            b"06 a=b\n9",
            b" 6 a=b\n",
        ],
    )
    def test_that_are_wrong(self, data: bytes, load: Load) -> None:
        with pytest.raises(CorruptImage, match="of an extended header"):
            load(make.extended(data) + make.header())

    @pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
    def test_that_are_too_long(self, kind: bytes, load: Load) -> None:
        with pytest.raises(LimitExceeded, match="an extended header of 1048577 bytes"):
            load(make.header(kind=kind, size=MiB + 1) + bytes(2 * MiB))

    @pytest.mark.parametrize(
        "record",
        [
            (b"mtime", b"yesterday"),
            (b"mtime", b"1e9"),
            (b"mtime", b"9" * 5000),
            (b"size", b"-1"),
            (b"size", b"1.5"),
            (b"size", b"9" * 5000),
            (b"uid", b"0x10"),
            (b"uid", b"4294967295"),
            (b"gid", b"-2"),
            (b"path", b"a\0b"),
        ],
    )
    def test_that_mean_nothing(self, record: tuple[bytes, bytes], load: Load) -> None:
        with pytest.raises(CorruptImage, match=r"archive\.tar: "):
            load(make.extended([record]) + make.header())


ACL = posix_acl.from_text("user::rw-,user:lisa:rw-:1001,group::r--,mask::rw-,other::---")


class TestAttributes:
    def read(self, load: Load, *records: tuple[bytes, bytes]) -> dict[bytes, bytes]:
        return node(load(make.extended(records) + make.header())).xattrs

    def test_of_star(self, load: Load) -> None:
        value = bytes(range(256))
        found = self.read(load, (b"SCHILY.xattr.security.capability", value), (b"SCHILY.xattr.user.empty", b""))
        assert found == {b"security.capability": value, b"user.empty": b""}

    def test_with_signs_that_end_a_key(self, load: Load) -> None:
        assert self.read(load, (b"SCHILY.xattr.user.a%3Db%25%2F", b"=")) == {b"user.a=b%%2F": b"="}

    def test_of_libarchive(self, load: Load) -> None:
        found = self.read(load, (b"LIBARCHIVE.xattr.user.a%3Db%20c", b"AAH/"), (b"LIBARCHIVE.xattr.user.x", b"AA"))
        assert found == {b"user.a=b c": b"\0\1\xff", b"user.x": b"\0"}

    def test_that_linux_does_not_have(self, load: Load) -> None:
        assert (
            self.read(load, (b"SCHILY.xattr.com.apple.provenance", b"x"), (b"SCHILY.xattr.system.nfs4_acl", b"x")) == {}
        )

    def test_lists_in_words(self, load: Load) -> None:
        words = b"user::rw-,user:lisa:rw-:1001,group::r--,mask::rw-,other::---"
        found = self.read(
            load, (b"SCHILY.acl.access", words), (b"SCHILY.acl.default", b"user::rw-,group::r--,other::---")
        )
        assert found[posix_acl.ACCESS] == ACL
        assert found[posix_acl.DEFAULT] == posix_acl.from_text("user::rw-,group::r--,other::---")

    def test_a_list_that_says_what_the_mode_says(self, load: Load) -> None:
        assert self.read(load, (b"SCHILY.acl.access", b"user::rw-,group::r--,other::---")) == {}

    def test_a_list_goes_before_the_mode(self, load: Load) -> None:
        record = (b"SCHILY.xattr.system.posix_acl_access", ACL)
        assert stat.S_IMODE(node(load(make.extended([record]) + make.header(mode=0o4755))).mode) == 0o4660

    def test_the_kernels_form_goes_first(self, load: Load) -> None:
        words = (b"SCHILY.acl.access", b"user::rw-,user:lisa:rw-,group::r--,mask::rw-,other::---")
        assert self.read(load, words, (b"SCHILY.xattr.system.posix_acl_access", ACL)) == {posix_acl.ACCESS: ACL}

    def test_names_without_numbers_are_refused(self, load: Load) -> None:
        with pytest.raises(UnsupportedFeature, match=r"'file': an access control list names 'user:lisa:rw-' without"):
            self.read(load, (b"SCHILY.acl.access", b"user::rw-,user:lisa:rw-,group::r--,mask::rw-,other::---"))

    @pytest.mark.parametrize(
        ("record", "error"),
        [
            ((b"SCHILY.xattr.user.x", bytes(65537)), LimitExceeded),
            ((b"SCHILY.xattr.user." + b"x" * 251, b""), LimitExceeded),
            ((b"LIBARCHIVE.xattr.user.%00", b""), CorruptImage),
            ((b"LIBARCHIVE.xattr.user.x", b"!!!!"), CorruptImage),
            ((b"LIBARCHIVE.xattr.user.x", b"A"), CorruptImage),
            ((b"SCHILY.xattr.system.posix_acl_access", b"\1\0\0\0"), CorruptImage),
            ((b"SCHILY.acl.default", b"\xff"), CorruptImage),
        ],
    )
    def test_that_are_refused(self, record: tuple[bytes, bytes], error: type[ImageError], load: Load) -> None:
        with pytest.raises(error, match=r"archive\.tar: at byte \d+ of \d+: 'file': "):
            self.read(load, record)

    @pytest.mark.parametrize(
        "command",
        ["tar --format=pax --xattrs --xattrs-include=* --acls -cf", "bsdtar --format=pax --xattrs --acls -cf"],
    )
    def test_as_archivers_write_them(self, command: str, tmp_path: Path) -> None:
        need(command.split()[0], "setfacl", "setcap")
        if os.getuid() != 0:
            lack("capabilities take root")
        folder = tmp_path / "folder"
        (folder / "sub").mkdir(parents=True)
        (folder / "file").write_bytes(b"data")
        os.setxattr(folder / "file", "user.any", bytes(range(256)))
        subprocess.run(["setcap", "cap_net_raw+ep", folder / "file"], check=True)
        subprocess.run(["setfacl", "-m", "u:12345:rw,g:4:r", folder / "file"], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:12345:rw", folder / "sub"], check=True)
        for path in (folder / "file", folder / "sub", folder):
            os.utime(path, (1, 1))
        subprocess.run([*command.split(), tmp_path / "archive.tar", "."], cwd=folder, check=True)
        with tar_read.load(tmp_path / "archive.tar") as tree:
            assert differences(of_tree(tree), of_folder(folder)) == []


class TestSparse:
    PAIRS = tuple((4096 * index, 3) for index in range(1, 60))
    DATA = b"".join(b"%03d" % index for index in range(1, 60))

    def same(self, found: Node) -> None:
        expected = bytearray(MiB)
        for index, (at, length) in enumerate(self.PAIRS):
            expected[at : at + length] = self.DATA[3 * index : 3 * index + 3]
        assert content(found) == bytes(expected)
        assert isinstance(found.data, tuple)
        assert [(extent.at, extent.length) for extent in found.data] == [*self.PAIRS]

    def test_old(self, load: Load) -> None:
        tree = load(make.old_sparse(MiB, [*self.PAIRS, (MiB, 0)], self.DATA) + make.header(b"next"))
        self.same(node(tree))
        assert node(tree, b"next").is_file

    def test_0_0(self, load: Load) -> None:
        records = [(b"GNU.sparse.size", b"%d" % MiB), (b"GNU.sparse.numblocks", b"59")]
        for at, length in self.PAIRS:
            records += [(b"GNU.sparse.offset", b"%d" % at), (b"GNU.sparse.numbytes", b"%d" % length)]
        self.same(node(load(make.extended(records) + make.file(self.DATA))))

    def test_0_1(self, load: Load) -> None:
        index = b",".join(b"%d,%d" % pair for pair in self.PAIRS)
        self.same(node(load(make.sparse_0_1(b"%d" % MiB, index, self.DATA))))

    def test_1_0(self, load: Load) -> None:
        index = b"59\n" + b"".join(b"%d\n%d\n" % pair for pair in self.PAIRS)
        self.same(node(load(make.sparse_1_0(b"%d" % MiB, index, self.DATA))))

    def test_a_hole_and_nothing_else(self, load: Load) -> None:
        for archive in (
            make.old_sparse(MiB, [], b""),
            make.sparse_0_1(b"%d" % MiB, b"", b""),
            make.sparse_1_0(b"%d" % MiB, b"0\n", b""),
        ):
            assert (node(load(archive)).size, node(load(archive)).data) == (MiB, ())

    @pytest.mark.parametrize(
        "archive",
        [
            make.old_sparse(100, [(0, 8), (4, 8)], bytes(16)),
            make.old_sparse(100, [(50, 8), (0, 8)], bytes(16)),
            make.old_sparse(100, [(93, 8)], bytes(8)),
            make.old_sparse(100, [(0, 8)], bytes(7)),
            make.old_sparse(100, [(0, 8)], bytes(9)),
            make.sparse_0_1(b"100", b"0,8,4,8", bytes(16)),
            make.sparse_0_1(b"100", b"0,8,9", bytes(8)),
            make.sparse_0_1(b"100", b"0,8,", bytes(8)),
            make.sparse_0_1(b"100", b"0,-8", bytes(8)),
            make.sparse_0_1(b"100", b"0,x", bytes(8)),
            make.sparse_0_1(b"-1", b"0,8", bytes(8)),
            make.sparse_1_0(b"100", b"1\n93\n8\n", bytes(8)),
            make.sparse_1_0(b"", b"1\n0\n8\n", bytes(8)),
            make.sparse_1_0(b"100", b"1\n0\n", b""),
            make.sparse_1_0(b"100", b"1\n0\n8", b"", stored=5),
            make.sparse_1_0(b"100", b"1\n0\n0\n", b"", stored=6),
            make.sparse_1_0(b"100", b"", b""),
            make.sparse_1_0(b"100", b"-1\n", b""),
            make.sparse_1_0(b"100", b"1\n\n\n\n", b""),
            make.sparse_1_0(b"100", b"9" * 600, b""),
            make.sparse_1_0(b"100", b"2\n0\n" + b"0" * 100_000, b""),
            make.extended([(b"GNU.sparse.numbytes", b"1"), (b"GNU.sparse.offset", b"1")]) + make.header(),
            make.extended([(b"GNU.sparse.size", b"9"), (b"GNU.sparse.offset", b"1")]) + make.header(),
        ],
    )  # fmt: skip
    def test_maps_that_are_wrong(self, archive: bytes, load: Load) -> None:
        with pytest.raises(CorruptImage, match=r"archive\.tar: at byte \d+"):
            load(archive)

    @pytest.mark.parametrize(
        "archive",
        [
            make.sparse_1_0(b"%d" % (1 << 60), b"0\n", b""),
            make.sparse_1_0(b"100", b"%d\n" % (1 << 40), b""),
            make.old_sparse((1 << 33) - 1, [], b"").replace(b"77777777777", b"\x80" + b"\xff" * 10),
        ],
        ids=["size", "pieces", "old size"],
    )
    def test_absurd_ones(self, archive: bytes, load: Load) -> None:
        if archive[156:157] == b"S":
            archive = make.summed(bytearray(archive[:512])) + archive[512:]
        with pytest.raises(LimitExceeded, match=r"archive\.tar: at byte"):
            load(archive)

    def test_a_bomb_of_pieces(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tar_sparse, "MAX_PIECES", 9)
        one = make.sparse_0_1(b"100", b"0,1,9,1,20,1,30,1", b"data")
        assert node(load(one * 2)).size == 100
        with pytest.raises(LimitExceeded, match="sparse files of 12 pieces, and 9 are allowed"):
            load(one * 3)

    def test_later_versions_are_named(self, load: Load) -> None:
        with pytest.raises(UnsupportedFeature, match="sparse files of GNU's version '2'"):
            load(make.extended([(b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")]) + make.header())


class TestExtraction:
    def test_the_last_of_two_counts(self, load: Load) -> None:
        assert content(node(load(make.file(b"first") + make.file(b"second")))) == b"second"

    def test_absolute_names_lose_the_slash(self, load: Load) -> None:
        tree = load(make.header(b"/etc/passwd") + make.header(b"hard", b"1", link=b"/etc/passwd"))
        assert node(tree, b"hard") is node(tree, b"etc/passwd")

    @pytest.mark.parametrize(
        ("archive", "message"),
        [
            (make.header(b"../x"), r"'\.\./x' leaves the root"),
            (make.header(b"a/../../x"), "leaves the root"),
            (make.header(b"x", b"1", link=b"../etc/passwd"), "'../etc/passwd' leaves the root"),
            (make.header(b"x", b"1", link=b"missing"), "'x' is a hard link to 'missing', which is not there"),
            (make.header(b"x", b"1", link=b""), "hard link to the directory"),
            (make.header() + make.header(b"file/x"), "expected its parent 'file' to be a directory"),
            (make.long(b"n" * 256) + make.header(), "a name has at most 255 bytes"),
            (make.long(b"n/" * 2049) + make.header(), "a path has at most 4096 bytes"),
            (make.header(b"./"), None),
            (make.header(b"x", b"2", link=b""), "expected a symbolic link of 1 to 4095 bytes"),
            (make.long(b"t" * 4096, b"K") + make.header(b"x", b"2"), "expected a symbolic link"),
            (make.extended([(b"linkpath", b"a\0b")]) + make.header(b"x", b"2"), "expected a symbolic link"),
            (make.header(b"x", b"3", device=(4096, 0)), "expected a device of Linux"),
            (make.header(b"x", b"4", device=(b"\xff" * 8, 0)), "expected a device of Linux"),
            (make.header(size=b"\xff" * 12), "expected a size, found -1"),
            (make.header(size=b"\x80" + b"\xff" * 11), "the archive is cut"),
            (make.header(uid=b"\xff" * 8), "expected a user and a group"),
        ],
    )
    def test_hostile(self, archive: bytes, message: str | None, load: Load) -> None:
        if message is None:
            assert load(archive).root.is_dir
            return
        with pytest.raises(CorruptImage, match=rf"archive\.tar: .*{message}"):
            load(archive)

    def test_symbolic_links_are_text(self, load: Load) -> None:
        assert node(load(make.header(b"x", b"2", link=b"../../../etc/shadow")), b"x").target == b"../../../etc/shadow"

    def test_a_bomb_of_names(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tree, "MAX_NAMES", 9)
        with pytest.raises(LimitExceeded, match=r"archive\.tar: more than 9 files"):
            load(b"".join(make.header(b"%d" % index) for index in range(10)))

    def test_nothing_stays_open_after_an_error(self, load: Load, tmp_path: Path) -> None:
        before = len(os.listdir("/dev/fd"))  # noqa: PTH208
        with pytest.raises(CorruptImage):
            load(make.header(b"../x"))
        assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


SAMPLE = b"".join(
    [
        make.extended([(b"path", b"dir/"), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.x", b"y")]),
        make.header(b"d", b"5"),
        make.file(b"data", b"dir/file"),
        make.header(b"hard", b"1", link=b"dir/file"),
        make.old_sparse(9999, [(512, 512), (2048, 1), (3000, 1), (4000, 1), (5000, 1)], bytes(516)),
        make.sparse_1_0(b"9999", b"2\n512\n512\n4096\n1\n", bytes(513)),
        make.sparse_0_1(b"9999", b"512,3", b"abc"),
        make.long(b"long/name"),
        make.header(b"short", b"2", link=b"target"),
        make.END,
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.binary(min_size=1, max_size=12)), max_size=4),
    cut=st.integers(0, 2 * len(SAMPLE)),
)
def test_damage_is_an_error_or_another_archive(changes: list[tuple[int, bytes]], cut: int, tmp_path: Path) -> None:
    archive = bytearray(SAMPLE)
    for at, data in changes:
        archive[at : at + len(data)] = data
    # With the right checksums, so that what is behind them is reached.
    for at in range(0, len(SAMPLE), 512):
        if SAMPLE[at + 257 : at + 262] == b"ustar":
            archive[at : at + 512] = make.summed(archive[at : at + 512])
    path = tmp_path / "archive.tar"
    path.write_bytes(archive[:cut])
    try:
        with tar_read.load(path) as tree:
            for _, each in tree.walk():
                for _ in each.chunks(MiB):
                    pass
    except ImageError as error:
        assert str(path) in error.message  # noqa: PT017
