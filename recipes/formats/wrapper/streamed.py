"""The disk in a compressed tar, taken out of it in one pass: the archive itself is never written.

Which member is the disk is known for certain at the end only. So each that could be is written as it comes, small files
are kept, and in the end it is chosen among them. Where that cannot be, because there are too many or the archive is not
as it should be, nothing is done: whoever writes the whole archive first sees what is wrong with it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from recipes.errors import ImageError
from recipes.formats.archive import choose
from recipes.formats.archive.member import CHUNK, Member
from recipes.formats.codec import compression
from recipes.formats.codec.compressed import open_wrapper
from recipes.formats.io import probe
from recipes.formats.io.bounds import content_limit, metadata_limit
from recipes.formats.io.files import os_errors
from recipes.formats.io.pipeline import in_order
from recipes.formats.io.sparse import SECTOR, data_chunks
from recipes.formats.tar import read as tar_read
from recipes.progress import SILENCE

from . import archived
from .unwrap import unwrap

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from recipes.formats.io.context import Context
    from recipes.progress import Meter

    from .unwrap import Unwrapped

#: Bytes of a file that is kept in memory, and of all of them; files that are written at the most.
_SMALL, _ALL_SMALL, _MOST = 1 << 20, 16 << 20, 4


class _GivenUpError(Exception):
    """It takes more than one pass."""


class _Stream:
    """Content as it is decoded, as a `Source` that is read forwards: what is behind is gone but for the last pieces."""

    #: Bytes behind what was read last that may be read again: a header's are, where the data behind it begins, and the
    #: first piece of a file, which is looked at before it is written.
    _BEHIND = CHUNK + (64 << 10)

    def __init__(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        self.name = name
        #: At the most: how much it is, is known at its end.
        self.size = size
        self._chunks = chunks
        self._pieces: list[tuple[int, bytes]] = []
        self._end = 0

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view`, see `Source`."""
        while offset >= self._end:
            if not self._more():
                return 0
        for start, piece in self._pieces:
            if start <= offset < start + len(piece):
                found = piece[offset - start : offset - start + len(view)]
                view[: len(found)] = found
                return len(found)
        raise _GivenUpError

    def _more(self) -> bool:
        piece = next(self._chunks, b"")
        if piece:
            self._pieces.append((self._end, piece))
            while self._end - (self._pieces[0][0] + len(self._pieces[0][1])) > self._BEHIND:
                self._pieces.pop(0)
            self._end += len(piece)
            if self._end > self.size:
                # Behind an archive there may be zeros without end.
                raise _GivenUpError
        return bool(piece)

    def finish(self) -> None:
        """Decode what is left: checksums come last."""
        while self._more():
            pass

    def fileno(self) -> None:
        """Return None: it is in no file."""


def take(source: Path, destination: Path, context: Context, *, pattern: str = "") -> Unwrapped | None:
    """Do as `archived.take` does with the compressed tar `source`; None, with nothing done, if it cannot be so.

    Errors: `NoSpace`; `StoreError` for what else the operating system refuses.
    """
    codec = compression.probe_codec(source)
    if codec is None or context.scratch is None:
        return None
    with os_errors(source), ExitStack() as stack, context.meter(source.stat().st_size) as meter:
        stored = source.stat().st_size
        limit = content_limit(stored, context.limit)
        wrapper = stack.enter_context(open_wrapper(source, codec, meter.advance))
        chunks = stack.enter_context(closing(compression.content(wrapper, jobs=context.jobs)))
        if codec != "xz":
            # That has threads of its own.
            chunks = stack.enter_context(closing(in_order(iter([chunks]), workers=1, room=4 * CHUNK)))
        kept = _Kept(context, pattern, limit)
        stack.callback(kept.unlink)
        try:
            stream = _Stream(str(source), limit, _begun(chunks, meter))
            members = _members(stream, kept, stored)
            stream.finish()
            choice = choose.choose(members, str(source), pattern)
            archived.verify(choice, members, str(source))
            return kept.publish(choice.member, destination, limit)
        except (ImageError, _GivenUpError):
            return None


def _begun(chunks: Generator[bytes], meter: Meter) -> Iterator[bytes]:
    """Yield the same chunks if they begin as a tar; give up if not."""
    first = next(chunks, b"")
    if probe.detect(first[: probe.HEAD]) != "tar":
        raise _GivenUpError
    yield first
    for chunk in chunks:
        # Minutes of zeros come out of a few bytes: let an interruption through.
        meter.advance(0)
        yield chunk


class _Kept:
    """What is kept of an archive that goes by."""

    def __init__(self, context: Context, pattern: str, limit: int) -> None:
        # What is shown is how much of the wrapper was read.
        self._context = context._replace(progress=SILENCE)
        self._pattern = pattern
        self._left = limit
        self._small = 0
        self._files: dict[str, tuple[Path, archived.Written]] = {}

    def keep(self, member: Member) -> Member:
        """Return the same member, whose data can be read when it has gone by."""
        if member.size <= _SMALL:
            self._small += member.size
            if self._small > _ALL_SMALL:
                raise _GivenUpError
            data = member.read(_SMALL)
            return member._replace(chunks=lambda: iter([(0, data)] if data else []))
        wanted = any(fnmatchcase(name, self._pattern or "*") for name in (member.name, member.base))
        if not wanted or choose.is_never(member.name):
            return member._replace(chunks=_gone)
        self._left -= member.size
        if self._left < 0 or len(self._files) == _MOST or member.name in self._files:
            raise _GivenUpError
        path = self._scratch()
        self._files[member.name] = path, archived.write(member, path, self._context)
        return member._replace(chunks=partial(_of_file, path))

    def _scratch(self) -> Path:
        assert self._context.scratch is not None, "there is room for drafts"
        return self._context.scratch()

    def publish(self, member: Member, destination: Path, limit: int) -> Unwrapped:
        """Make the disk `member` the new file `destination`, decompressed where it is compressed."""
        if member.name not in self._files:
            path = self._scratch()
            self._files[member.name] = path, archived.write(member, path, self._context)
        path, written = self._files[member.name]
        if compression.probe_codec(path):
            return unwrap(path, destination, self._context._replace(limit=limit))._replace(codec="tar")
        with os_errors(destination):
            path.rename(destination)
            return written.identified(destination, "tar")

    def unlink(self) -> None:
        """Delete the files that were written."""
        for path, _ in self._files.values():
            path.unlink(missing_ok=True)


def _of_file(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb", buffering=0) as file:
        for start, stop in data_chunks(file.fileno(), path.stat().st_size, SECTOR):
            yield start, os.pread(file.fileno(), stop - start, start)


def _gone() -> Iterator[tuple[int, bytes]]:
    raise _GivenUpError


def _members(stream: _Stream, kept: _Kept, stored: int) -> list[Member]:
    left = metadata_limit(stored)

    def spend(weight: int) -> None:
        nonlocal left
        left -= weight
        if left < 0:
            raise _GivenUpError

    found: list[Member] = []
    for path, node, _ in tar_read.members(stream, spend=spend):
        if node is not None and node.is_file:
            name = os.fsdecode(path).removeprefix("./")
            found.append(kept.keep(Member(name, node.size, partial(node.chunks, CHUNK))))
            if len(found) > 1000:
                raise _GivenUpError
    return found
