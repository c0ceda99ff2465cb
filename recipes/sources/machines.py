"""The machines that an image in a registry, or in a layout, is for: its index says so, or else its config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.errors import DigestMismatch, FetchError, UnsupportedFeature
from recipes.formats.io import digests
from recipes.formats.oci import spec
from recipes.formats.oci.spec import CONFIGS, JSON_LIMIT, MANIFESTS, Platform
from recipes.redact import shown
from recipes.reference import Reference, is_layout
from recipes.settings import ARCH_ALIASES

from . import layouts, manifests
from .http import Client
from .manifests import Index, Manifest
from .registry import Registry
from .retry import first_of
from .urls import with_mirrors

if TYPE_CHECKING:
    from recipes.model import Arch, Digest

    from .access import Access
    from .http import Opener
    from .manifests import Named


def of(named: Named, url: str, access: Access) -> tuple[Arch, ...]:
    """Return the architectures that what `url` names has an image for; none where nothing says.

    Errors: UnsupportedFeature for one that is for other machines; FetchError, DigestMismatch.
    """
    known = tuple(dict.fromkeys(ARCH_ALIASES.values()))
    document = named.document
    if isinstance(document, Index) and document.platforms():
        # A level of a machine that is served as the machine itself is would be declared twice.
        first: dict[object, Arch] = {}
        for arch in known:
            if images := document.candidates(arch):
                first.setdefault(tuple(each.digest for each in images), arch)
        found = tuple(first.values())
        if not found:
            raise UnsupportedFeature(f"{shown(url)}: there is no image for any machine that larder knows")
        return found
    if isinstance(document, Index):
        alone = {each.digest for each in document.manifests if each.media_type in MANIFESTS}
        if len(alone) != 1:
            return ()
        document = manifests.parse(_get(url, alone.pop(), access))
    if not isinstance(document, Manifest) or document.config.media_type not in CONFIGS:
        return ()
    config = spec.parse(_get(url, document.config.digest, access), dict, "config")
    platform = Platform.read(config, "config")
    if platform is None:
        return ()
    for arch in known:
        if platform.runs_on(arch):
            return (arch,)
    raise manifests.no_image(known[0], [platform], shown(url))


def _get(url: str, digest: Digest, access: Access) -> bytes:
    """Return a small blob with `digest`, verified."""

    def attempt(place: str) -> bytes:
        opener: Opener = client if is_layout(place) else registry
        blob = layouts.blob(place, digest) if is_layout(place) else str(Reference.parse(place).pinned(digest))
        content = bytearray()
        with opener.open(blob) as answer:
            for piece in answer.body():
                content += piece
                if len(content) > JSON_LIMIT:
                    raise FetchError(f"the document is longer than {JSON_LIMIT} bytes, the limit for such a one")
        found = digests.of_bytes(bytes(content), digest.algorithm)
        if found != digest:
            raise DigestMismatch(f"a document with the wrong digest: expected {digest}, got {found}")
        return bytes(content)

    with (
        Client(offline=access.offline) as client,
        Registry(offline=access.offline) as registry,
        access.progress.meter(f"what {shown(url)} is for") as meter,
    ):
        places = with_mirrors((url,), access.mirrors)
        return first_of(places, attempt, label=shown(url), progress=access.progress, tick=lambda: meter.advance(0))
