"""What of an image goes into Lima's download cache, and what a template names where that does not help."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from recipes.cache import usage
from recipes.derive import engine
from recipes.errors import StoreError
from recipes.formats.codec import compression
from recipes.formats.io.digests import of_file
from recipes.model import DIGEST_LENGTHS
from recipes.names import tail
from recipes.redact import shown
from recipes.settings import user_cache

from . import lima
from .lima import Locations, Supply

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.store import Entry
    from recipes.derive.engine import Session
    from recipes.model import Identity, Image


#: Of files that are compressed as a whole.
_SUFFIXES = frozenset({".gz", ".xz", ".bz2", ".zst"})


def default_cache() -> Path:
    """Return where limactl keeps its cache, Go's os.UserCacheDir; raise StoreError if the user has no such folder."""
    found = user_cache("lima")
    if found is None:
        raise StoreError(
            "nothing says where Lima's cache is: this user has no home folder", hint="--lima-cache DIR says it"
        )
    return found


def misses(image: Image, identity: Identity, cache: Path) -> tuple[str, ...]:
    """Return the urls under which Lima would not find the image; raise StoreError where it would look under none."""
    urls = lima.cached_urls(image, identity)
    if not urls:
        raise StoreError(
            f"Lima caches what it downloads with http, and {shown(identity.urls[0])} is not",
            hint=f"larder lima:{image.name} --template prints what to write into a Lima template instead",
        )
    return tuple(url for url in urls if not lima.is_hit(lima.entry_of(cache, url), identity.digest, identity.size))


def fill(session: Session, image: Image, identity: Identity, cache: Path) -> None:
    """Put the image into Lima's cache, and say where."""
    missing = misses(image, identity, cache)
    if not missing:
        return
    progress, entry = session.progress, session.store.entry(image)
    with engine.lend(("fetch", "raw"), image, identity, session) as derive:
        receipt, wrapper = derive("fetch"), entry.artifact("fetch")
        with progress.meter(f"lima:{image.name}") as meter:
            digests = {digest.algorithm: digest for digest in (identity.digest, receipt.wrapper.digest)}
            for algorithm in DIGEST_LENGTHS.keys() - digests.keys():
                # These bytes were verified, so any of their digests is: a template may have another than images.toml.
                digests[algorithm] = of_file(wrapper, algorithm, meter)
            raw = None
            if lima.qcow2_header(wrapper) is not None:
                derive("raw")
                path = entry.artifact("raw")
                raw = path, of_file(path, identity.digest.algorithm, meter)
        for url in missing:
            lima.place(cache, url, Supply(wrapper, tuple(digests.values()), receipt.served, raw), progress)
            progress.note(f"lima:{image.name}: {lima.entry_of(cache, url)}, for {shown(url)}")
    for kind in {"fetch", "raw"} & set(entry.kinds()):
        usage.record(entry, kind)


def locations(session: Session, image: Image, identity: Identity, cache: Path) -> Locations:
    """Return what a template names: the urls, else the RAW in larder's cache, which is made where it is not there.

    That is for what Lima does not cache (local files), decompresses for each instance, or cannot convert (QCOW2 with
    zstd clusters, without qemu-img), as far as that is known without a download. Lima's cache is left as it is.
    """
    entry, urls = session.store.entry(image), lima.cached_urls(image, identity)
    if urls and not _is_compressed(entry, image, identity):
        data = lima.entry_of(cache, urls[0]) / "data"
        if not data.is_file() or not _is_costly(data):
            return Locations(urls, identity.digest, is_cached=not misses(image, identity, cache))
    entry.ask("raw")
    if not engine.ensure_current("raw", image, identity, session):
        engine.derive("raw", image, identity, session)
    usage.record(entry, "raw")
    return Locations((str(entry.artifact("raw")),), None)


def _is_costly(data: Path) -> bool:
    """Say whether Lima would convert `data` anew for each instance, or cannot."""
    header = lima.qcow2_header(data)
    return compression.probe_codec(data) is not None or (header is not None and header.compression == "zstd")


def _is_compressed(entry: Entry, image: Image, identity: Identity) -> bool:
    """Say whether the wrapper is compressed, as far as an artifact at hand or else the url tells."""
    if entry.current("fetch", engine.key_of("fetch", image, identity)) is not None:
        return compression.probe_codec(entry.artifact("fetch")) is not None
    receipt = entry.current("raw", engine.key_of("raw", image, identity))
    if receipt is not None and receipt.content is not None:
        return receipt.content.digest != receipt.wrapper.digest
    return PurePath(tail(identity.urls[0])).suffix in _SUFFIXES
