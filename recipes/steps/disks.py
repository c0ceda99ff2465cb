"""Single steps from disk image to disk image."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from recipes.errors import LarderError
from recipes.model import DEFAULT_QCOW2_COMPRESSION
from recipes.wording import either

from .step import Request, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from recipes.formats.io.context import Context
    from recipes.model import Qcow2Compression
    from recipes.progress import Progress

#: What `convert` writes, as QEMU calls it: the kind of artifact that it is.
TARGETS: Final[Mapping[str, str]] = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vhd", "vhdx": "hyperv"}
#: By the suffix of a file: what of `TARGETS` is meant.
SUFFIXES: Final[Mapping[str, str]] = {
    ".raw": "raw",
    ".img": "raw",
    ".qcow2": "qcow2",
    ".vmdk": "vmdk",
    ".vhd": "vhd",
    ".vpc": "vhd",
    ".vhdx": "vhdx",
}
#: What the names of temporary files end in: the content of a compressed source, the disk of an archive.
_INSIDE = (".content", ".disk")


def raw(request: Request, *, blkhash: bool = True) -> str:
    """Convert a disk image to RAW."""

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        return _raw(request.source, draft, request.context(draft, progress), blkhash=blkhash)

    return run(request, "raw", make)


def _raw(source: Path, draft: Path, context: Context, *, blkhash: bool = True, own: bool = False) -> dict[str, Any]:
    from recipes.formats.disk.to_raw import to_raw

    size = source.stat().st_size
    made = to_raw(source, draft, context, blkhash=blkhash, own=own)
    return {
        "content": {
            "digest": None,
            "size": size,
            "format": made.source_format,
            "virtual_size": made.virtual_size,
        },
        "blkhash": made.blkhash,
    }


def content(request: Request, *, digests: bool = True, sha256: bool = False, member: str = "") -> str:
    """Undo the compression of a file; with `member`, take the disk of that name (fnmatch) out of an archive."""
    from recipes.formats.io.bounds import content_limit
    from recipes.formats.wrapper import archived, unwrap

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        context = request.context(draft, progress)
        stored = request.source.stat().st_size
        if member:
            with _decompressed(request.source, draft.with_name(f"{draft.name}.archive"), context) as archive:
                made = archived.take(archive, draft, context, pattern=member, stored=stored)
        else:
            made = unwrap.unwrap(
                request.source,
                draft,
                context._replace(limit=content_limit(stored, context.limit)),
                digests=digests,
                published="sha256" if sha256 else None,
            )
        return {
            "content": {
                "digest": str(made.digest) if made.digest else None,
                "size": made.size,
                "format": made.format,
                "virtual_size": made.virtual_size,
            },
            "blkhash": made.blkhash,
            "digest": made.digest,
        }

    return run(request, "content", make)


def _vhd(source: Path, draft: Path, context: Context, *, blkhash: bool = True, own: bool = False) -> dict[str, Any]:
    from recipes.formats.disk.to_raw import to_raw
    from recipes.formats.disk.vhd import write
    from recipes.formats.io.sparse import removed_on_error

    made = to_raw(source, draft, context, blkhash=blkhash, own=own)
    with removed_on_error(draft):
        identity = made.blkhash.hex.encode() if made.blkhash else write.quick_identity(draft)
        write.finish(draft, identity, durable=False)
    return {}


def _hyperv(source: Path, draft: Path, context: Context) -> dict[str, Any]:
    from recipes.formats.disk.reading import open_disk
    from recipes.formats.disk.vhdx.whole import write_whole

    with open_disk(source, context.limit) as disk:
        return {"blkhash": write_whole(disk, draft, context)}


def _vmdk(source: Path, draft: Path, context: Context) -> dict[str, Any]:
    from recipes.formats.disk.reading import open_disk
    from recipes.formats.disk.vmdk.write import write_stream

    with open_disk(source, context.limit) as disk:
        return {"blkhash": write_stream(disk, draft, context)}


def _qcow2(source: Path, draft: Path, context: Context, compression: Qcow2Compression) -> dict[str, Any]:
    from recipes.formats.disk.qcow2.compress import write_compressed
    from recipes.formats.disk.reading import open_disk

    with open_disk(source, context.limit) as disk:
        return {"blkhash": write_compressed(disk, draft, compression, context)}


class Wish(NamedTuple):
    """What a disk image is to become."""

    #: One of `TARGETS`.
    target: str
    #: Of a QCOW2.
    compression: Qcow2Compression = DEFAULT_QCOW2_COMPRESSION
    #: Whether a RAW or a VHD is to be read for its content digest, where nothing else has to read it.
    blkhash: bool = True
    #: Which file of an archive is the disk (fnmatch), if that is not to be found out.
    member: str = ""

    def writer(self, *, own: bool = False) -> Callable[[Path, Path, Context], dict[str, Any]]:
        """Return what writes that from an image, our `own` if it need not stay, to a path where nothing is."""
        if self.target == "qcow2":
            return partial(_qcow2, compression=self.compression)
        if self.target in ("raw", "vhd"):
            return partial({"raw": _raw, "vhd": _vhd}[self.target], blkhash=self.blkhash, own=own)
        return {"vmdk": _vmdk, "vhdx": _hyperv}[self.target]


def write(request: Request, wish: Wish) -> str:
    """Write a disk image as `wish` says."""
    writer = wish.writer()

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        return writer(request.source, draft, request.context(draft, progress))

    return run(request, TARGETS[wish.target], make)


def target_of(destination: Path) -> str:
    """Return which of `TARGETS` the suffix of `destination` says; raise LarderError where it says none."""
    target = SUFFIXES.get(destination.suffix.lower())
    if target is None:
        raise LarderError(
            f"{destination}: expected a suffix that says the format, {either(list(SUFFIXES))}",
            hint=f"--to {'|'.join(TARGETS)} decides",
        )
    return target


def convert(request: Request, wish: Wish) -> str:
    """Write any disk image, compressed or in an archive or not, as `wish` says."""

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        context = request.context(draft, progress)
        with _called(request.source, draft), _disk_of(request.source, draft, context, wish.member) as source:
            return wish.writer(own=source != request.source)(source, draft, context)

    return run(request, TARGETS[wish.target], make)


@contextmanager
def _called(source: Path, draft: Path) -> Iterator[None]:
    """Let errors that name a temporary file beside `draft` name `source` instead, which is what the user knows."""
    try:
        yield
    except LarderError as error:
        for suffix in _INSIDE:
            error.message = error.message.replace(f"{draft}{suffix}", f"{source}: in it")
        raise


@contextmanager
def _decompressed(source: Path, inside: Path, context: Context) -> Iterator[Path]:
    """Yield `source`, or where it is compressed `inside`, where its content is until the context is left."""
    from recipes.formats.codec import compression
    from recipes.formats.io.bounds import content_limit
    from recipes.formats.io.probe import probe
    from recipes.formats.wrapper import unwrap

    if probe(source) not in compression.CODECS:
        yield source
        return
    try:
        limit = content_limit(source.stat().st_size, context.limit)
        unwrap.unwrap(source, inside, context._replace(limit=limit), digests=False)
        yield inside
    finally:
        inside.unlink(missing_ok=True)


@contextmanager
def _disk_of(source: Path, draft: Path, context: Context, member: str) -> Iterator[Path]:
    """Yield `source`, or the disk in it where it is compressed or an archive, which is beside `draft` then."""
    from recipes.formats.wrapper import archived, streamed

    content, disk = (draft.with_name(draft.name + suffix) for suffix in _INSIDE)
    try:
        if streamed.take(source, disk, context, pattern=member) is not None:
            yield disk
            return
        with _decompressed(source, content, context) as inside:
            if archived.is_archive(inside):
                archived.take(inside, disk, context, pattern=member, stored=source.stat().st_size)
                yield disk
            elif member:
                raise LarderError(f"{source}: a member is of an archive, and this is none")
            else:
                yield inside
    finally:
        disk.unlink(missing_ok=True)
