"""Tar archives, read for what they hold: headers are parsed, data is skipped and known by where it is.

Read are v7, ustar and PAX archives (POSIX.1-2017, pax), and what GNU tar, star, Solaris and libarchive add: long names,
sparse files in all four forms, numbers in base 256, extended attributes and access control lists. Names are bytes.

Where the formats leave room, this is decided:

* Only regular files have data. What a header says of the size of a link, a directory or a device is ignored, as GNU tar
  and Go do.
* Two blocks of zeros end an archive, and what follows is ignored; so does the end of the file at a member's border,
  as for every tar. One block of zeros and then something else is damage.
* Times outside what ext4 holds become the nearest that it does, as when Linux extracts the archive to one.
* Volume labels are skipped; a directory of GNU's incremental archives is a directory. Continued volumes and types that
  are not known are refused: leaving out what might be a file is no better than damage.
"""

from __future__ import annotations

import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.io.bounds import NAME_WEIGHT, PIECE_WEIGHT
from recipes.formats.io.source import FileSource, read
from recipes.formats.tree import posix_acl
from recipes.formats.tree.tree import PATH_MAX, Extent, Node, Tree, show, split
from recipes.progress import SILENT_METER

from . import header as tar_header
from . import pax
from . import sparse as tar_sparse
from .header import BLOCK, FIELDS, MAX_EXTENDED, number, padding, parse_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from recipes.formats.io.source import Source
    from recipes.progress import Meter

#: Bytes of the largest file: what ext4 holds in blocks of 4 KiB.
MAX_FILE_SIZE = 1 << 44

#: Bytes that are read at once where a header is. Most files of a system are small, so several headers are in it.
_WINDOW = 16 * 1024

#: What a byte of an extended header weighs, and a byte of a path, by what they take longest.
_EXTENDED_WEIGHT, _PATH_WEIGHT = 16, 4

_ZEROS = bytes(BLOCK)
_NS = 1_000_000_000
#: The times that ext4 holds: 34 bits of seconds, from 1901 on (Documentation/filesystems/ext4/inodes.rst). The kernel
#: keeps no nanoseconds of the last one.
_FIRST_TIME = -(1 << 31) * _NS
_LAST_TIME = ((1 << 34) - (1 << 31) - 1) * _NS
#: The largest user or group: the next one means "no change" to chown(2).
_MAX_ID = 0xFFFFFFFE
#: Bits of Linux's device numbers (linux/kdev_t.h).
_MAJOR_BITS, _MINOR_BITS = 12, 20

_FILES = frozenset({b"0", b"\0", b"7"})
_DIRECTORY, _DUMP, _SPARSE, _LABEL = b"5", b"D", b"S", b"V"
_SYMLINK, _LINK = b"2", b"1"
_DEVICES = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK}
_FIFO = b"6"
_EXTENDED = frozenset({b"x", b"X"})
_GLOBAL, _LONG_NAME, _LONG_LINK = b"g", b"L", b"K"
_WITH_DATA = _FILES | _EXTENDED | {_SPARSE, _DUMP, _LABEL, _GLOBAL, _LONG_NAME, _LONG_LINK}
_WITHOUT_DATA = frozenset({_DIRECTORY, _SYMLINK, _LINK, _FIFO, *_DEVICES})

#: What a global header may say of the members after it; anything else means nothing there.
_GLOBAL_KEYS = frozenset({b"uid", b"gid", b"mtime"})

#: Names that a message shows of what is there instead.
_SHOWN = 5

_DAMAGED = "the archive is damaged: fetch it again, and tell upstream if its digest is the published one"


class Member(NamedTuple):
    """What one header says."""

    #: The name as it is in the archive, with nothing resolved; a directory's may end with a slash.
    path: bytes
    #: None for a hard link.
    node: Node | None
    #: Of a hard link: the name of the member that it is a link to, as it is in the archive.
    link: bytes


def load(path: Path, *, stored: int | None = None, strip: bytes = b"", meter: Meter = SILENT_METER) -> Tree:
    """Return what extracting the uncompressed archive at `path` gives; the tree keeps the file open.

    `stored` are the bytes that it was made of, where it was compressed. Where `strip` names a folder in it, that is the
    root, and what is outside is not there. `meter` is told that it goes on, see `Tree.told`.

    Errors: as `members`, `below` and `extend`; OSErrors pass.
    """
    with ExitStack() as undo:
        size = path.stat().st_size
        tree = undo.enter_context(Tree(size if stored is None else stored))
        file = tree.keep(path.open("rb", buffering=0))
        found = members(FileSource(file.fileno(), str(path), size), spend=tree.spend)
        with tree.told(meter):
            extend(tree, below(found, strip, str(path)) if strip else found, str(path))
        undo.pop_all()
    return tree


def below(members: Iterable[Member], folder: bytes, name: str) -> Iterator[Member]:
    """Yield those of `members` that are in `folder`, by their names in it; errors call the archive `name`.

    Symbolic links stay as they are: those that begin with a slash are meant from the new root on.

    Errors: `UnsupportedFeature` where nothing is in the folder; `CorruptImage` for a hard link to what is not in it.
    """
    root = split(folder)
    outside: dict[bytes, None] = {}
    found = False
    for path, node, link in members:
        try:
            parts, target = split(path), split(link)
            if parts[: len(root)] != root:
                if len(outside) < _SHOWN:
                    outside[b"/".join(parts[: len(root)])] = None
                continue
            if node is None and target[: len(root)] != root:
                raise CorruptImage(f"{show(path)} is a hard link to {show(link)}, which is outside of {show(folder)}")
        except ImageError as error:
            raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
        found = True
        yield Member(b"/".join(parts[len(root) :]), node, b"/".join(target[len(root) :]) if node is None else b"")
    if not found:
        there = ", ".join(map(show, outside)) or "nothing"
        raise UnsupportedFeature(
            f"{name}: expected a folder {show(folder)}, found {there}", hint="strip names the folder that is the root"
        )


def extend(tree: Tree, members: Iterable[Member], name: str) -> None:
    """Put `members` into `tree` as extracting them does, one after the other; errors call the archive `name`.

    Errors: those of `Tree.add` and `Tree.link`.
    """
    for path, node, link in members:
        try:
            if node is None:
                tree.link(path, link)
            else:
                tree.add(path, node)
        except ImageError as error:
            raise type(error)(f"{name}: {error.message}", hint=error.hint) from error


def members(source: Source, *, spend: Callable[[int], None]) -> Iterator[Member]:
    """Yield the members of the archive `source`, in their order.

    The data of files stays in it. Names and links are not judged here: `Tree` knows what leaves the root. `spend` is
    told the weight of all metadata, before much of it is read. Memory is a few times the largest extended header, and a
    member's map of holes.

    Errors, which say where in the archive they are: `CorruptImage`; `LimitExceeded` for extended
    headers, files, maps and attributes that are too large; `UnsupportedFeature` for other types of members.
    """
    archive = _Archive(source, spend)
    while True:
        try:
            member = archive.next()
        except ImageError as error:
            where = f"{source.name}: at byte {archive.at} of {source.size}"
            if archive.path:
                where += f": {show(archive.path)}"
            raise type(error)(f"{where}: {error.message}", hint=error.hint) from error
        if member is None:
            return
        yield member


class _Archive:
    """Where reading an archive has come to."""

    def __init__(self, source: Source, spend: Callable[[int], None]) -> None:
        self._source = source
        self._spend = spend
        self._stop = source.size
        self._window = b""
        self._window_at = 0
        self._next = 0
        self._globals: dict[bytes, bytes] = {}
        #: Of sparse files.
        self._pieces = 0
        #: For messages: the first byte of the header that is being read, and the member's name once it is known.
        self.at = 0
        self.path = b""

    def next(self) -> Member | None:
        """Return the next member, None at the end."""
        records: dict[bytes, bytes] = {}
        long_name = long_link = b""
        self.path = b""
        while True:
            block = self._header()
            if block is None:
                if records or long_name or long_link:
                    raise _truncated("a member after an extended header")
                return None
            fields = FIELDS.unpack(block)
            kind = fields[7]
            data = self._next
            stored = self._stored(kind, fields[4], records)
            self._next = data + stored + padding(stored)
            self._expect_data(data, stored)
            if kind in _EXTENDED:
                records = pax.parse(self._extended(data, stored))
            elif kind == _GLOBAL:
                found = pax.parse(self._extended(data, stored))
                self._globals |= {key: value for key, value in found.items() if key in _GLOBAL_KEYS}
            elif kind == _LONG_NAME:
                long_name = self._extended(data, stored).partition(b"\0")[0]
            elif kind == _LONG_LINK:
                long_link = self._extended(data, stored).partition(b"\0")[0]
            elif kind == _LABEL:
                records, long_name, long_link = {}, b"", b""
            else:
                return self._member(block, fields, records, long_name, long_link, data, stored)

    def _header(self) -> bytes | None:
        """Return the next header, or None at the end; what follows it is next then."""
        block = self._block()
        if block == _ZEROS:
            if self._next < self._stop and self._block() != _ZEROS:
                raise CorruptImage("one block of zeros, where the end of an archive has two", hint=_DAMAGED)
            return None
        if block is None:
            return None
        expected = parse_number(block[tar_header.CHECKSUM])
        if expected != tar_header.checksum(block) and expected != tar_header.signed_checksum(block):
            raise CorruptImage(
                f"expected a tar header, found a checksum of {tar_header.checksum(block)} that should be {expected}",
                hint=_DAMAGED if self.at else "this is no tar archive, or it is compressed",
            )
        return block

    def _block(self) -> bytes | None:
        """Return the block that is next, None at the end of the file."""
        at = self.at = self._next
        start = at - self._window_at
        if start + BLOCK > len(self._window):
            if at >= self._stop:
                return None
            self._window = read(self._source, at, _WINDOW)
            self._window_at, start = at, 0
            if len(self._window) < BLOCK:
                raise _truncated(f"a header of {BLOCK} bytes")
        self._next = at + BLOCK
        return self._window[start : start + BLOCK]

    def _stored(self, kind: bytes, field: bytes, records: dict[bytes, bytes]) -> int:
        """Return the bytes of data that follow a header."""
        if kind in _WITHOUT_DATA:
            return 0
        if kind not in _WITH_DATA:
            raise UnsupportedFeature(
                f"members of the type {show(kind)} are not supported",
                hint="continued volumes have to be joined first" if kind == b"M" else None,
            )
        value = records.get(b"size")
        size = pax.number(value, "size") if value else parse_number(field)
        if size < 0:
            raise CorruptImage(f"expected a size, found {size}")
        return size

    def _extended(self, at: int, size: int) -> bytes:
        """Return the data of a header that says something of the next one."""
        if size > MAX_EXTENDED:
            raise LimitExceeded(f"an extended header of {size} bytes, and {MAX_EXTENDED} are allowed")
        self._spend(_EXTENDED_WEIGHT * size)
        return self._read(at, size)

    def _read(self, at: int, size: int) -> bytes:
        start = at - self._window_at
        data = self._window[start : start + size]
        if len(data) < size <= self._stop - at:
            data = read(self._source, at, size)
        if len(data) < size:
            raise _truncated(f"{size} bytes at byte {at}")
        return data

    def _member(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        records: dict[bytes, bytes],
        long_name: bytes,
        long_link: bytes,
        data: int,
        stored: int,
    ) -> Member:
        name, mode, uid, gid, _, mtime, _, kind, link, magic, _, _, major, minor, prefix = fields
        path = name.partition(b"\0")[0]
        # A sparse header has its map where the prefix is.
        if prefix[0] and magic == tar_header.USTAR and kind != _SPARSE:
            path = prefix.partition(b"\0")[0] + b"/" + path
        link = link.partition(b"\0")[0]
        attributes: dict[bytes, bytes] = {}
        if records:
            path = records.get(b"GNU.sparse.name") or records.get(b"path") or path
            link = records.get(b"linkpath") or link
        # As Go does where an archive has both.
        self.path = path = long_name or path
        link = long_link or link
        self._spend(NAME_WEIGHT + _PATH_WEIGHT * (len(path) + len(link)))
        if kind == _LINK:
            return Member(path, None, link)

        if records:
            attributes = pax.xattrs(records)
        if records or self._globals:
            owner, group, changed = self._overridden(records, uid, gid, mtime)
        else:
            owner, group, changed = number(uid), number(gid), number(mtime) * _NS
        if not (0 <= owner <= _MAX_ID and 0 <= group <= _MAX_ID):
            raise CorruptImage(f"expected a user and a group up to {_MAX_ID}, found {owner} and {group}")
        changed = min(max(changed, _FIRST_TIME), _LAST_TIME)
        node = Node(number(mode) & 0o7777, owner, group, changed, xattrs=attributes)
        if access := attributes.get(posix_acl.ACCESS):
            # bsdtar's mode has the group's permissions, and Linux's the mask.
            permissions, says_all = posix_acl.equivalent_mode(access)
            node.mode = node.mode & ~0o777 | permissions
            if says_all:
                del attributes[posix_acl.ACCESS]
        if kind in _FILES and path.endswith(b"/"):
            # v7 had no other way to say it.
            kind = _DIRECTORY
        if kind in _FILES or kind == _SPARSE:
            node.mode |= stat.S_IFREG
            self._place(node, block, records, data, stored)
        elif kind in (_DIRECTORY, _DUMP):
            node.mode |= stat.S_IFDIR
        elif kind == _SYMLINK:
            if not link or len(link) >= PATH_MAX or b"\0" in link:
                raise CorruptImage(f"expected a symbolic link of 1 to {PATH_MAX - 1} bytes, found {show(link)}")
            # Whatever the archive says: Linux keeps no permissions of a link.
            node.mode = stat.S_IFLNK | 0o777
            node.target = link
        elif kind == _FIFO:
            node.mode |= stat.S_IFIFO
        else:
            node.mode |= _DEVICES[kind]
            node.device = numbers = number(major), number(minor)
            if numbers[0] >> _MAJOR_BITS or numbers[1] >> _MINOR_BITS:
                raise CorruptImage(f"expected a device of Linux, found the numbers {numbers[0]} and {numbers[1]}")
        return Member(path, node, b"")

    def _overridden(self, records: dict[bytes, bytes], uid: bytes, gid: bytes, mtime: bytes) -> tuple[int, int, int]:
        """Return user, group and time, as the records say where they say so; an empty one takes back a global one."""
        user, group, changed = (records.get(key, self._globals.get(key)) for key in (b"uid", b"gid", b"mtime"))
        return (
            pax.number(user, "user") if user else number(uid),
            pax.number(group, "group") if group else number(gid),
            pax.time(changed) if changed else number(mtime) * _NS,
        )

    def _place(self, node: Node, block: bytes, records: dict[bytes, bytes], data: int, stored: int) -> None:
        """Give a regular file, of which the archive has `stored` bytes from `data` on, its size and its data."""

        def read(at: int, count: int) -> bytes:
            return self._read(data + at, count)

        pairs: list[tuple[int, int]] | None = None
        size = stored
        if block[156:157] == _SPARSE:
            size = number(block[tar_sparse.OLD_SIZE])
            pairs, before = tar_sparse.old_map(block, read)
            data += before
            self._next += before
            self._expect_data(data, stored)
        elif not records:
            pass
        elif version := records.get(b"GNU.sparse.major"):
            if (version, records.get(b"GNU.sparse.minor")) != (b"1", b"0"):
                raise UnsupportedFeature(f"sparse files of GNU's version {show(version)} are not supported")
            size = pax.number(records.get(b"GNU.sparse.realsize", b""), "size of a sparse file")
            pairs, before = tar_sparse.data_map(read, stored)
            if before > stored:
                raise CorruptImage(f"a sparse file's map of {before} bytes, in {stored} bytes of data")
            data += before
            stored -= before
        elif found := records.get(b"GNU.sparse.size"):
            size = pax.number(found, "size of a sparse file")
            pairs = tar_sparse.text_map(records.get(pax.SPARSE_MAP, b""))
        if not 0 <= size <= MAX_FILE_SIZE:
            raise LimitExceeded(f"a file of {size} bytes, and {MAX_FILE_SIZE} are allowed")
        node.size = size
        if pairs is not None:
            self._spend(PIECE_WEIGHT * len(pairs))
            self._pieces += len(pairs)
            tar_sparse.bound(self._pieces)
            node.data = tar_sparse.extents(pairs, size, stored, self._source, data)
        elif size:
            node.data = (Extent(0, size, self._source, data),)

    def _expect_data(self, at: int, size: int) -> None:
        if at + size > self._stop:
            raise _truncated(f"{size} bytes of data from byte {at} on")


def _truncated(expected: str) -> CorruptImage:
    return CorruptImage(f"the archive is cut: expected {expected}", hint=_DAMAGED)
