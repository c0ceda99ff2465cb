"""The disk in an archive, as content: written with its holes, and held against the archive's manifest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature, printable
from recipes.formats.archive import read
from recipes.formats.archive.choose import choose
from recipes.formats.codec import compression
from recipes.formats.disk import foreign
from recipes.formats.io import probe
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.files import os_errors
from recipes.formats.io.hashed import HashedFile
from recipes.formats.io.source import FileSource
from recipes.formats.io.sparse import data_runs, removed_on_error
from recipes.model import Digest

from .unwrap import Draft, Unwrapped, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from recipes.formats.archive.choose import Choice
    from recipes.formats.archive.member import Member
    from recipes.formats.io.context import Context
    from recipes.model import BlockHash

#: What `probe` calls what a disk may be in.
FORMATS = read.FORMATS
_ZEROS = memoryview(bytes(1 << 20))


def is_archive(path: Path) -> bool:
    """Say whether the file at `path` is an archive that a disk may be in."""
    return probe.probe(path) in read.FORMATS


def take(
    source: Path, destination: Path, context: Context, *, pattern: str = "", stored: int | None = None
) -> Unwrapped:
    """Write the disk in the archive `source` to the new sparse file `destination`, decompressed where it is compressed.

    `pattern` says which member it is, see `choose`. `stored` are the bytes of the outermost file, which bound all that
    may come of it; by default those of `source`. The digests are those of `unwrap`. What a manifest of the archive's
    says of any file is verified. On success `destination` is complete, and on the disk if it is to be durable; after
    any error nothing is there.

    Errors: those of `read.members` and `choose`; `CorruptImage` for a file that is not what the manifest says;
    `UnsupportedFeature` for what is no archive; `LimitExceeded`; `NoSpace`; `StoreError`.
    """
    stored = source.stat().st_size if stored is None else stored
    limit = content_limit(stored, context.limit)
    with os_errors(source), source.open("rb", buffering=0) as file:
        form = probe.probe(source)
        if form not in read.FORMATS:
            raise foreign.refusal(source, form, "an archive with a disk in it")
        members = read.members(FileSource(file.fileno(), str(source)), form, stored=stored)
        choice = choose(members, str(source), pattern)
        member = choice.member
        if member.size > limit:
            raise LimitExceeded(
                f"{source}: {printable(member.name)} has {member.size} bytes, and the limit is {limit} bytes of content"
            )
        verify(choice, [each for each in members if each is not member], str(source))
        if compression.detect(member.head(probe.HEAD)) is None:
            written = write(member, destination, context, {each.algorithm for each in choice.of(member)})
            with removed_on_error(destination):
                hold(choice, member, written.sums, str(source))
                return written.identified(destination, form)
        if context.scratch is None:
            raise UnsupportedFeature(f"{source}: {printable(member.name)} is compressed once more")
        inside = context.scratch()
        try:
            written = write(
                member, inside, context._replace(durable=False), {each.algorithm for each in choice.of(member)}
            )
            hold(choice, member, written.sums, str(source))
            return unwrap(inside, destination, context._replace(limit=limit))._replace(codec=form)
        finally:
            inside.unlink(missing_ok=True)


class Written(NamedTuple):
    """A member that is a file now."""

    size: int
    #: The digests of `unwrap`: one of the two is known.
    digest: Digest | None
    blkhash: BlockHash | None
    #: Those that were asked for, in hex by the names of their algorithms.
    sums: Mapping[str, str]

    def identified(self, path: Path, form: str) -> Unwrapped:
        """Return what it is, at `path`, out of an archive that `probe` calls `form`."""
        with path.open("rb", buffering=0) as file:
            return Draft(form, self.size, self.digest, self.blkhash).identified(file.fileno())


def write(member: Member, path: Path, context: Context, algorithms: AbstractSet[str] = frozenset()) -> Written:
    """Write a member to the new sparse file `path`, and know its digests; after an error nothing is there.

    Errors: those of the archive; `NoSpace`; `StoreError`.
    """
    is_disk = probe.detect(member.head(probe.HEAD)) in probe.RAW_FORMATS
    digests = _Digests({*algorithms, *(() if is_disk else ("sha256",))})
    with (
        os_errors(path),
        context.meter(member.size) as meter,
        removed_on_error(path),
        HashedFile(path, durable=context.durable) as file,
    ):
        end = 0
        for at, piece in member.chunks():
            view = memoryview(piece)
            for start, stop in data_runs(view):
                file.pwrite(view[start:stop], at + start)
            file.write_back(at, len(view))
            digests.update(at, view)
            meter.advance(at + len(view) - end)
            end = at + len(view)
        meter.advance(member.size - end)
        file.finish(member.size)
        sums = digests.finish(member.size)
        digest = None if is_disk else Digest("sha256", sums["sha256"])
        return Written(member.size, digest, file.blkhash if is_disk else None, sums)


class _Digests:
    """Digests of a file whose holes are zeros, by the names of their algorithms."""

    def __init__(self, algorithms: set[str]) -> None:
        self._hashers = {each: hashlib.new(each, usedforsecurity=False) for each in algorithms}
        self._end = 0

    def __bool__(self) -> bool:
        return bool(self._hashers)

    def update(self, at: int, view: memoryview) -> None:
        """Take what is at `at`, behind all that came before."""
        self._zeros(at)
        for each in self._hashers.values():
            each.update(view)
        self._end = at + len(view)

    def _zeros(self, stop: int) -> None:
        while self._hashers and self._end < stop:
            count = min(len(_ZEROS), stop - self._end)
            for each in self._hashers.values():
                each.update(_ZEROS[:count])
            self._end += count

    def finish(self, size: int) -> dict[str, str]:
        """Return the digests of a file of `size` bytes."""
        self._zeros(size)
        return {name: each.hexdigest() for name, each in self._hashers.items()}


def verify(choice: Choice, members: Iterable[Member], archive: str) -> None:
    """Hold `members` against the manifest, by reading them; CorruptImage also for one that it names and nobody has."""
    for said in choice.missing:
        raise CorruptImage(f"{archive}: its manifest names {printable(said.name)}, which is not in it")
    for member in members:
        if algorithms := {each.algorithm for each in choice.of(member)}:
            digests = _Digests(algorithms)
            for at, piece in member.chunks():
                digests.update(at, memoryview(piece))
            hold(choice, member, digests.finish(member.size), archive)


def hold(choice: Choice, member: Member, sums: Mapping[str, str], archive: str) -> None:
    """Raise CorruptImage where the manifest says another digest of `member` than `sums` has."""
    for said in choice.of(member):
        if sums[said.algorithm] != said.hex:
            raise CorruptImage(
                f"{archive}: {printable(member.name)} is not what the manifest says: expected {said.algorithm} "
                f"{said.hex}, got {sums[said.algorithm]}",
                hint="the archive contradicts itself: tell upstream",
            )
