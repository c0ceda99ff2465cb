"""The canonical tar archive of a tree: the same tree gives the same bytes, whatever archive or disk it was read from.

Members are in the order of `Tree.walk`, the root being ``./`` and everything else going without that prefix, which is
what ``tar -x etc/passwd`` and image layers expect. A file's first name in this order has its data, its other names are
hard links with the same metadata: docker applies a link's owner, which takes capabilities away, and then its
attributes. Headers are ustar's; extended headers (PAX) stand only before what needs them, with records in a fixed order
and without times, owners and process ids of their own. No names of users: they mean nothing on another machine. The
end is two blocks of zeros, without the padding to 10 KiB that tapes want.

Names that are not ASCII stand in the header as they are. That is what GNU tar, libarchive, Go and Python all read
without a word, in any locale and for any bytes. In a PAX record they are said to be UTF-8, and bsdtar in the C locale,
as WSL runs it, fails on them; so where they are too long for the header, ``hdrcharset=BINARY`` goes with them, which
libarchive and Python know, Go ignores, and GNU tar ignores with a warning.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Protocol

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.source import BytesSource
from recipes.formats.io.sparse import BLOCK as HOLE
from recipes.formats.io.sparse import CHUNK
from recipes.formats.tree.tree import Extent, show

from . import pax
from .header import BLOCK, CHECKSUM, FIELDS, MAX_EXTENDED, USTAR, checksum, padding
from .sparse import MAX_PIECES, format_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from recipes.formats.tree.tree import Node, Tree
    from recipes.progress import Meter

#: Bytes of the header's fields for names.
_NAME, _PREFIX = 100, 155
#: What 7 and 11 octal digits hold.
_MAX_ID = (1 << 21) - 1
_MAX_NUMBER = (1 << 33) - 1
_NS = 1_000_000_000

_TYPES = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_LINK, _EXTENDED = b"1", b"x"

_END = bytes(2 * BLOCK)
_ZEROS = bytes(CHUNK)


class Sink(Protocol):
    """Where an archive goes."""

    def write(self, data: memoryview, /) -> object:
        """Take all of `data`, which holds something else once this has returned."""


def write(tree: Tree, sink: Sink, *, sparse: bool = True, meter: Meter) -> int:
    """Write the archive of `tree` to `sink`, in pieces of `CHUNK` bytes, and return how many bytes that were.

    With `sparse`, files with holes are members of GNU's sparse format 1.0, as far as it goes; otherwise their holes are
    written as zeros. Sockets are left out, for which the format has no type. `meter` is told the bytes of files' data.

    Errors: `CorruptImage` where the tree's files end before the data that it says is there; `LimitExceeded` for
    more attributes of one file than `recipes.formats.tar.read` takes, for holes of more bytes to be written than
    `content_limit` allows for the data that there is, and as `Tree.walk`.
    """
    nodes: set[int] = set()
    linked: set[int] = set()
    total = 0
    for _, node in tree.walk():
        if id(node) not in nodes:
            nodes.add(id(node))
            total += node.stored
        else:
            linked.add(id(node))
    meter.expect(total)
    writer = _Writer(sink, sparse, meter, holes=content_limit(total))
    first: dict[int, bytes] = {}
    for path, node in tree.walk():
        if node.type not in _TYPES:
            continue
        try:
            if id(node) in linked and id(node) in first:
                writer.link(path, node, first[id(node)])
            else:
                writer.member(path, node)
                if id(node) in linked:
                    first[id(node)] = path
        except (CorruptImage, LimitExceeded) as error:
            raise type(error)(f"{show(path)}: {error.message}", hint=error.hint) from error
    writer.put(_END)
    writer.flush()
    return writer.written


class _Writer:
    """An archive as it grows; all of it goes through one buffer."""

    def __init__(self, sink: Sink, sparse: bool, meter: Meter, *, holes: int) -> None:
        #: Bytes of holes that may still be written as zeros.
        self._holes = holes
        self._sink = sink
        self._sparse = sparse
        self._meter = meter
        self._buffer = memoryview(bytearray(CHUNK))
        self._used = 0
        #: Bytes of files' data that the meter was not told of yet.
        self._data_bytes = 0
        #: Of sparse files.
        self._pieces = 0
        #: Bytes that the sink has.
        self.written = 0

    def member(self, path: bytes, node: Node) -> None:
        """Append what `path` is."""
        if not node.is_file:
            name = path + b"/" if path else b"./"
            self._header(name if node.is_dir else path, _TYPES[node.type], node, 0, node.target)
            return
        pairs = _pairs(node) if self._sparse else []
        # One more for the end. Better written out than not readable.
        pieces = self._pieces + len(pairs) + 1
        if node.size - sum(length for _, length in pairs) < HOLE or not self._sparse or pieces > MAX_PIECES:
            self._header(path, b"0", node, node.size, b"")
            self._data(node, [(0, node.size)])
        else:
            self._pieces = pieces
            self._with_holes(path, node, pairs)

    def link(self, path: bytes, node: Node, target: bytes) -> None:
        """Append a hard link to the member `target`."""
        self._header(path, _LINK, node, 0, target)

    def put(self, data: bytes) -> None:
        """Append `data`."""
        done = 0
        while done < len(data):
            room = self._room(len(data) - done)
            room[:] = data[done : done + len(room)]
            done += len(room)

    def flush(self) -> None:
        """Give the sink what has gathered."""
        if self._used:
            self._sink.write(self._buffer[: self._used])
            self._meter.advance(self._data_bytes)
            self.written += self._used
            self._used = self._data_bytes = 0

    def _with_holes(self, path: bytes, node: Node, pairs: list[tuple[int, int]]) -> None:
        # GNU tar knows of a hole at the end by an empty piece there.
        ends_with_data = pairs and sum(pairs[-1]) == node.size
        index = format_map(pairs if ends_with_data else [*pairs, (node.size, 0)])
        records = [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", path),
            (b"GNU.sparse.realsize", b"%d" % node.size),
        ]
        # Where the format is not known, the map is not taken for the file.
        stand_in = b"GNUSparseFile.0/" + path.rpartition(b"/")[2][: _NAME - 16]
        stored = len(index) + sum(length for _, length in pairs)
        self._header(stand_in, b"0", node, stored, b"", records)
        self.put(index)
        self._data(node, pairs)

    def _header(
        self,
        path: bytes,
        kind: bytes,
        node: Node,
        size: int,
        link: bytes,
        sparse: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Append the header of a member, with the extended one that it may need."""
        records: list[tuple[bytes, bytes]] = []
        prefix, name = _split(path)
        if not name:
            name = path[:_NAME].rstrip(b"/")
            records.append((b"path", path))
        if len(link) > _NAME:
            records.append((b"linkpath", link))
        if size > _MAX_NUMBER:
            records.append((b"size", b"%d" % size))
            size = 0
        uid, gid = node.uid, node.gid
        if uid > _MAX_ID:
            records.append((b"uid", b"%d" % uid))
            uid = 0
        if gid > _MAX_ID:
            records.append((b"gid", b"%d" % gid))
            gid = 0
        mtime, fraction = divmod(node.mtime_ns, _NS)
        if fraction or not 0 <= mtime <= _MAX_NUMBER:
            records.append((b"mtime", pax.format_time(node.mtime_ns)))
            mtime = mtime if 0 <= mtime <= _MAX_NUMBER else 0
        records += sparse
        if not all(value.isascii() for _, value in records):
            records.insert(0, (b"hdrcharset", b"BINARY"))
        if node.xattrs:
            records += pax.xattr_records(node.xattrs)
        if records:
            self._extended(path, records)
        mode = stat.S_IMODE(node.mode)
        major, minor = node.device
        self.put(_pack(name, mode, uid, gid, size, mtime, kind, link[:_NAME], major, minor, prefix))

    def _extended(self, path: bytes, records: list[tuple[bytes, bytes]]) -> None:
        data = b"".join(pax.record(key, value) for key, value in records)
        if len(data) > MAX_EXTENDED:
            raise LimitExceeded(f"{len(data)} bytes of attributes, and {MAX_EXTENDED} are allowed")
        name = b"PaxHeaders.0/" + path.rstrip(b"/").rpartition(b"/")[2][: _NAME - 13]
        self.put(_pack(name, 0o644, 0, 0, len(data), 0, _EXTENDED, b"", 0, 0, b""))
        self.put(data)
        self._zeros(padding(len(data)))

    def _data(self, node: Node, pairs: Iterable[tuple[int, int]]) -> None:
        """Append these pieces of a file, which all of its extents are in, and the padding after them."""
        extents = iter(_extents(node))
        extent = next(extents, None)
        length = 0
        for at, count in pairs:
            done = at
            while extent and extent.at < at + count:
                self._hole(extent.at - done)
                self._copy(extent)
                done = extent.at + extent.length
                extent = next(extents, None)
            self._hole(at + count - done)
            length += count
        self._zeros(padding(length))

    def _copy(self, extent: Extent) -> None:
        """Append the bytes of `extent`."""
        done = 0
        while done < extent.length:
            room = self._room(extent.length - done)
            count = extent.source.readinto(room, extent.offset + done)
            if not count:
                raise CorruptImage(f"expected {extent.length} bytes of data at {extent.offset}, found {done}")
            self._used -= len(room) - count
            self._data_bytes += count
            done += count

    def _hole(self, count: int) -> None:
        """Write a hole as zeros."""
        self._holes -= count
        if self._holes < 0:
            raise LimitExceeded("the holes of the files up to it are too large to be written as zeros")
        self._zeros(count)

    def _zeros(self, count: int) -> None:
        while count > 0:
            room = self._room(count)
            room[:] = _ZEROS[: len(room)]
            count -= len(room)

    def _room(self, count: int) -> memoryview:
        """Return the place for the next bytes, `count` of them or fewer, which are taken for written."""
        if self._used == CHUNK:
            self.flush()
        start = self._used
        self._used = min(CHUNK, start + count)
        return self._buffer[start : self._used]


def _pack(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes,
    major: int,
    minor: int,
    prefix: bytes,
) -> bytes:
    """Return a header."""
    block = FIELDS.pack(
        name,
        b"%07o\0" % mode,
        b"%07o\0" % uid,
        b"%07o\0" % gid,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b"",
        kind,
        link,
        USTAR,
        b"",
        b"",
        b"%07o\0" % major,
        b"%07o\0" % minor,
        prefix,
    )
    return b"%b%06o\0 %b" % (block[: CHECKSUM.start], checksum(block), block[CHECKSUM.stop :])


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return prefix and name of the header for `path`, both empty where it does not fit."""
    if len(path) <= _NAME:
        return b"", path
    # The name takes as much as it can; a directory's slash at the end stays with it.
    at = path.find(b"/", len(path) - _NAME - 1, len(path) - 1)
    return (path[:at], path[at + 1 :]) if 0 < at <= _PREFIX else (b"", b"")


def _extents(node: Node) -> Sequence[Extent]:
    """Return a file's extents; one in memory where the node has the data itself."""
    if isinstance(node.data, bytes):
        return [Extent(0, len(node.data), BytesSource(node.data, "the file itself"), 0)] if node.data else []
    return node.data


def _pairs(node: Node) -> list[tuple[int, int]]:
    """Return offset and length of what lies between a file's holes, wherever its bytes are.

    Pieces are of whole blocks, as holes are on any file system: GNU tar takes each to begin at a block of the archive,
    and other readers to follow the one before without a gap.
    """
    pairs: list[tuple[int, int]] = []
    for extent in _extents(node):
        start = extent.at - extent.at % HOLE
        end = extent.at + extent.length
        stop = min(node.size, end + -end % HOLE)
        if pairs and sum(pairs[-1]) >= start:
            start = pairs.pop()[0]
        pairs.append((start, stop - start))
    return pairs
