"""A disk from a registry: the blob that `disks` finds, or the archive of a container image that has it as a file.

Either is resumed and verified as any download is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import FetchError, ImageError
from recipes.formats.io.context import Context
from recipes.reference import Reference

from . import disks, manifests, oci_fetch
from .download import receive
from .manifests import Manifest
from .oci_fetch import Pulled
from .oci_outline import Outline
from .part import Part
from .registry import Registry, reference
from .retry import first_of, once
from .urls import with_mirrors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recipes.formats.io.arrival import Arrival
    from recipes.formats.oci.spec import Descriptor
    from recipes.model import Arch, Digest

    from .access import Access

#: Documents that are looked at on the way to one disk, indexes within indexes included.
_MAX_DOCUMENTS = 16


class Wanted(NamedTuple):
    """The disk that is to be found."""

    #: Of its manifest, or of an index that leads to it.
    digest: Digest
    arch: Arch
    #: The declared one; empty where there is none.
    disktype: str


def size(urls: Sequence[str], access: Access, wanted: Wanted, label: str) -> int:
    """Return the bytes that `pull` would leave; each of `urls` is asked once. The errors are those of `pull`."""
    with Registry(offline=access.offline) as registry:
        found = _Search(registry, _places(urls, access), Context(access.progress, label), patient=False).run(wanted)
    return found.archive.size if found.blob is None else found.blob.size


def pull(
    urls: Sequence[str],
    part: Path,
    access: Access,
    wanted: Wanted,
    label: str,
    arrival: Arrival | None = None,
) -> Pulled:
    """Download the disk in the repositories `urls`, or their mirrors, to `part`.

    All bytes are verified, from the digest that is wanted downwards. The rest is as for `download.download`; a document
    that has no such disk is an UnsupportedFeature.
    """
    places, context = _places(urls, access), Context(access.progress, label)
    with Registry(offline=access.offline) as registry:
        search = _Search(registry, places, context, patient=True)
        digest, _, blob = search.run(wanted)
        if blob is None:
            return oci_fetch.pull(urls, part, access, digest=digest, arch=wanted.arch, label=label)
        # One that did not serve the manifest is not asked for the blob first, which takes its time to fail.
        ordered = [search.served, *(each for each in places if each != search.served)]
        pinned = [str(Reference.parse(each).pinned(blob.digest)) for each in ordered]
        with Part(part, blob.digest, arrival) as kept, context.meter(blob.size) as meter:
            served = receive(registry, kept, pinned, context, size=blob.size, meter=meter)
    return Pulled(served, blob.digest, blob.size)


def _places(urls: Sequence[str], access: Access) -> list[str]:
    return [str(reference(url)) for url in with_mirrors(urls, access.mirrors)]


class _Found(NamedTuple):
    #: Of the manifest.
    digest: Digest
    #: What a container image becomes.
    archive: Outline
    #: The disk; None for a container image.
    blob: Descriptor | None


class _Search:
    """The way from the digest that is wanted to a blob."""

    def __init__(self, registry: Registry, places: list[str], context: Context, *, patient: bool) -> None:
        self._registry = registry
        self._places = places
        self._context = context
        self._patient = patient
        #: The url that served the last document.
        self.served = places[0]

    def run(self, wanted: Wanted) -> _Found:
        where = f"{self._context.label}: {self._places[0]}"
        digest = wanted.digest
        for _ in range(_MAX_DOCUMENTS):
            try:
                data = self._get(digest)
                document = manifests.parse(data)
            except ImageError as error:
                raise disks.explained(error, f"{where}: {digest}") from error
            if isinstance(document, Manifest):
                return _Found(digest, Outline.of(document, data), disks.layer(document, wanted.disktype, where))
            digest = disks.candidates(document, wanted.arch, wanted.disktype, where)[0].digest
        raise FetchError(f"{where}: more than {_MAX_DOCUMENTS} indexes within one another")

    def _get(self, digest: Digest) -> bytes:
        def attempt(url: str) -> bytes:
            data = self._registry.manifest(Reference.parse(url).pinned(digest))
            self.served = url
            return data

        with self._context.progress.meter(self._context.label) as meter:
            return first_of(
                [self.served, *(each for each in self._places if each != self.served)],
                attempt if self._patient else once(attempt),
                label=self._context.label,
                progress=self._context.progress,
                tick=lambda: meter.advance(0),
            )
