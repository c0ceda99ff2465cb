"""A root file system in memory: what tar archives, image layers and ext4 have in common.

Only metadata is held; the bytes of a file stay where they are, in an archive or a disk, and are known by their extents.
A hard link is a node with several names. Nothing is ever unpacked.
"""

from __future__ import annotations

import hashlib
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.io.bounds import NAME_WEIGHT, metadata_limit
from recipes.formats.io.source import read
from recipes.progress import SILENT_METER
from recipes.units import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from recipes.formats.io.source import Source
    from recipes.progress import Meter

_File = TypeVar("_File")

#: Bytes of the longest name and of the longest symbolic link (linux/limits.h: NAME_MAX, PATH_MAX).
NAME_MAX = 255
PATH_MAX = 4096
#: Symbolic links that the kernel follows on the way to one file (linux/namei.h: MAXSYMLINKS).
MAX_LINKS_FOLLOWED = 40
#: Names that one root file system may have: a full desktop has less than a million.
MAX_NAMES = 4_000_000
#: Parents that no archive names itself: one path can have two thousand. Archivers leave out a few at the most.
MAX_UNNAMED = 100_000
#: Names that the targets of symbolic links may lead over, on the way to the parents of all paths together: so many, and
#: for each path so many more. In real trees a parent is reached through one link or two, of a few names; forty links of
#: two thousand names each, and what is behind them, would cost any time.
MAX_DETOUR = 1 << 20
DETOUR_PER_PATH = 16
#: The weight of what is read, and walked over, from one look to the next at whether to stop: milliseconds of it.
_TELL_EVERY = 256 * NAME_WEIGHT


class Extent(NamedTuple):
    """These bytes of a file are in `source`, from `offset` on."""

    #: First byte, counted from the file's beginning.
    at: int
    length: int
    source: Source
    offset: int


@dataclass(slots=True, eq=False)
class Node:
    """What stat(2) and the data say of a file; no name, since it may have several."""

    #: Type and permissions, as ``st_mode`` has them.
    mode: int
    uid: int = 0
    gid: int = 0
    #: Nanoseconds since the epoch.
    mtime_ns: int = 0
    #: Bytes of a regular file, holes included.
    size: int = 0
    #: Where the data of a regular file is, in order and without overlaps, the rest being holes; or the data itself.
    data: bytes | tuple[Extent, ...] = ()
    #: Of a symbolic link: text, which nobody resolves.
    target: bytes = b""
    #: Major and minor number of a device.
    device: tuple[int, int] = (0, 0)
    #: Full name -> value, as getxattr(2) gives it: ACLs are ``system.posix_acl_*`` in their version 2.
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    #: Of a directory.
    children: dict[bytes, Node] = field(default_factory=dict)

    @property
    def type(self) -> int:
        """Return the ``S_IF*`` of the mode."""
        return stat.S_IFMT(self.mode)

    @property
    def is_dir(self) -> bool:
        """Say whether this is a directory."""
        return self.type == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        """Say whether this is a regular file."""
        return self.type == stat.S_IFREG

    @property
    def is_symlink(self) -> bool:
        """Say whether this is a symbolic link."""
        return self.type == stat.S_IFLNK

    @property
    def is_device(self) -> bool:
        """Say whether this is a character or block device."""
        return self.type in (stat.S_IFCHR, stat.S_IFBLK)

    @property
    def stored(self) -> int:
        """Return the bytes of a regular file that are data and no hole."""
        return len(self.data) if isinstance(self.data, bytes) else sum(extent.length for extent in self.data)

    def chunks(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield the data of a regular file as pieces of at most `size` bytes, each with its offset; holes are skipped.

        Raise CorruptImage where the file behind an extent ends before it.
        """
        if isinstance(self.data, bytes):
            yield from ((at, self.data[at : at + size]) for at in range(0, len(self.data), size))
            return
        for extent in self.data:
            done = 0
            while done < extent.length:
                piece = read(extent.source, extent.offset + done, min(size, extent.length - done))
                if not piece:
                    raise CorruptImage(f"expected {extent.length} bytes of data at {extent.offset}, found {done}")
                yield extent.at + done, piece
                done += len(piece)


class Tree:
    """A root file system. Paths are bytes relative to its root, the empty path being the root itself.

    Use it as a context manager: it closes the files that its extents refer to.
    """

    def __init__(self, stored: int | None = None) -> None:
        """Begin with nothing; `stored` are the bytes of the input, which what is read from it is held against."""
        self.root = Node(stat.S_IFDIR | 0o755)
        self._stored = stored
        self._weight = MAX_SIZE if stored is None else metadata_limit(stored)
        self._names = self._unnamed = 0
        self._detour = MAX_DETOUR
        self._meter = SILENT_METER
        self._untold = 0
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def keep(self, file: AbstractContextManager[_File]) -> _File:
        """Enter `file`, whose data nodes refer to, and leave it when the tree is closed."""
        return self._files.enter_context(file)

    @contextmanager
    def told(self, meter: Meter) -> Iterator[None]:
        """Tell `meter` in the body, without bytes, that what is read, and walked over, goes on: so that it can stop."""
        self._meter = meter
        try:
            yield
        finally:
            self._meter = SILENT_METER

    def _tick(self, weight: int) -> None:
        self._untold += weight
        if self._untold >= _TELL_EVERY:
            self._untold = 0
            self._meter.advance(0)

    def spend(self, weight: int) -> None:
        """Count the weight of what is being read (`recipes.formats.io.bounds`), or raise LimitExceeded."""
        self._tick(weight)
        self._weight -= weight
        if self._weight < 0:
            raise LimitExceeded(f"too many files and attributes for an input of {self._stored} bytes")

    def add(self, path: bytes, node: Node) -> Node:
        """Put `node` at `path` as extracting an archive does, and return what is there then.

        What was there is replaced; only a directory that meets a directory keeps its children, and takes over the
        attributes. Missing parents become directories of root's. Parents that are symbolic links are followed within
        the root, as chroot(2) does.

        Errors: `CorruptImage` for a path that leaves the root, for a parent that is no directory, for a name that no
        file system has; `LimitExceeded` for more names than `MAX_NAMES`, parents than `MAX_UNNAMED`, or names in the
        targets of links than `MAX_DETOUR` and `DETOUR_PER_PATH` allow.
        """
        parts = split(path)
        if not parts:
            if not node.is_dir:
                raise CorruptImage("expected the root to be a directory")
            return self._take_over(self.root, node)
        parent = self._directory(parts[:-1], path, make=True)
        present = parent.children.get(parts[-1])
        if present is not None and present.is_dir and node.is_dir:
            return self._take_over(present, node)
        if present is None:
            self._count()
        # Out first: an archive that names a path again means the later place too.
        parent.children.pop(parts[-1], None)
        parent.children[parts[-1]] = node
        return node

    def link(self, path: bytes, target: bytes) -> Node:
        """Put a hard link to `target` at `path`; return the node. Errors: as `add`, and for a target that is not there.

        As link(2), the last part of `target` is not followed where it is a symbolic link.
        """
        node = self.find(target)
        if node is None:
            raise CorruptImage(f"{show(path)} is a hard link to {show(target)}, which is not there")
        if node.is_dir:
            raise CorruptImage(f"{show(path)} is a hard link to the directory {show(target)}")
        return self.add(path, node)

    def find(self, path: bytes) -> Node | None:
        """Return what is at `path`, None where there is nothing; parents are followed as `add` follows them."""
        parts = split(path)
        if not parts:
            return self.root
        try:
            parent = self._directory(parts[:-1], path, make=False)
        except _Missing:
            return None
        return parent.children.get(parts[-1])

    def follow(self, path: bytes) -> Node | None:
        """Return what is at `path` as `find` does, but for a symbolic link what that leads to."""
        try:
            return self._directory(split(path), path, make=False, file=True)
        except _Missing:
            return None

    def mount(self, path: bytes, root: Node) -> None:
        """Show the directory `root` at `path`, with its own attributes, in place of what is there, as mount(8) does.

        Symbolic links are followed, the last part too; directories that are missing are made. Errors: as `add`.
        """
        here = self._directory(split(path), path, make=True)
        self._take_over(here, root)
        here.children = root.children

    def remove(self, path: bytes) -> None:
        """Take out what is at `path`, with everything below it; nothing where nothing is there."""
        parts = split(path)
        if not parts:
            raise CorruptImage("expected a path below the root to remove")
        try:
            self._directory(parts[:-1], path, make=False).children.pop(parts[-1], None)
        except _Missing:
            return

    def clear(self, path: bytes) -> None:
        """Take out everything in the directory at `path`, which may be a link to it; nothing where there is none."""
        try:
            self._directory(split(path), path, make=False).children.clear()
        except _Missing:
            return

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Yield every path with its node, the root first, then depth first by the bytes of the names.

        So a directory comes before what is in it, and the order depends on the names alone. A node with several names
        is yielded for each of them.

        Raise LimitExceeded for a path that no system call could take: symbolic links lead `add` to any depth, and
        what a few megabytes of archive can nest has more bytes of paths than anybody could walk.
        """
        yield b"", self.root
        stack = [(b"", iter(sorted(self.root.children.items())))]
        while stack:
            prefix, children = stack[-1]
            for name, node in children:
                path = prefix + name
                if len(path) >= PATH_MAX:
                    raise LimitExceeded(f"{show(path)}: a path has fewer than {PATH_MAX} bytes")
                self._tick(NAME_WEIGHT)
                yield path, node
                if node.children:
                    stack.append((path + b"/", iter(sorted(node.children.items()))))
                    break
            else:
                stack.pop()

    def digest(self) -> bytes:
        """Return the SHA-256 of everything but the data, which reproducible identifiers are derived from."""
        digest = hashlib.sha256()
        numbers: dict[Node, int] = {}
        for path, node in self.walk():
            # The number says which names are links to one file.
            number = numbers.setdefault(node, len(numbers))
            facts = (path, number, node.mode, node.uid, node.gid, node.mtime_ns, node.size, node.target, node.device)
            digest.update(repr((facts, sorted(node.xattrs.items()))).encode("ascii"))
        return digest.digest()

    def _take_over(self, present: Node, node: Node) -> Node:
        present.mode, present.uid, present.gid = node.mode, node.uid, node.gid
        present.mtime_ns, present.xattrs = node.mtime_ns, node.xattrs
        return present

    def _count(self) -> None:
        self._names += 1
        if self._names > MAX_NAMES:
            raise LimitExceeded(f"more than {MAX_NAMES} files")

    def _directory(self, parts: list[bytes], path: bytes, *, make: bool, file: bool = False) -> Node:
        """Return the directory at `parts`, following symbolic links; `path` is for messages.

        With `file` the last part may be anything. Missing parts are made, or are a `_Missing`.
        """
        followed = 0
        self._detour += DETOUR_PER_PATH
        ancestors: list[Node] = []
        here = self.root
        todo = parts[::-1]
        while todo:
            name = todo.pop()
            if name == b"..":
                here = ancestors.pop() if ancestors else here
                continue
            child = here.children.get(name)
            if child is None:
                if not make:
                    raise _Missing
                self._count()
                self._unnamed += 1
                if self._unnamed > MAX_UNNAMED:
                    raise LimitExceeded(f"more than {MAX_UNNAMED} directories that are only in the paths of others")
                child = here.children[name] = Node(stat.S_IFDIR | 0o755)
            if child.is_dir:
                ancestors.append(here)
                here = child
            elif child.is_symlink:
                followed += 1
                if followed > MAX_LINKS_FOLLOWED:
                    raise CorruptImage(f"{show(path)}: its parents are a loop of symbolic links")
                if child.target.startswith(b"/"):
                    here, ancestors = self.root, []
                names = child.target.split(b"/")
                self._detour -= len(names)
                if self._detour < 0:
                    raise LimitExceeded(
                        f"{show(path)}: the symbolic links to it and to others lead over too many names"
                    )
                todo += [name for name in reversed(names) if name not in (b"", b".")]
            elif file and not todo:
                return child
            elif not make:
                raise _Missing
            else:
                raise CorruptImage(f"{show(path)}: expected its parent {show(name)} to be a directory")
        return here


class _Missing(Exception):
    """A parent is not there."""


def split(path: bytes) -> list[bytes]:
    """Return the parts of `path` below the root, without empty ones, ``.`` and ``..``.

    Raise CorruptImage for what leaves the root, holds a NUL or is longer than any file system allows.

    >>> split(b"./usr//bin/../lib")
    [b'usr', b'lib']
    >>> split(b"a/../../etc")
    Traceback (most recent call last):
    recipes.errors.CorruptImage: 'a/../../etc' leaves the root
    """
    if b"\0" in path:
        raise CorruptImage(f"{show(path)}: a name cannot hold NUL")
    if len(path) > PATH_MAX:
        raise CorruptImage(f"{show(path)}: a path has at most {PATH_MAX} bytes")
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise CorruptImage(f"{show(path)} leaves the root")
            parts.pop()
        elif len(part) > NAME_MAX:
            raise CorruptImage(f"{show(path)}: a name has at most {NAME_MAX} bytes")
        else:
            parts.append(part)
    return parts


def show(path: bytes) -> str:
    """Return `path` as messages have it: in quotes, with what does not print escaped, and not endlessly long.

    >>> show(b"caf\\xc3\\xa9\\x00")
    "'café\\\\x00'"
    """
    text = path.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 200 else f"{text[:200]}…")
