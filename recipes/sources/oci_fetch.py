"""An image from a registry, or from a layout in a folder, as one file, the archive that `oci_outline` outlines.

It is filled from its beginning to its end in place, and after a kill its own bytes tell how far that got: no blob is
ever on disk twice, and there is nothing beside the archive that could contradict it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from recipes.errors import FetchError, ImageError
from recipes.formats.io import sparse
from recipes.formats.io.context import Context
from recipes.formats.io.files import disk_errors
from recipes.formats.io.sparse import SparseFile
from recipes.formats.oci import spec as oci_spec
from recipes.formats.oci.spec import CONFIGS, JSON_LIMIT, Platform
from recipes.model import Digest
from recipes.reference import Reference, is_layout

from . import layouts, manifests
from .download import receive, require_room
from .http import Client
from .manifests import Manifest
from .oci_outline import Outline
from .part import Section
from .registry import Registry, reference
from .retry import first_of, once
from .urls import with_mirrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from recipes.model import Arch
    from recipes.progress import Meter

    from .access import Access
    from .http import Opener
    from .oci_outline import Member

#: Manifests and indexes that are looked at for one image. Two will do, but for indexes within indexes.
_MAX_DOCUMENTS = 16


def outline(urls: Sequence[str], *, digest: Digest, arch: Arch, label: str, offline: bool) -> Outline:
    """Return what `pull` would make; each of `urls` is asked once. The errors are those of `pull`."""
    with _place(urls, arch, offline) as place:
        return _Search(place, place.checked(urls), arch, Context(label=label), lambda: None, patient=False).run(digest)


def pull(
    urls: Sequence[str],
    part: Path,
    access: Access,
    *,
    digest: Digest,
    arch: Arch,
    label: str,
) -> Pulled:
    """Write the archive of the image with `digest` in the repositories or layouts `urls`, or their mirrors, to `part`.

    `digest` is a manifest's, or an index's that has a manifest for `arch`. All bytes are verified. On success the
    archive is whole and on the disk; otherwise what is there is left for the next call to resume. `part` must be this
    caller's alone; its folder exists.

    Errors: FetchError, with every url's failure; DigestMismatch; OfflineError; NoSpace; an ImageError where the image
    is none for `arch`.
    """
    urls, context = with_mirrors(urls, access.mirrors), Context(access.progress, label)
    with _place(urls, arch, access.offline) as place, context.meter() as meter:
        urls = place.checked(urls)
        search = _Search(place, urls, arch, context, lambda: meter.advance(0), patient=True)
        archive = search.run(digest)
        meter.expect(sum(member.descriptor.size for member in archive.members))
        require_room(part.parent, archive.size - (sparse.allocated(part) if part.exists() else 0), label)
        if not archive.present(part):
            _begin(part, archive.prefix)
        # One that did not serve the manifest is not asked for each blob first, which takes its time to fail.
        served = search.served
        whole = hashlib.sha256(archive.prefix)
        at = len(archive.prefix)
        for member in archive.members:
            whole.update(bytes(member.start - len(member.header) - at) + member.header)
            at = member.start + member.descriptor.size
            _pwrite(part, member.header, member.start - len(member.header))
            served, whole = _blob(place, part, member, _preferring(served, urls), meter, context, whole)
            if member.descriptor == archive.manifest.config:
                _require_platform(part, member, arch, f"{label}: {served}")
        with SparseFile(part, resume=True) as file:
            file.finish(archive.size)
        whole.update(bytes(archive.size - at))
        return Pulled(place.blob(served, digest), Digest("sha256", whole.hexdigest()), archive.size)


class Pulled(NamedTuple):
    """An archive that was written."""

    #: The url of what served it.
    served: str
    #: Of the archive, and its bytes.
    digest: Digest
    size: int


class _Place(Protocol):
    """Where images are known by the digests of their manifests."""

    opener: Opener

    def checked(self, urls: Sequence[str]) -> list[str]:
        """Return `urls`, all of which are of this kind; raise FetchError for what a mirror's prefix made of one."""

    def document(self, url: str, digest: Digest) -> bytes:
        """Return the manifest or index with `digest`, verified."""

    def blob(self, url: str, digest: Digest) -> str:
        """Return the url of what has `digest`, for `opener`."""


class _Registries:
    def __init__(self, registry: Registry) -> None:
        self.opener: Opener = registry
        self._registry = registry

    def checked(self, urls: Sequence[str]) -> list[str]:
        return [str(reference(url)) for url in urls]

    def document(self, url: str, digest: Digest) -> bytes:
        return self._registry.manifest(Reference.parse(url).pinned(digest))

    def blob(self, url: str, digest: Digest) -> str:
        return str(Reference.parse(url).pinned(digest))


class _Layouts:
    def __init__(self, client: Client, arch: Arch) -> None:
        self.opener: Opener = client
        self._client = client
        self._arch = arch

    def checked(self, urls: Sequence[str]) -> list[str]:
        return [url if url.endswith("/") else f"{url}/" for url in urls]

    def document(self, url: str, digest: Digest) -> bytes:
        return layouts.document(self._client, url, digest, self._arch)

    def blob(self, url: str, digest: Digest) -> str:
        return layouts.blob(url, digest)


@contextmanager
def _place(urls: Sequence[str], arch: Arch, offline: bool) -> Iterator[_Place]:
    if is_layout(urls[-1]):
        with Client(offline=offline) as client:
            yield _Layouts(client, arch)
    else:
        with Registry(offline=offline) as registry:
            yield _Registries(registry)


def _preferring(first: str, urls: Sequence[str]) -> list[str]:
    return [first, *(url for url in urls if url != first)]


class _Search:
    """The way from the digest that is declared to a manifest."""

    def __init__(
        self,
        place: _Place,
        urls: Sequence[str],
        arch: Arch,
        context: Context,
        tick: Callable[[], None],
        *,
        patient: bool,
    ) -> None:
        self._place = place
        self._urls = urls
        self._arch = arch
        self._label = context.label
        self._progress = context.progress
        self._tick = tick
        self._patient = patient
        self._met: list[Platform] = []
        self._documents = 0
        #: The url that served what was asked for last.
        self.served = urls[0]

    def run(self, digest: Digest) -> Outline:
        found = self._below(digest)
        if found is None:
            raise manifests.no_image(self._arch, self._met, f"{self._label}: {self._urls[0]}")
        return found

    def _below(self, digest: Digest) -> Outline | None:
        """Return the outline of the image with `digest`, or of the first one in the index with `digest`."""
        data = self._get(digest)
        try:
            document = manifests.parse(data)
        except ImageError as error:
            raise type(error)(f"{self._label}: {self._urls[0]}: {digest}: {error.message}", hint=error.hint) from error
        if isinstance(document, Manifest):
            return Outline.of(document, data)
        self._met += document.platforms()
        below = (self._below(each.digest) for each in document.candidates(self._arch))
        return next(filter(None, below), None)

    def _get(self, digest: Digest) -> bytes:
        if self._documents == _MAX_DOCUMENTS:
            raise FetchError(f"{self._label}: {self._urls[0]}: more than {_MAX_DOCUMENTS} indexes within one another")
        self._documents += 1

        def attempt(url: str) -> bytes:
            data = self._place.document(url, digest)
            self.served = url
            return data

        return first_of(
            _preferring(self.served, self._urls),
            attempt if self._patient else once(attempt),
            label=self._label,
            progress=self._progress,
            tick=self._tick,
        )


class _Share:
    """The meter of one of several downloads: it does not know how much all of them have."""

    def __init__(self, meter: Meter) -> None:
        self.advance = meter.advance

    def expect(self, total: int | None) -> None:
        """Leave the total as it is."""


def _blob(
    place: _Place,
    part: Path,
    member: Member,
    urls: Sequence[str],
    meter: Meter,
    context: Context,
    whole: hashlib._Hash,
) -> tuple[str, hashlib._Hash]:
    """Fill in one blob; return the one of `urls` that served it, and the hash `whole` as it goes on behind the blob."""
    blob = member.descriptor
    pinned = {place.blob(url, blob.digest): url for url in urls}
    with Section(part, blob.digest, start=member.start, size=blob.size, before=whole) as section:
        served = receive(place.opener, section, list(pinned), context, size=blob.size, meter=_Share(meter))
    return pinned[served], section.whole


def _require_platform(part: Path, member: Member, arch: Arch, where: str) -> None:
    """Raise UnsupportedFeature where the config says that the image is for something else: an index need not say."""
    blob = member.descriptor
    if blob.media_type not in CONFIGS or blob.size > JSON_LIMIT:
        return
    with part.open("rb") as file:
        file.seek(member.start)
        config = oci_spec.parse(file.read(blob.size), dict, f"{where}: config")
    platform = Platform.read(config, f"{where}: config")
    if platform is not None and not platform.runs_on(arch):
        part.unlink()
        raise manifests.no_image(arch, [platform], where)


def _begin(part: Path, prefix: bytes) -> None:
    part.unlink(missing_ok=True)
    with disk_errors(part), part.open("xb") as file:
        file.write(prefix)


def _pwrite(part: Path, data: bytes, offset: int) -> None:
    with disk_errors(part), part.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)
