"""The reader against Linux: what a mount shows is what we read. The log is in test_log.py, damage in test_damage.py."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.fs import xfs
from recipes.formats.fs.xfs import extents
from recipes.formats.io.source import read_exact
from recipes.formats.tree.tree import Extent, Tree
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder
from tests.kit.xfs_images import (
    SMALL,
    agrees_with_the_kernel,
    facts,
    kernel_facts,
    make,
    mended,
    mounted,
    opened,
    populate,
    reflink,
    tool,
    with_parent_pointers,
    xfs_db,
)

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20

VARIANTS: dict[str, tuple[str, ...]] = {
    "as made today": (),
    "1 KiB": ("-b", "size=1024"),
    "1 KiB, directories of 4": ("-b", "size=1024", "-n", "size=4096"),
    "2 KiB, directories of 16": ("-b", "size=2048", "-n", "size=16384"),
    "directories of 64 KiB": ("-n", "size=65536"),
    "64 KiB": ("-b", "size=65536"),
    "inodes of 1 KiB": ("-i", "size=1024"),
    "inodes of 2 KiB, 16 KiB": ("-i", "size=2048", "-b", "size=16384"),
    "many extents": ("-i", "nrext64=1"),
    "times of 32 bits": ("-m", "bigtime=0,inobtcount=0"),
    "neither reflinks nor sparse inodes": ("-m", "reflink=0,finobt=0", "-i", "sparse=0"),
    "reverse mappings": ("-m", "rmapbt=1"),
    "sectors of 4 KiB": ("-s", "size=4096"),
    "stripes": ("-d", "su=64k,sw=2", "-l", "su=32k"),
    "many groups": ("-d", "agcount=9"),
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_variant(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = make(tmp_path / "image", 160 * MiB, *options)
    with mounted(image) as folder:
        populate(folder)
        if "reflink=0,finobt=0" not in options:
            reflink(folder)
    agrees_with_the_kernel(image)


def test_parent_pointers(tmp_path: Path) -> None:
    image = with_parent_pointers(make(tmp_path / "image", 80 * MiB, "-l", "size=8m"))
    with mounted(image) as folder:
        populate(folder)
    agrees_with_the_kernel(image)


def test_inode_numbers_of_more_than_32_bits(tmp_path: Path) -> None:
    image = make(tmp_path / "image", 6 << 40, "-l", "size=64m")
    with mounted(image) as folder:
        for number in range(12):
            (folder / f"{number}/inner").mkdir(parents=True)
            (folder / f"{number}/inner/file").write_text("text")
            os.link(folder / f"{number}/inner/file", folder / f"{number}/link")
        assert max(each.lstat().st_ino for each in folder.iterdir()) >> 32
    agrees_with_the_kernel(image)


def test_a_hundred_thousand_names(tmp_path: Path) -> None:
    image = make(tmp_path / "image", 160 * MiB)
    names = [f"{number:06}-{'n' * (number % 30)}".encode() for number in range(100_000)]
    with mounted(image) as folder:
        (folder / "many").mkdir()
        files = [folder / "many" / f"file-{number}" for number in range(3)]
        for file in files:
            file.touch()
        many = os.open(folder / "many", os.O_RDONLY)
        for number, name in enumerate(names):
            os.link(files[number % 3], name, dst_dir_fd=many)
        for name in names[::7]:
            os.unlink(name, dir_fd=many)
        expected = {os.fsencode(each.name) for each in (folder / "many").iterdir()}
        os.close(many)
    with opened(image) as source, Tree() as tree:
        xfs.open(source).fill(tree)
        many_node = tree.root.children[b"many"]
        assert set(many_node.children) == expected
        assert len({id(node) for node in many_node.children.values()}) == 3


def test_deep_trees_and_a_grown_file_system(tmp_path: Path) -> None:
    need("xfs_growfs")
    image = make(tmp_path / "image", 32 * MiB)
    os.truncate(image, 80 * MiB)
    with mounted(image) as folder:
        tool("xfs_growfs", str(folder))
        inner = folder / "/".join(["0123456789"] * 300)
        inner.mkdir(parents=True)
        (inner / "file").write_text("deep")
    agrees_with_the_kernel(image)


def test_a_tree_of_extents_that_is_deep(tmp_path: Path) -> None:
    image = make(tmp_path / "image", 64 * MiB, "-b", "size=1024")
    with mounted(image) as folder, (folder / "file").open("wb") as file:
        for number in range(4000):
            os.pwrite(file.fileno(), b"%d" % number, number * 2048)
        (folder / "xattrs").touch()
        # A fork of attributes that is a tree as well: the blocks in between are taken.
        for number in range(400):
            os.setxattr(folder / "xattrs", f"user.{number}", b"x" * 3000)
            os.pwrite(file.fileno(), b"x", (10_000 + 2 * number) * 1024)
        inode = os.fstat(file.fileno()).st_ino
    assert "bmbt.level = 2" in xfs_db(image, f"inode {inode}", "print")
    agrees_with_the_kernel(image)


# Version 4, which this machine's kernel need not mount: mkfs.xfs and xfs_db are the oracles.

V4 = {
    "as made": (),
    "512 bytes": ("-b", "size=512"),
    "1 KiB, directories of 8": ("-b", "size=1024", "-n", "size=8192"),
    "no types in directories": ("-n", "ftype=0"),
    "attributes of version 1": ("-i", "attr=1"),
    "inodes of 512 bytes": ("-i", "size=512"),
    "names of any case": ("-n", "version=ci"),
}


@pytest.mark.parametrize("options", V4.values(), ids=V4)
def test_version_4(tmp_path: Path, options: tuple[str, ...]) -> None:
    source, prototype = tmp_path / "source", tmp_path / "prototype"
    (source / "folder/many").mkdir(parents=True)
    for size in (0, 1, 5000, 300_000):
        (source / f"folder/{size}").write_bytes(os.urandom(size))
    for number in range(700):
        (source / f"folder/many/{number}-{'n' * (number % 100)}").touch()
    for size in (1, 100, 155, 157, 300, 513, 1000):
        (source / f"link-{size}").symlink_to("s" * size)
    os.mkfifo(source / "fifo")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    prototype.write_text(f"/dev/null\n0 0\n{listed(source)}$\n")
    image = make(tmp_path / "image", 64 * MiB, "-m", "crc=0,finobt=0", *options, populated=prototype)
    found = facts(image)
    expected = of_folder(source)
    assert found.keys() == expected.keys()
    for path, each in found.items():
        other = expected[path]
        same = (each.mode, each.digest, each.target, each.device, each.size)
        assert same == (other.mode, other.digest, other.target, other.device, other.size), path


def listed(folder: Path) -> str:
    """Return a prototype's lines for the folder and what is in it."""
    lines = ["d--755 0 0"]
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        permissions = f"{stat.S_IMODE(mode):03o} 0 0"
        if stat.S_ISDIR(mode):
            path.chmod(0o755)
            lines.append(f"{path.name} {listed(path)}$")
        elif stat.S_ISLNK(mode):
            lines.append(f"{path.name} l--{permissions} {path.readlink()}")
        elif stat.S_ISFIFO(mode):
            lines.append(f"{path.name} p--{permissions}")
        elif stat.S_ISCHR(mode):
            lines.append(f"{path.name} c--{permissions} 1 3")
        else:
            lines.append(f"{path.name} ---{permissions} {path}")
    folder.chmod(0o755)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("count", [2, 20, 300])
@pytest.mark.parametrize("crc", ["crc=0,finobt=0", "crc=1"])
def test_attributes_that_xfs_db_makes(tmp_path: Path, crc: str, count: int) -> None:
    prototype = tmp_path / "prototype"
    prototype.write_text("/dev/null\n0 0\nd--755 0 0\nfile ---644 0 0 /dev/null\n$\n")
    image = make(tmp_path / "image", 64 * MiB, "-m", crc, "-b", "size=1024", populated=prototype)
    (root,) = (int(line.split()[-1]) for line in xfs_db(image, "sb 0", "print rootino").splitlines())
    # The next two are the realtime device's.
    requests = [f"inode {root + 3}"]
    expected = {}
    for number in range(count):
        space, prefix = (("-u", "user"), ("-r", "trusted"), ("-s", "security"))[number % 3]
        length = 1 + ((number * 331) % 4000 if number % 5 == 0 else number % 90)
        name = f"name-{number}"
        requests.append(f"attr_set {space} -v {length} {name}")
        expected[f"{prefix}.{name}".encode()] = length
    xfs_db(image, *requests)
    found = dict(facts(image)[b"file"].xattrs)
    assert {name: len(value) for name, value in found.items()} == expected


# What is not in a comparison.


def test_data_stays_where_it_is(tmp_path: Path) -> None:
    image = make(tmp_path / "image", SMALL)
    with mounted(image) as folder:
        (folder / "file").write_bytes(b"d" * 100_000)
        with (folder / "ahead").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, MiB)
            file.write(b"begin")
            os.fsync(file.fileno())
    with opened(image) as source, Tree() as tree:
        xfs.open(source).fill(tree)
        (extent,) = tree.root.children[b"file"].data
        assert isinstance(extent, Extent)
        assert (extent.at, extent.length, extent.source) == (0, 100_000, source)
        assert read_exact(source, extent.offset, 100_000) == b"d" * 100_000
        # What was never written is a hole.
        ahead = tree.root.children[b"ahead"]
        assert ahead.size == MiB
        assert sum(piece.length for piece in ahead.data if isinstance(piece, Extent)) == 4096


def test_a_file_of_more_than_any_disk(tmp_path: Path) -> None:
    image = make(tmp_path / "image", SMALL)
    size = (1 << 63) - 1
    with mounted(image) as folder, (folder / "file").open("wb") as file:
        os.truncate(file.fileno(), size)
        os.pwrite(file.fileno(), b"end", size - 3)
    with opened(image) as source, Tree() as tree:
        xfs.open(source).fill(tree)
        node = tree.root.children[b"file"]
        ((at, piece),) = node.chunks(MiB)
        assert (node.size, at + len(piece), piece[-3:]) == (size, size, b"end")


def test_exists_follows_symbolic_links(tmp_path: Path) -> None:
    image = make(tmp_path / "image", SMALL)
    with mounted(image) as folder:
        for name in ("etc", "usr/lib"):
            (folder / name).mkdir(parents=True)
        (folder / "usr/lib/os-release").write_text("ID=rocky\n")
        (folder / "etc/os-release").symlink_to("../usr/lib/os-release")
        (folder / "etc/dangling").symlink_to("nothing")
        (folder / "etc/self").symlink_to("self")
        (folder / "lib").symlink_to("/usr/" + "lib/../" * 20 + "lib")
    with opened(image) as source:
        fs = xfs.open(source)
        there = {b"", b"etc/os-release", b"lib/os-release", b"usr/lib"}
        gone = {b"etc/dangling", b"etc/self", b"nothing", b"usr/lib/os-release/x", b"etc/self/x"}
        assert {path for path in there | gone if fs.exists(path)} == there


# What is refused, by name.


@pytest.mark.parametrize(
    ("bits", "name"), [(0x200, "the feature zoned "), (0x80000000, "the feature 0x80000000 "), (0x10, "needs repair")]
)
def test_features_that_are_not_read_are_named(tmp_path: Path, bits: int, name: str) -> None:
    image = make(tmp_path / "image", SMALL)
    with pytest.raises(UnsupportedFeature, match=name):
        facts(mended(image, {216: struct.pack(">I", 0xB | bits)}))


def test_a_log_on_another_device_is_refused(tmp_path: Path) -> None:
    image = make(tmp_path / "image", SMALL)
    with pytest.raises(UnsupportedFeature, match="its log on another device"):
        facts(mended(image, {48: bytes(8)}))


@pytest.mark.parametrize(("versionnum", "match"), [(0xB0B3, "version 3"), (0x90B4, "directories of version 1")])
def test_versions_that_nobody_mounts(tmp_path: Path, versionnum: int, match: str) -> None:
    image = make(tmp_path / "image", SMALL, "-m", "crc=0,finobt=0")
    with pytest.raises(UnsupportedFeature, match=match):
        facts(mended(image, {100: struct.pack(">H", versionnum)}))


def test_a_file_on_a_realtime_device_is_refused(tmp_path: Path) -> None:
    image = make(tmp_path / "image", SMALL)
    with mounted(image) as folder:
        (folder / "file").write_text("text")
        number = (folder / "file").stat().st_ino
    xfs_db(image, f"inode {number}", "write core.realtime 1")
    with pytest.raises(UnsupportedFeature, match=f"files on a realtime device .inode {number}"):
        facts(image)


def test_what_files_share_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make(tmp_path / "image", SMALL)
    with mounted(image) as folder:
        (folder / "file").write_bytes(bytes(range(250)) * 4000)
        for number in range(20):
            tool("cp", "--reflink=always", str(folder / "file"), str(folder / f"again-{number}"))
    assert differences(facts(image), kernel_facts(image)) == []
    monkeypatch.setattr(extents, "MAX_SHARING", 1)
    with pytest.raises(LimitExceeded, match="more than 1 times as many blocks as there are"):
        facts(image)
