"""What is rare: other tools' file systems, sectors of other sizes, long lists, states that only a kernel makes."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from recipes.formats.fs import btrfs
from recipes.formats.fs.btrfs.layout import SUPERBLOCK_OFFSET, Incompat, Superblock
from recipes.formats.io.source import FileSource, Window, read_exact
from recipes.formats.tree.tree import Extent, Tree
from tests.kit.btrfs_images import (
    KiB,
    MiB,
    agrees_with_the_kernel,
    facts,
    kernel_facts,
    make,
    mounted,
    noise,
    patch_superblock,
    populate_extents,
    reflink,
    sync,
    text,
)
from tests.kit.ext4_images import ACL, populate, tool
from tests.kit.ext4_images import make as make_ext4
from tests.kit.ext4_images import mounted as mounted_ext4
from tests.kit.oracles import lack, need
from tests.kit.trees import of_folder

if TYPE_CHECKING:
    from pathlib import Path

#: _IOWR(0x94, 40, struct btrfs_ioctl_quota_ctl_args), and its command for simple quota.
_QUOTA_CTL, _SIMPLE = 0xC0109428, 4


def superblock(image: Path) -> Superblock:
    with image.open("rb") as file:
        return Superblock.unpack(os.pread(file.fileno(), 4096, SUPERBLOCK_OFFSET))


def test_metadata_uuid(tmp_path: Path) -> None:
    need("btrfstune")
    image = tmp_path / "image"
    make(image)
    tool("btrfstune", "-m", str(image))
    with mounted(image) as folder:
        populate_extents(folder)
    assert superblock(image).incompat & Incompat.METADATA_UUID
    agrees_with_the_kernel(image)


def test_trees_that_a_reader_does_not_need(tmp_path: Path) -> None:
    # A block-group tree (8), which mkfs.btrfs makes since 6.19, and whatever else says that it is for writers only.
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        populate_extents(folder)
    expected = kernel_facts(image)
    patch_superblock(image, 180, (0xFFFFFFFF).to_bytes(8, "little"))
    assert facts(image) == expected


def test_simple_quota(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        fd = os.open(folder, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _QUOTA_CTL, struct.pack("<QQ", _SIMPLE, 0))
        except OSError as error:
            lack(f"this kernel knows no simple quota: {error}")
        finally:
            os.close(fd)
        populate_extents(folder)
    assert superblock(image).incompat & Incompat.SIMPLE_QUOTA
    agrees_with_the_kernel(image)


def test_converted_from_ext4(tmp_path: Path) -> None:
    need("btrfs-convert")
    image = tmp_path / "image"
    make_ext4(image, 256 * MiB, "-t", "ext4")
    with mounted_ext4(image) as folder:
        populate(folder)
    tool("btrfs-convert", str(image))
    found = agrees_with_the_kernel(image)
    assert b"ext2_saved/image" in found


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_large_sectors(tmp_path: Path, size: int) -> None:
    # Linux mounts no sectors that are larger than its pages, nor all that are smaller: mkfs.btrfs is the oracle.
    need("mkfs.btrfs")
    source, image = tmp_path / "source", tmp_path / "image"
    (source / "folder").mkdir(parents=True)
    for number in range(300):
        (source / f"folder/{number}-{'n' * (number % 200)}").symlink_to("x" * (number + 1))
    (source / "large").write_bytes(noise(3 * MiB + 5))
    (source / "small").write_bytes(noise(3000))
    (source / "tiny").write_bytes(b"tiny")
    make(image, "-s", str(size * KiB), "-n", "65536", "--rootdir", str(source))
    assert superblock(image).sector_size == size * KiB
    found, expected = facts(image), of_folder(source)
    assert found.keys() == expected.keys()
    for path, each in found.items():
        wanted = expected[path]
        assert (each.digest, each.target, each.mode) == (wanted.digest, wanted.target, wanted.mode)


def test_relocated(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, "-m", "single", size=400 * MiB)
    with mounted(image, "compress-force=zstd") as folder:
        populate_extents(folder)
        sync(folder)
        tool("btrfs", "balance", "start", "--full-balance", str(folder))
        tool("btrfs", "filesystem", "resize", "300M", str(folder))
    os.truncate(image, 300 * MiB)
    agrees_with_the_kernel(image)


def test_hundred_thousand_names(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        (folder / "many").mkdir()
        for number in range(100_000):
            os.mknod(folder / f"many/{number}")
    with image.open("rb") as file, Tree() as tree:
        system = btrfs.open(FileSource(file.fileno(), "the image"))
        system.fill(tree)
        many = tree.find(b"many")
        assert many is not None
        assert many.children.keys() == {b"%d" % number for number in range(100_000)}
        assert system.exists(b"many/99999")
        assert not system.exists(b"many/100000")


def test_more_hard_links_than_one_item_holds(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        (folder / "file").write_text("linked")
        for number in range(400):
            os.link(folder / "file", folder / f"{number}-{'l' * 200}")
    with image.open("rb") as file:
        # INODE_EXTREF was needed, or the test shows nothing.
        assert superblock(image).incompat & Incompat.EXTENDED_IREF
        tree = btrfs.open(FileSource(file.fileno(), "the image")).subvolumes.tree(5)
        assert [item for item in tree.items() if item.key[1] == 13]
    assert agrees_with_the_kernel(image)[b"file"].links == 401


def test_attributes_of_every_size(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, "-n", "65536")
    with mounted(image) as folder:
        for number, size in enumerate((0, 1, 1000, 5000, 16_000, 50_000)):
            (folder / f"{number}").touch()
            os.setxattr(folder / f"{number}", "user.value", b"v" * size)
            os.setxattr(folder / f"{number}", "trusted.overlay.opaque", b"y")
        (folder / "many").touch()
        for number in range(500):
            os.setxattr(folder / "many", f"user.{number}", b"%d" % number)
        (folder / "d").mkdir()
        os.setxattr(folder / "d", "system.posix_acl_default", ACL)
        os.setxattr(folder / "d", "system.posix_acl_access", ACL)
        os.setxattr(folder / "d", "btrfs.compression", b"zstd")
        (folder / "d/inherits").write_bytes(text(100_000))
    found = agrees_with_the_kernel(image)
    assert len(found[b"many"].xattrs) == 500


def test_names_and_attributes_with_one_hash(tmp_path: Path) -> None:
    # Two names with the CRC-32C that btrfs hashes names by; the four bytes at the end make up for the beginning.
    one, other = b"collision-a", b"collision-b" + b""
    image = tmp_path / "image"
    make(image)
    names = [one, _collision(one, b"another-")]
    with mounted(image) as folder:
        for name in names:
            (folder / os.fsdecode(name)).write_bytes(name)
    with image.open("rb") as file:
        system = btrfs.open(FileSource(file.fileno(), "the image"))
        bodies = [item.body for item in system.subvolumes.tree(5).items() if item.key[:2] == (256, 84)]
        assert [body for body in bodies if all(name in body for name in names)]
        assert all(system.exists(name) for name in names)
        assert not system.exists(other)
    agrees_with_the_kernel(image)


def _collision(name: bytes, prefix: bytes) -> bytes:
    """Return another name that begins with `prefix` and has the same hash as `name`, found by birthday."""
    from google_crc32c import extend

    # Four bytes decide about a CRC of four bytes: solve for them bit by bit, it is linear.
    wanted = extend(1, name)
    size = 6
    base = prefix + b"@" * size
    # Letters differ from @ in their lower bits, so that no combination is a slash or NUL.
    columns = []
    for index in range(len(prefix), len(prefix) + size):
        for bit in (1, 2, 4, 8, 16, 32):
            changed = bytearray(base)
            changed[index] ^= bit
            columns.append((extend(1, bytes(changed)) ^ extend(1, base), index, bit))
    chosen = _solve([column for column, _, _ in columns], wanted ^ extend(1, base))
    result = bytearray(base)
    for number in chosen:
        result[columns[number][1]] ^= columns[number][2]
    assert extend(1, bytes(result)) == wanted
    assert b"/" not in result
    assert b"\0" not in result
    return bytes(result)


def _solve(columns: list[int], wanted: int) -> list[int]:
    """Return which of `columns` have the exclusive or `wanted` (Gauss, over bits)."""
    basis: dict[int, tuple[int, int]] = {}
    for number, value in enumerate(columns):
        used = 1 << number
        while value:
            top = value.bit_length()
            if top not in basis:
                basis[top] = value, used
                break
            value, used = value ^ basis[top][0], used ^ basis[top][1]
    used = 0
    while wanted:
        value, each = basis[wanted.bit_length()]
        wanted, used = wanted ^ value, used ^ each
    return [number for number in range(len(columns)) if used >> number & 1]


def test_deleted_and_still_open(tmp_path: Path) -> None:
    image, frozen = tmp_path / "image", tmp_path / "copy"
    make(image)
    with mounted(image) as folder, (folder / "open").open("wb") as file:
        file.write(noise(100_000))
        file.flush()
        (folder / "other").touch()
        (folder / "open").unlink()
        sync(folder)
        shutil.copyfile(image, frozen)
    assert facts(frozen).keys() == {b"", b"other"}


def test_a_file_that_is_nothing_but_a_hole(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        (folder / "huge").touch()
        os.truncate(folder / "huge", (1 << 62) + 1)
    with image.open("rb") as file, Tree() as tree:
        btrfs.open(FileSource(file.fileno(), "the image")).fill(tree)
        node = tree.find(b"huge")
        assert node is not None
        assert (node.size, node.data) == ((1 << 62) + 1, ())


def test_every_piece_of_an_extent_can_be_read(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    data = text(128 * KiB)
    with mounted(image, "compress-force=zstd") as folder:
        (folder / "file").write_bytes(data)
        (folder / "noise").write_bytes(noise(100_000))
        sync(folder)
        reflink(folder / "file", folder / "part", at=40 * KiB, length=8 * KiB)
    shifted = tmp_path / "shifted"
    with image.open("rb") as whole, shifted.open("wb") as file:
        file.seek(512)
        shutil.copyfileobj(whole, file)
    with shifted.open("rb") as file, Tree() as tree:
        source = Window(FileSource(file.fileno(), "the image"), 512, image.stat().st_size, "the partition")
        btrfs.open(source).fill(tree)
        for name, expected in ((b"part", data[40 * KiB : 48 * KiB]), (b"noise", noise(100_000))):
            node = tree.find(name)
            assert node is not None
            (extent,) = node.data
            assert isinstance(extent, Extent)
            for at, length in ((0, 1), (1, 4096), (4095, 2), (8191, 1), (0, extent.length)):
                piece = read_exact(extent.source, extent.offset + at, length)
                assert piece == expected[at : at + length], (name, at, length)


def test_a_mount_of_the_root_is_what_the_root_shows(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    with mounted(image) as folder:
        populate(folder, names=10)
        (folder / "etc").mkdir()
        (folder / "etc/os-release").touch()
    assert facts(image, None) == kernel_facts(image)
