"""From a wrapper to its content in one pass: decode, digest, leave holes, and hash the blocks of a disk."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.codec import compression
from recipes.formats.codec.compressed import CompressedFile, open_wrapper
from recipes.formats.disk.table import virtual_size
from recipes.formats.io import probe
from recipes.formats.io.blkhash import BlockHasher
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.files import os_errors
from recipes.formats.io.pipeline import Stage
from recipes.formats.io.sparse import CHUNK, SparseFile, data_runs, removed_on_error
from recipes.model import BlockHash, Content, Digest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from recipes.formats.io.arrival import Growing
    from recipes.formats.io.context import Context
    from recipes.progress import Meter


class Unwrapped(NamedTuple):
    """What `unwrap` found."""

    codec: str
    #: Bytes of the content.
    size: int
    #: Name of its format, as `recipes.formats.io.probe` gives it.
    format: str
    #: Bytes of the virtual disk, where it is a disk image.
    virtual_size: int | None
    #: Of the content; None for a disk whose digest upstream does not publish, and where nobody asked for digests.
    digest: Digest | None
    #: Of the content, where that begins as a raw disk and somebody asked for digests.
    blkhash: BlockHash | None

    @property
    def content(self) -> Content:
        """What a receipt says of the content."""
        return Content(self.digest, self.size, self.format, self.virtual_size)


class Draft(NamedTuple):
    """Content as it was decoded, before anybody looked at what it is; see `Unwrapped`."""

    codec: str
    size: int
    digest: Digest | None
    blkhash: BlockHash | None

    def identified(self, fd: int) -> Unwrapped:
        """Look at what it is: at the open file `fd`, whose bytes are verified, since disks are read here."""
        return Unwrapped(self.codec, self.size, *_identify(fd, self.size), self.digest, self.blkhash)


def unwrap(
    source: Path,
    destination: Path,
    context: Context,
    *,
    digests: bool = True,
    published: str | None = None,
) -> Unwrapped:
    """Undo the compression of `source` into the new sparse file `destination`.

    `context.limit` is the most bytes that the content may have. The meter counts bytes of the wrapper. Unless nobody
    wants `digests`, the content's are computed on the way: the blkhash of what begins as a raw disk, which costs its
    data, and the sha256 of everything else, which costs its size; and besides that of the algorithm `published`,
    in which upstream publishes what the content must be. On success `destination` is
    complete, and on the disk if it is to be durable; after any error nothing is there.
    Content that is no multiple of a sector stays as it is. Memory: `compression.decompress`, and 4 MiB of queues.

    Errors: those of `compression.decompress`; `LimitExceeded`, before anything is decoded where the wrapper declares
    its size; `UnsupportedFeature` where `source` is not compressed; `NoSpace`; `StoreError` for what else the operating
    system refuses, an existing `destination` among it.
    """
    with os_errors(destination):
        codec = _codec(source, context.limit)
        with (
            context.meter(source.stat().st_size) as meter,
            removed_on_error(destination),
            open_wrapper(source, codec, meter.advance) as wrapper,
        ):
            chunks = compression.content(wrapper, jobs=context.jobs)
            draft = _decode(wrapper, chunks, destination, context, meter, digests=digests, published=published)
            with destination.open("rb", buffering=0) as file:
                return draft.identified(file.fileno())


def unwrap_arriving(source: Growing, destination: Path, context: Context, *, published: str | None) -> Draft | None:
    """Do as `unwrap` while `source` arrives, whose bytes nobody has verified yet: what is made is a draft.

    `context.limit` is the most that a whole content may have; of what has arrived it may be as much as `content_limit`
    allows for so many bytes. None, with nothing done, if it is not compressed. Errors: those of `unwrap`, and `Gone`.
    """
    codec = compression.detect(source.pread(0, probe.HEAD))
    if codec is None:
        return None
    with os_errors(destination), context.meter(source.size) as meter, removed_on_error(destination):
        taken = 0

        def advance(count: int) -> None:
            nonlocal taken
            taken += count
            meter.advance(count)

        def paid_for() -> Generator[bytes]:
            size = 0
            with closing(compression.arriving(wrapper, jobs=context.jobs)) as chunks:
                for chunk in chunks:
                    size += len(chunk)
                    # The length that a server announces is worth nothing.
                    if size > content_limit(taken, context.limit):
                        raise LimitExceeded(f"{destination}: {codec}: {size} bytes of content in {taken}")
                    yield chunk

        wrapper = CompressedFile(destination, codec, source.size, source.pread, advance, source.arrived)
        chunks = paid_for()
        return _decode(wrapper, chunks, destination, context, meter, digests=True, published=published)


def _decode(
    wrapper: CompressedFile,
    chunks: Generator[bytes],
    destination: Path,
    context: Context,
    meter: Meter,
    *,
    digests: bool,
    published: str | None,
) -> Draft:
    limit = context.limit
    with SparseFile(destination, durable=context.durable) as file, ExitStack() as running, closing(chunks):
        first = _first(chunks)
        is_disk = probe.detect(b"".join(first)[: probe.HEAD]) in probe.RAW_FORMATS
        hasher = BlockHasher() if digests and is_disk else None
        algorithm = published or (None if is_disk else "sha256")
        hashing = running.enter_context(Stage(partial(_digest, algorithm))) if digests and algorithm else None
        writing = running.enter_context(Stage(lambda chunks: _write(file, chunks, hasher)))
        size = 0
        for chunk in chain(first, chunks):
            size += len(chunk)
            if size > limit:
                raise LimitExceeded(
                    f"{wrapper.path}: {wrapper.codec}: expands to more than the limit of {limit} bytes of content"
                )
            if hashing:
                hashing.put(chunk)
            writing.put(chunk)
            # Minutes of zeros come out of a few bytes: let an interruption through.
            meter.advance(0)
        writing.finish()
        file.finish(size)
        digest = hashing.finish() if hashing else None
    return Draft(wrapper.codec, size, digest, hasher.result(size) if hasher else None)


def _first(chunks: Iterator[bytes]) -> list[bytes]:
    """Take the chunks that tell what the content begins as."""
    found: list[bytes] = []
    while sum(map(len, found)) < probe.HEAD and (chunk := next(chunks, b"")):
        found.append(chunk)
    return found


def _codec(source: Path, limit: int) -> str:
    """Name the codec of `source`, or raise that it has none, or declares more content than `limit`."""
    codec = compression.probe_codec(source)
    if codec is None:
        raise UnsupportedFeature(
            f"{source}: expected one of {', '.join(compression.CODECS)}, found {probe.probe(source)}"
        )
    declared = compression.declared_size(source, codec)
    if declared is not None and declared > limit:
        raise LimitExceeded(f"{source}: {codec}: declares {declared} bytes of content, and the limit is {limit}")
    return codec


def _digest(algorithm: str, chunks: Iterator[bytes]) -> Digest:
    digest = hashlib.new(algorithm)
    for chunk in chunks:
        digest.update(chunk)
    return Digest(algorithm, digest.hexdigest())


def _write(file: SparseFile, chunks: Iterator[bytes], hasher: BlockHasher | None) -> None:
    """Write the content, and feed `hasher` with it."""
    offset = 0
    for view in _batches(chunks):
        # Zeros are passed over once for both.
        if runs := data_runs(view):
            file.pwrite_runs(view, offset, runs)
            if hasher:
                hasher.update(offset, view)
            file.write_back(offset, len(view))
        offset += len(view)


def _batches(chunks: Iterator[bytes]) -> Iterator[memoryview]:
    """Yield the same bytes in pieces of `CHUNK`, the last one shorter; each is valid until the next is asked for."""
    buffer = memoryview(bytearray(CHUNK))
    filled = 0
    for chunk in chunks:
        if not filled and len(chunk) == CHUNK:
            yield memoryview(chunk)
            continue
        rest = memoryview(chunk)
        while rest:
            piece = rest[: CHUNK - filled]
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            rest = rest[len(piece) :]
            if filled == CHUNK:
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]


def describe(fd: int, size: int, digest: Digest) -> Content:
    """Return what the content in the open file `fd` is; it has `size` bytes, and `digest`."""
    return Content(digest, size, *_identify(fd, size))


def _identify(fd: int, size: int) -> tuple[str, int | None]:
    """Return the name of the format of the open file `fd` of `size` bytes, and the bytes of its virtual disk."""
    head = os.pread(fd, probe.HEAD, 0)
    name = probe.detect(head, os.pread(fd, probe.TAIL, max(0, size - probe.TAIL)))
    return name, virtual_size(name, lambda offset, count: os.pread(fd, count, offset), size)
