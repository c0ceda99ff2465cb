"""btrfs, as inputs that are small and whose checksums are right: otherwise they would hide all that is behind them.

An input is the pages of a file system that hold anything, each with its number in front: a disk of hundreds of MiB
would be nothing to hand around. Nodes and sectors have a page, so each is changed, and has its checksum mended, alone.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import google_crc32c

# Also so that the reader, which larder imports where it is needed, is watched when coverage leads.
from recipes.formats.fs.btrfs.layout import NODE, SUPERBLOCK_OFFSET
from recipes.formats.io.sparse import data_units

from .mutate import Spot, damage, grow
from .target import Target, made

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_PAGE = 4096
_NUMBER = struct.Struct("<I")
_RECORD = _NUMBER.size + _PAGE
_SUPERBLOCK = SUPERBLOCK_OFFSET // _PAGE
#: Pages of the largest disk that an input may make: sparse, but not without end.
_MOST = 1 << 18
#: Trees: of roots, of chunks, the top level, of checksums.
_READ = (1, 3, 5, 7)


def pages(image: Path) -> bytes:
    """Return the input that stands for the file system in `image`."""
    found = []
    with image.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for start, stop in data_units(file.fileno(), size, _PAGE):
            for at in range(start, stop, _PAGE):
                page = os.pread(file.fileno(), _PAGE, at)
                if page.count(0) != _PAGE:
                    found.append(_NUMBER.pack(at // _PAGE) + page)
    # The last page is there, or the disk would be too small.
    if not found[-1].startswith(_NUMBER.pack(size // _PAGE - 1)):
        found.append(_NUMBER.pack(size // _PAGE - 1) + bytes(_PAGE))
    return b"".join(found)


def expand(data: bytes, image: Path) -> None:
    """Write the file system that an input stands for."""
    with image.open("wb") as file:
        for at in range(0, len(data), _RECORD):
            (number,) = _NUMBER.unpack(data[at : at + _NUMBER.size].ljust(_NUMBER.size, b"\0"))
            os.pwrite(file.fileno(), data[at + _NUMBER.size : at + _RECORD], number % _MOST * _PAGE)


def _fill(folder: Path) -> None:
    """Put something of everything into the folder, which is on a btrfs if Linux lets us."""
    (folder / "etc").mkdir()
    (folder / "etc/os-release").write_text("ID=hostile\n")
    for size in (0, 60, 2000, 5000, 150_000):
        (folder / f"file-{size}").write_bytes(bytes(range(250)) * (size // 250))
    for number in range(60):
        (folder / "etc" / f"{number}-{'n' * number}").touch()
    for name, target in (("short", "etc"), ("long", "0123456789/" * 20), ("up", "../../../../etc/passwd")):
        (folder / name).symlink_to(target)
    os.link(folder / "file-5000", folder / "link")
    with (folder / "holes").open("wb") as file:
        os.pwrite(file.fileno(), b"end", 300_000)


def _with_linux(image: Path, folder: Path, option: str) -> None:
    """Fill the file system as the kernel does: with compression, snapshots, attributes, references into extents."""
    folder.mkdir(exist_ok=True)
    made("mount", "-o", f"loop,compress-force={option}", image, folder)
    try:
        made("btrfs", "subvolume", "create", folder / "root")
        made("btrfs", "subvolume", "create", folder / "root/inner")
        _fill(folder / "root")
        os.setxattr(folder / "root/etc", "user.name", b"value" * 100)
        os.mknod(folder / "root/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with (folder / "root/allotted").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 100_000)
        os.sync()
        made("btrfs", "subvolume", "snapshot", folder / "root", folder / "snapshot")
        with (folder / "root/file-150000").open("r+b") as file:
            os.pwrite(file.fileno(), b"written again" * 400, 50_000)
    finally:
        made("umount", folder)


def _seeds(folder: Path) -> list[bytes]:
    found = []
    source, image, mounted = folder / "source", folder / "image", folder / "mounted"
    source.mkdir()
    _fill(source)
    for words in (("--rootdir", source), ("--mixed", "-d", "single", "--rootdir", source)):
        image.write_bytes(b"")
        os.truncate(image, 128 << 20)
        made("mkfs.btrfs", "-q", "-f", "-n", "4096", "-m", "single", *words, image)
        found.append(pages(image))
    for option in ("zstd", "zlib", "lzo") if os.getuid() == 0 else ():
        image.write_bytes(b"")
        os.truncate(image, 128 << 20)
        made("mkfs.btrfs", "-q", "-f", "-n", "4096", "-m", "single", image)
        try:
            _with_linux(image, mounted, option)
        except AssertionError:
            # Not every machine mounts loop devices; then the kernel's own are left out.
            break
        found.append(pages(image))
    return found


def _is_node(page: bytes, fsid: bytes) -> bool:
    """Say whether this is a node of a tree that is read: of the root, chunks, files, checksums."""
    (owner,) = struct.unpack_from("<Q", page, 88)
    return page[32:48] == fsid and any(page[48:56]) and (owner in _READ or owner >= 256)


def _damage(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    """Change the pages of an input, those of metadata above all, and mend their checksums."""
    # libFuzzer cuts them off anywhere.
    records = [bytearray(data[at : at + _RECORD].ljust(_RECORD, b"\0")) for at in range(0, len(data), _RECORD)]
    numbers = [_NUMBER.unpack_from(record)[0] for record in records]
    supers = [index for index, number in enumerate(numbers) if number == _SUPERBLOCK]
    fsid = bytes(records[supers[0]][_NUMBER.size + 32 : _NUMBER.size + 48]) if supers else b""
    nodes = [index for index, record in enumerate(records) if _is_node(bytes(record[_NUMBER.size :]), fsid)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(12)
        if kind == 0 or not nodes:
            index = rng.randrange(len(records))
            records[index] = bytearray(damage(rng, bytes(records[index]), others))[:_RECORD].ljust(_RECORD, b"\0")
        elif kind == 1 and supers:
            spots = [Spot(_NUMBER.size + at, 8, "little") for at in (*range(48, 200, 8), *range(811, 950, 8))]
            _change(rng, records, supers[0], spots)
        elif kind == 2:
            # What belongs elsewhere, with the address of here.
            one, other = rng.choice(nodes), rng.choice(nodes)
            address = records[one][_NUMBER.size + 48 : _NUMBER.size + 56]
            records[one][_NUMBER.size :] = records[other][_NUMBER.size :]
            records[one][_NUMBER.size + 48 : _NUMBER.size + 56] = address
        else:
            index = rng.choice(nodes)
            _change(rng, records, index, _spots(rng, bytes(records[index][_NUMBER.size :])))
    for index in (*supers, *nodes):
        page = bytes(records[index][_NUMBER.size :])
        records[index][_NUMBER.size : _NUMBER.size + 4] = google_crc32c.value(page[32:]).to_bytes(4, "little")
    return b"".join(records)


def _grow(rng: Random, data: bytes) -> bytes:
    """Repeat something in one page, and mend its checksum."""
    at = rng.randrange(-(-len(data) // _RECORD)) * _RECORD
    number, page = data[at : at + _NUMBER.size], data[at + _NUMBER.size : at + _RECORD]
    page = grow(rng, page)[:_PAGE].ljust(_PAGE, b"\0")
    checksum: int = google_crc32c.value(page[32:])
    page = checksum.to_bytes(4, "little") + page[4:]
    return data[:at] + number.ljust(_NUMBER.size, b"\0") + page + data[at + _RECORD :]


def _change(rng: Random, records: list[bytearray], index: int, spots: list[Spot]) -> None:
    changed = damage(rng, bytes(records[index]), [bytes(each) for each in records[:4]], spots)
    # A page stays a page.
    records[index][_NUMBER.size :] = changed[_NUMBER.size : _RECORD].ljust(_PAGE, b"\0")


def _spots(rng: Random, page: bytes) -> list[Spot]:
    """Return the numbers of a node: of its header, its keys, and what is behind these."""
    (count,) = struct.unpack_from("<I", page, 96)
    at = _NUMBER.size
    spots = [
        Spot(at + 48, 8, "little"),
        Spot(at + 80, 8, "little"),
        Spot(at + 96, 4, "little"),
        Spot(at + 100, 1, "little"),
    ]
    size = 33 if page[100] else 25
    for index in rng.sample(range(count), min(count, 8)) if 0 < count < 200 else []:
        item = NODE.size + index * size
        spots += [Spot(at + item, 8, "little"), Spot(at + item + 8, 1, "little"), Spot(at + item + 9, 8, "little")]
        spots += [Spot(at + item + 17, 4, "little"), Spot(at + item + 21, 4, "little")]
        if size == 25 and item + size <= len(page):
            offset, length = struct.unpack_from("<II", page, item + 17)
            body = NODE.size + offset
            if body + length <= len(page):
                places = range(at + body, at + body + min(length, 240), 4)
                spots += [Spot(place, rng.choice((1, 2, 4, 8)), "little") for place in places]
    return [spot for spot in spots if spot.offset + spot.size <= _RECORD]


def target(read: Callable[[Path, Path], object]) -> Target:
    """Return the target that hands the file system to `read`, which writes to the second path."""

    def whole(path: Path, out: Path) -> None:
        image = path.with_name("expanded")
        try:
            expand(path.read_bytes(), image)
            read(image, out)
        finally:
            image.unlink()

    return Target("btrfs", _seeds, _damage, whole, None, ("mkfs.btrfs", "btrfs", "mount"), _grow)
