"""From a registry, where somebody else has made the same, to the cache: instead of fetching and deriving it.

Only the registry that images.toml declares is asked, and it is believed no further than that goes: what it has under a
key must be for that key, kind and recipe, of an allowed size, and the bytes that its receipt records. Anything else is
refused, and made here.
"""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from threading import Lock
from typing import TYPE_CHECKING

from recipes.cache.receipt import Pulled
from recipes.derive import engine
from recipes.errors import CorruptImage, DigestMismatch, FetchError, Interrupted, LarderError, LimitExceeded
from recipes.formats.codec import zstd_disk
from recipes.formats.codec.arriving import arriving
from recipes.formats.io import blkhash as blkhashes
from recipes.formats.io import digests
from recipes.formats.io.context import Context
from recipes.kinds import DERIVABLE, KINDS
from recipes.progress import SILENT_METER
from recipes.reference import serves_by_digest
from recipes.sources.download import receive, require_room
from recipes.sources.flow import Flow
from recipes.sources.part import Blob
from recipes.sources.registry import Registry
from recipes.sources.retry import Retryable
from recipes.units import format_size, now

from . import manifest as shape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from recipes.cache.store import Held
    from recipes.derive.engine import Session
    from recipes.derive.recipe import Limits
    from recipes.model import BlockHash, Identity, Image
    from recipes.progress import Progress
    from recipes.reference import Namespace, Reference

    from .manifest import Shared

#: Seconds to wait for a connection, and for the next byte: whatever a registry may have can be made without it.
TIMEOUTS = (3.0, 15.0)
#: Threads that decode: each takes 16 MiB, and two keep up with a fast network.
_MAX_JOBS = 2


def lacking(kind: str, image: Image, identity: Identity, session: Session) -> list[str]:
    """Return `kind` and what it is made from, as far as that would have to be fetched and made; the nearest first.

    Nothing where it is current, and nothing where an input is: it is made of that without any network.
    """
    found = []
    wanted: str | None = kind
    while wanted is not None:
        if engine.ensure_current(wanted, image, identity, session):
            return []
        found.append(wanted)
        wanted = DERIVABLE[image.kind][wanted]
    return found


class Remote:
    """The registry of a project, during one run: one that does not answer is asked no more."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        #: Whether it was not to be had.
        self.is_gone = False
        self._answers = False
        self._first = Lock()
        #: Names of the repositories that it does not let us read.
        self._closed: set[str] = set()
        self._told: set[str] = set()

    def pull(self, kinds: Collection[str], image: Image, identity: Identity, session: Session) -> list[str]:
        """Bring what the registry has of `kinds`, or of what they are made from, into the cache; return what that was.

        What another process brought, or made, meanwhile counts as well. What cannot be had is a warning, and no error
        but Interrupted is raised.
        """
        pulled = []
        plain = {self.namespace.host} if self.namespace.plain else ()
        with Registry(offline=session.limits.offline, plain=plain, timeouts=TIMEOUTS) as registry:
            for kind in kinds:
                for each in lacking(kind, image, identity, session):
                    if _Pull(self, registry, each, image, identity, session).run(kind):
                        pulled.append(each)
                        break
        return pulled

    def find(self, registry: Registry, reference: Reference, progress: Progress) -> bytes | None:
        """Return a manifest; None where there is none, or the registry does not give it."""
        # The others wait for whoever asks first, instead of waiting each for the same timeout.
        with nullcontext() if self._answers else self._first:
            if self.is_gone or reference.name in self._closed:
                return None
            try:
                found = registry.find(reference)
            except Retryable as error:
                self.is_gone = True
                self._tell(progress, f"{self.namespace}: {error.message}; going on without this registry")
                return None
            except FetchError as error:
                self._closed.add(reference.name)
                self._tell(progress, f"{self.namespace}: {error}")
                return None
            self._answers = True
            return found

    def _tell(self, progress: Progress, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            progress.note(message)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pull:
    """One artifact that is not here."""

    remote: Remote
    registry: Registry
    kind: str
    image: Image
    identity: Identity
    session: Session

    def run(self, wanted: str) -> bool:
        """Say whether the artifact is here now, or not lacked any more for the kind `wanted` that is made from it."""
        progress, key = self.session.progress, engine.key_of(self.kind, self.image, self.identity)
        reference = self.remote.namespace.repository(self.image.name).tag_of(key)
        label = f"{self.kind}:{self.image.name}"
        manifest = self.remote.find(self.registry, reference, progress)
        if manifest is None:
            return False
        try:
            shared = shape.read(manifest)
            _require(shared, self.kind, key, self.image, self.identity, self.session.limits)
            with self.session.store.entry(self.image).hold(progress) as held:
                # Asked again: while this one waited another process may have made what it was for, and released it.
                if self.kind not in self._lacking(held, wanted):
                    return True
                self._publish(held, shared, reference, manifest, label)
        except Interrupted:
            raise
        except (LarderError, OSError) as error:
            message = error.message.removeprefix(f"{label}: ") if isinstance(error, LarderError) else str(error)
            progress.note(f"{label}: not pulled from {self.remote.namespace}: {message}; making it here")
            return False
        progress.note(f"{label}: pulled from {self.remote.namespace}, {format_size(shared.layer.size)}")
        return True

    def _lacking(self, held: Held, wanted: str) -> set[str]:
        def is_current(kind: str) -> bool:
            return engine.is_current(held.entry, kind, self.image, self.identity)

        return {kind for kind in engine.needed(self.image, {wanted}, is_current) if not is_current(kind)}

    def _publish(self, held: Held, shared: Shared, reference: Reference, manifest: bytes, label: str) -> None:
        blob = str(reference.pinned(shared.layer.digest))
        path = held.temporary(self.kind)
        found: BlockHash | None = None
        with self.session.progress.meter(label, shared.layer.size) as meter:
            if not shared.is_zstd and self.kind == "fetch":
                # Where a download of it would be resumed, and so a pull in another process is.
                path = held.entry.part
            with self._part(path, shared, label) as part:
                receive(
                    self.registry,
                    part,
                    [blob],
                    Context(self.session.progress, label),
                    size=shared.layer.size,
                    meter=meter,
                )
                if isinstance(part, Flow):
                    found = part.result
            try:
                _verify(path, shared, found)
            except LarderError:
                path.unlink()
                raise
        pulled = Pulled(str(reference), str(digests.of_bytes(manifest)), now())
        receipt = dataclasses.replace(
            shared.receipt, image=self.image.name, arch=self.image.arch, identity=self.identity, pulled=pulled
        )
        self.session.made(held.entry, held.publish(path, receipt))

    def _part(self, path: Path, shared: Shared, label: str) -> Blob:
        """Return what the layer arrives in: `path` itself, or what decodes it to `path` meanwhile."""
        if not shared.is_zstd:
            # From upstream it would be known by the digest that it is declared with.
            return Blob(
                path, shared.layer.digest, [self.identity.digest] if not serves_by_digest(self.identity.urls[0]) else []
            )
        # Nothing of it was there before; what arrives says how much it has compressed only.
        require_room(path.parent, shared.receipt.artifact.allocated, label)

        def expand(chunks: Iterator[bytes]) -> BlockHash:
            return zstd_disk.expand_wrapper(
                arriving(chunks, label, "zstd", shared.layer.size, look_back=zstd_disk.LOOK_BACK),
                path,
                jobs=min(self.session.limits.jobs, _MAX_JOBS),
                limit=shared.receipt.artifact.size,
                meter=SILENT_METER,
            )

        return Flow(path, shared.layer.digest, expand)


def _require(shared: Shared, kind: str, key: str, image: Image, identity: Identity, limits: Limits) -> None:
    """Raise an ImageError or a DigestMismatch where this cannot be what was asked for, before any of it is read."""
    receipt, layer = shared.receipt, shared.layer
    expected = (kind, key, engine.RECIPES[kind].name, shape.is_compressed(kind))
    found = (receipt.kind, receipt.key, receipt.recipe, shared.is_zstd)
    if expected != found:
        raise CorruptImage(f"expected {_words(*expected)}, found {_words(*found)}")
    artifact = receipt.artifact
    own = KINDS[kind].own_size
    limit = max(limits.max_virtual_size, getattr(image, own) if own else 0)
    if artifact.size > limit:
        raise LimitExceeded(f"expected {limit} bytes at the most, its receipt says {artifact.size}")
    # Zstandard's bound, with some room for the frames.
    most = artifact.size + (artifact.size >> 7) + (64 << 10) if shared.is_zstd else artifact.size
    if layer.size > most:
        raise CorruptImage(f"expected a layer of {most} bytes at the most, found {layer.size}")
    if artifact.digest is None and artifact.blkhash is None:
        raise CorruptImage("its receipt records no digest")
    # The digest of an image from a registry is its manifest's.
    if not serves_by_digest(identity.urls[0]) and receipt.wrapper.digest != identity.digest:
        raise DigestMismatch(f"expected what is made of {identity.digest}, found what is of {receipt.wrapper.digest}")
    if kind == "fetch" and artifact.digest != receipt.wrapper.digest:
        raise DigestMismatch(f"expected a wrapper with {receipt.wrapper.digest}, found {artifact.digest}")
    declared = identity.size if kind == "fetch" and not serves_by_digest(identity.urls[0]) else None
    if declared not in (None, artifact.size):
        raise CorruptImage(f"expected {declared} bytes, its receipt says {artifact.size}")
    inside, published = receipt.content.digest if receipt.content else None, identity.content
    if published and inside and inside.algorithm == published.algorithm and inside != published:
        raise DigestMismatch(f"expected the content {published}, found {inside}")


def _words(kind: str, key: str, recipe: str, is_zstd: bool) -> str:
    return f"{kind} {key} by {recipe} {'as zstd' if is_zstd else 'as it is'}"


def _verify(path: Path, shared: Shared, blkhash: BlockHash | None) -> None:
    """Raise DigestMismatch where the file at `path` is not what its receipt records."""
    expected = shared.receipt.artifact
    if (size := path.stat().st_size) != expected.size:
        raise DigestMismatch(f"expected {expected.size} bytes, found {size}")
    digest = expected.digest
    if expected.blkhash is not None and (blkhash is not None or digest is None):
        found = blkhash or blkhashes.of_file(path, jobs=_MAX_JOBS, meter=SILENT_METER)
        if found != expected.blkhash:
            raise DigestMismatch(f"expected blkhash {expected.blkhash}, found {found}")
        return
    if digest is None:
        raise DigestMismatch("expected a digest in its receipt, found none that its bytes can be held against")
    # The layer's was verified as it arrived.
    verified = shared.layer.digest if not shared.is_zstd else None
    if digest != verified and (read := digests.of_file(path, digest.algorithm)) != digest:
        raise DigestMismatch(f"expected {digest}, found {read}")
