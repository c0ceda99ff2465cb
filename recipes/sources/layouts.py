"""Image layouts in folders, as if they were registries: ``file:///FOLDER/``, the slash says that it is one.

A layout serves by digest as a registry does (OCI image-spec 1.1, image-layout.md): each blob is a file called after its
digest, and ``index.json`` says which images there are, as a tag does. So what it holds is known by the digest of a
manifest or an index in it, or of index.json itself; every byte is verified on the way into the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.errors import DigestMismatch, FetchError, UnsupportedFeature, printable
from recipes.formats.io import digests
from recipes.formats.oci.spec import IMAGE_NAME, JSON_LIMIT, MANIFESTS, REF_NAME, Platform

from . import pages
from .manifests import Index, Named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recipes.model import Arch, Digest
    from recipes.progress import Progress

    from .http import Client

_INDEX = "index.json"


def latest(urls: Sequence[str], *, label: str, offline: bool, progress: Progress) -> bytes:
    """Return index.json of the first of the layouts `urls` that has one. Errors: FetchError, with every url's."""
    page = pages.get([f"{url}{_INDEX}" for url in urls], label=label, offline=offline, progress=progress)
    assert isinstance(page, pages.Page), "the request was not conditional"
    return page.content


def blob(url: str, digest: Digest) -> str:
    """Return the url of the blob with `digest` in the layout at `url`."""
    return f"{url}blobs/{digest.algorithm}/{digest.hex}"


def document(client: Client, url: str, digest: Digest, arch: Arch) -> bytes:
    """Return the manifest or index with `digest` in the layout at `url`, verified; index.json is one as well.

    Errors: FetchError where there is none, DigestMismatch where a blob is not what its name says; those of
    `require_one`.
    """
    try:
        data = _read(client, blob(url, digest))
    except FetchError as error:
        try:
            index = _read(client, f"{url}{_INDEX}")
        except FetchError:
            raise error from None
        if digests.of_bytes(index, digest.algorithm) != digest:
            raise FetchError(
                f"the layout has neither a manifest nor an index with the digest {digest}",
                hint="digest is the one of a manifest or an index in it, or of its index.json",
            ) from error
        require_one(Named.parse(index), arch, url)
        return index
    if (found := digests.of_bytes(data, digest.algorithm)) != digest:
        raise DigestMismatch(
            f"a manifest with the wrong digest: expected {digest}, got {found}",
            hint="the layout is damaged: copy it again; nothing of it was kept",
        )
    return data


def require_one(named: Named, arch: Arch, where: str) -> None:
    """Raise UnsupportedFeature where the index.json `named` has several images for `arch`: names, but no order."""
    if not isinstance(named.document, Index):
        return
    images = [each for each in named.document.manifests if each.media_type in MANIFESTS]
    fitting = [each for each in images if each.platform and each.platform.runs_on(arch)]
    found = {each.digest: each for each in fitting or [each for each in images if each.platform is None]}
    if len(found) > 1:
        names = [
            printable(str(each.annotations.get(IMAGE_NAME) or each.annotations.get(REF_NAME) or "one without a name"))
            for each in found.values()
        ]
        listing = ", ".join(f"{digest} ({name[:100]})" for digest, name in zip(found, names, strict=True))
        raise UnsupportedFeature(
            f"{where}: expected one image for {Platform.of(arch)}, found {len(found)}: {listing}",
            hint="declare the digest of the one that you want",
        )


def _read(client: Client, url: str) -> bytes:
    data = bytearray()
    with client.open(url) as answer:
        for piece in answer.body():
            data += piece
            if len(data) > JSON_LIMIT:
                raise FetchError(f"the document is longer than {JSON_LIMIT} bytes, the limit for such a one")
    return bytes(data)
