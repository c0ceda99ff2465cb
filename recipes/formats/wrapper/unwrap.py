"""From a wrapper to its content in one pass: decode, digest, leave holes, and hash the blocks of a disk."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.codec import compression
from recipes.formats.disk.table import virtual_size
from recipes.formats.io import probe
from recipes.formats.io.blkhash import BlockHasher
from recipes.formats.io.files import os_errors
from recipes.formats.io.pipeline import Stage
from recipes.formats.io.sparse import CHUNK, SparseFile, removed_on_error
from recipes.model import BlockHash, Content, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.formats.io.context import Context


class Unwrapped(NamedTuple):
    """What `unwrap` found."""

    codec: str
    #: Bytes of the content.
    size: int
    #: Name of its format, as `recipes.formats.io.probe` gives it.
    format: str
    #: Bytes of the virtual disk, where it is a disk image.
    virtual_size: int | None
    #: Of the content; None where nobody asked for digests.
    digest: Digest | None
    #: Of the content, where that is a raw disk and somebody asked for digests.
    blkhash: BlockHash | None

    @property
    def content(self) -> Content:
        """What a receipt says of the content."""
        assert self.digest is not None, "a receipt has the digest"
        return Content(self.digest, self.size, self.format, self.virtual_size)


def unwrap(
    source: Path,
    destination: Path,
    context: Context,
    *,
    digests: bool = True,
) -> Unwrapped:
    """Undo the compression of `source` into the new sparse file `destination`.

    `context.limit` is the most bytes that the content may have. The meter counts bytes of the wrapper. The
    content's sha256 and blkhash are computed on the way unless nobody wants `digests`. On success `destination` is
    complete, and on the disk if it is to be durable; after any error nothing is there.
    Content that is no multiple of a sector stays as it is. Memory: `compression.decompress`, and 4 MiB of queues.

    Errors: those of `compression.decompress`; `LimitExceeded`, before anything is decoded where the wrapper declares
    its size; `UnsupportedFeature` where `source` is not compressed; `NoSpace`; `StoreError` for what else the operating
    system refuses, an existing `destination` among it.
    """
    with os_errors(destination):
        limit = context.limit
        codec = _codec(source, limit)
        with (
            context.meter(source.stat().st_size) as meter,
            removed_on_error(destination),
            SparseFile(destination, durable=context.durable) as file,
            ExitStack() as running,
            closing(compression.decompress(source, codec, jobs=context.jobs, read=meter.advance)) as chunks,
        ):
            hasher = BlockHasher() if digests else None
            hashing = running.enter_context(Stage(_sha256)) if digests else None
            writing = running.enter_context(Stage(lambda chunks: _write(file, chunks, hasher)))
            size = 0
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise LimitExceeded(
                        f"{source}: {codec}: expands to more than the limit of {limit} bytes of content"
                    )
                if hashing:
                    hashing.put(chunk)
                writing.put(chunk)
                # Minutes of zeros come out of a few bytes: let an interruption through.
                meter.advance(0)
            hashed = writing.finish()
            file.finish(size)
            digest = hashing.finish() if hashing else None
            name, claimed = _identify(file.fileno(), size)
    blkhash = hashed.result(size) if hashed and name in probe.RAW_FORMATS else None
    return Unwrapped(codec, size, name, claimed, digest, blkhash)


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


def _sha256(chunks: Iterator[bytes]) -> Digest:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return Digest("sha256", digest.hexdigest())


def _write(file: SparseFile, chunks: Iterator[bytes], hasher: BlockHasher | None) -> BlockHasher | None:
    """Write the content; return `hasher`, fed with it, if it begins as a disk does."""
    offset = 0
    for view in _batches(chunks):
        if offset == 0 and probe.detect(bytes(view[: probe.HEAD])) not in probe.RAW_FORMATS:
            hasher = None
        file.pwrite(view, offset)
        if hasher:
            hasher.update(offset, view)
        offset += len(view)
    return hasher


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
