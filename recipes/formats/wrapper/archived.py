"""The disk in an archive, as content: written with its holes, and held against the archive's manifest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

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
    from collections.abc import Sequence
    from pathlib import Path

    from recipes.formats.archive.choose import Choice
    from recipes.formats.archive.member import Member
    from recipes.formats.io.context import Context

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
        _verify_others(choice, members, str(source))
        packed = compression.detect(member.head(probe.HEAD))
        if packed is None:
            return _written(choice, destination, context, form)
        if context.scratch is None:
            raise UnsupportedFeature(f"{source}: {printable(member.name)} is compressed once more")
        inside = context.scratch()
        try:
            _written(choice, inside, context._replace(durable=False), form)
            found = unwrap(inside, destination, context._replace(limit=limit))
            return found._replace(codec=form)
        finally:
            inside.unlink(missing_ok=True)


def _written(choice: Choice, destination: Path, context: Context, form: str) -> Unwrapped:
    member = choice.member
    is_disk = probe.detect(member.head(probe.HEAD)) in probe.RAW_FORMATS
    digests = _Digests({each.algorithm for each in choice.sums if _is_of(each.name, member)})
    sha256 = None if is_disk else _Digests({"sha256"})
    with (
        os_errors(destination),
        context.meter(member.size) as meter,
        removed_on_error(destination),
        HashedFile(destination, durable=context.durable) as file,
    ):
        end = 0
        for at, piece in member.chunks():
            view = memoryview(piece)
            for start, stop in data_runs(view):
                file.pwrite(view[start:stop], at + start)
            file.write_back(at, len(view))
            for each in (digests, sha256):
                if each:
                    each.update(at, view)
            meter.advance(at + len(view) - end)
            end = at + len(view)
        meter.advance(member.size - end)
        file.finish(member.size)
        _hold(choice, member, digests.finish(member.size), str(destination))
        digest = Digest("sha256", sha256.finish(member.size)["sha256"]) if sha256 else None
        with destination.open("rb", buffering=0) as written:
            draft = Draft(form, member.size, digest, file.blkhash if is_disk else None)
            return draft.identified(written.fileno())


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


def _is_of(name: str, member: Member) -> bool:
    return name in (member.name, member.base)


def _verify_others(choice: Choice, members: Sequence[Member], archive: str) -> None:
    """Hold all files but the disk against the manifest, which may name none that is not there."""
    for said in choice.sums:
        found = [each for each in members if _is_of(said.name, each)]
        if not found:
            raise CorruptImage(f"{archive}: its manifest names {printable(said.name)}, which is not in it")
        for each in found:
            if each is not choice.member:
                digests = _Digests({said.algorithm})
                for at, piece in each.chunks():
                    digests.update(at, memoryview(piece))
                _hold(choice, each, digests.finish(each.size), archive)


def _hold(choice: Choice, member: Member, digests: dict[str, str], archive: str) -> None:
    for said in choice.sums:
        if _is_of(said.name, member) and said.algorithm in digests and digests[said.algorithm] != said.hex:
            raise CorruptImage(
                f"{archive}: {printable(member.name)} is not what the manifest says: expected {said.algorithm} "
                f"{said.hex}, got {digests[said.algorithm]}",
                hint="the archive contradicts itself: tell upstream",
            )
