"""From the cache to a registry, for everybody who would make the same."""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from recipes.errors import CorruptImage, FetchError, StoreError
from recipes.formats.codec import zstd_disk
from recipes.formats.io import digests, probe
from recipes.formats.oci.spec import INDEX, MANIFEST
from recipes.sources import uploads
from recipes.sources.registry import Registry
from recipes.sources.retry import first_of
from recipes.sources.uploads import Upload, UploadLost

from . import manifest as shape
from .manifest import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Entry
    from recipes.formats.io.context import Context
    from recipes.model import Digest
    from recipes.progress import Meter, Progress
    from recipes.reference import Namespace, Reference

T = TypeVar("T")

#: zstd's own default: the next level took twice the time for 2 % less on a Debian.
LEVEL = 3
#: Times that a blob which the registry loses is sent, and that the index is written while others write it.
_ATTEMPTS = 3
_INDEX_ATTEMPTS = 8
#: The second look at the index comes after this many times as long, on average, as it took to read and to write it:
#: that is long for anybody who has read it before and is about to write it, near the registry or far from it.
SETTLE = 10
#: Seconds, on average, that it waits at the most.
_MAX_SETTLE = 2.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """An artifact that is in the registry now."""

    kind: str
    #: Where it is, under its key.
    reference: Reference
    #: Bytes of it that were sent; 0 where the registry had it.
    sent: int


def push(
    namespace: Namespace,
    entry: Entry,
    receipts: Sequence[Receipt],
    context: Context,
    *,
    twins: Mapping[str, Collection[str]],
    offline: bool,
) -> list[Pushed]:
    """Bring the artifacts of `receipts`, all of `entry`, to the registry, and the moving tag of the image up to date.

    `twins` names, by kind, other images that have the same artifact: their repositories may have it already.

    Errors: FetchError; OfflineError; StoreError where an artifact is not what its receipt says.
    """
    tag = namespace.repository(entry.image)
    plain = {namespace.host} if namespace.plain else ()
    label, progress = context.label, context.progress
    with Registry(offline=offline, plain=plain, push=True) as registry:
        done: list[Pushed] = []
        manifests: dict[Reference, bytes] = {}
        for receipt in receipts:
            others = [namespace.repository(name) for name in twins.get(receipt.kind, ())]
            with context.meter(what=receipt.kind) as meter:
                job = _Job(registry, tag, entry, receipt, context.jobs, progress, _Attempts(meter), label)
                manifest, sent = job.run(others)
            done.append(Pushed(receipt.kind, tag.tag_of(receipt.key), sent))
            manifests[done[-1].reference] = manifest
        with context.meter(what=tag.tag or "") as meter:
            _publish(registry, tag, manifests, progress, meter, label)
    return done


@dataclass(frozen=True, slots=True)
class _Job:
    """One artifact on its way."""

    registry: Registry
    repository: Reference
    entry: Entry
    receipt: Receipt
    jobs: int
    progress: Progress
    meter: _Attempts
    label: str

    def run(self, twins: Sequence[Reference]) -> tuple[bytes, int]:
        """Return the manifest as the registry has it, and the bytes that were sent for it."""
        target = self.repository.tag_of(self.receipt.key)
        present = self._patiently(target, lambda: self._present(target))
        if present is not None:
            return present, 0
        sent = 0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                layer = self._mounted(twins)
                if layer is None:
                    layer, count = self._send_layer()
                    sent += count
                self._send_config()
                manifest = shape.manifest(self.receipt, layer, is_qcow2=self._is_qcow2())
                if self.entry.current(self.receipt.kind, self.receipt.key) != self.receipt:
                    raise StoreError(
                        f"{self.label}: {self.receipt.kind} was replaced while it was sent", hint="push it again"
                    )
                if self._put(target, manifest):
                    return manifest, sent
                lost = "it does not have any more what it was sent a moment ago"
            except UploadLost as error:
                lost = error.message
            if attempt < _ATTEMPTS:
                self.progress.note(f"{self.label}: {self.receipt.kind}: {lost}; sending it again")
        raise FetchError(
            f"{self.label}: {target}: given up after {_ATTEMPTS} attempts: {lost}",
            hint="a registry that collects garbage while it is pushed to loses blobs; push again after that",
        )

    def _present(self, target: Reference) -> bytes | None:
        """Return the manifest in the registry, where it is one of this artifact and its blob is there as well."""
        found = _find(self.registry, target)
        if found is None:
            return None
        manifest, layer = found
        return manifest if uploads.exists(self.registry, target.pinned(layer.digest)) else None

    def _mounted(self, twins: Sequence[Reference]) -> Layer | None:
        """Return the layer that another repository had; None where it has to be sent."""
        # To take it is a kindness of the registry: what is wrong shows again with what follows.
        with suppress(FetchError):
            for twin in twins:
                found = _find(self.registry, twin.tag_of(self.receipt.key))
                if found and uploads.mount(self.registry, self.repository.pinned(found[1].digest), twin):
                    return found[1]
        return None

    def _send_layer(self) -> tuple[Layer, int]:
        """Return the layer, and the bytes of it that were sent."""
        path = self.entry.artifact(self.receipt.kind)
        if shape.is_compressed(self.receipt.kind):
            upload = self._upload()
            layer = Layer(upload.send(lambda: self._compressed(path)), upload.size)
            return layer, layer.size
        with self._reading(path):
            size = path.stat().st_size
            layer = Layer(self._digest(path), size)
        if self._has(layer.digest):
            return layer, 0
        try:
            self._upload().send(lambda: self._pieces(path), layer.digest)
        except (FetchError, UploadLost):
            with self._reading(path):
                found = digests.of_file(path, "sha256")
            if found != layer.digest:
                raise StoreError(
                    f"{self.label}: {path}: expected {layer.digest}, found {found}",
                    hint=f"`larder verify --repair {self.receipt.image}` rebuilds it",
                ) from None
            raise
        return layer, size

    def _send_config(self) -> None:
        if not self._has(digests.of_bytes(shape.EMPTY)):
            self._upload().send(lambda: (piece for piece in (shape.EMPTY,)))

    def _put(self, target: Reference, manifest: bytes) -> bool:
        return self._patiently(target, lambda: uploads.put_manifest(self.registry, target, manifest, MANIFEST))

    def _has(self, digest: Digest) -> bool:
        blob = self.repository.pinned(digest)
        return self._patiently(blob, lambda: uploads.exists(self.registry, blob))

    def _upload(self) -> Upload:
        return Upload(self.registry, self.repository, label=self.label, progress=self.progress, tick=self._tick)

    def _compressed(self, path: Path) -> Generator[bytes]:
        self.meter.begin()
        with self._reading(path):
            yield from zstd_disk.compress(path, jobs=self.jobs, level=LEVEL, meter=self.meter)

    def _pieces(self, path: Path) -> Generator[bytes]:
        self.meter.begin()
        with self._reading(path), path.open("rb", buffering=0) as file:
            self.meter.expect(os.fstat(file.fileno()).st_size)
            while piece := file.read(uploads.PIECE):
                yield piece
                self.meter.advance(len(piece))

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.label}: {path} cannot be read: {error.strerror}") from error

    def _digest(self, path: Path) -> Digest:
        known = self.receipt.artifact.digest
        # What registries store by; upstream's own may be a SHA-512.
        return known if known and known.algorithm == "sha256" else digests.of_file(path, "sha256")

    def _is_qcow2(self) -> bool:
        return self.receipt.kind == "fetch" and probe.probe(self.entry.artifact("fetch")) == "qcow2"

    def _patiently(self, reference: Reference, ask: Callable[[], T]) -> T:
        return _patiently(reference, ask, self.label, self.progress, self._tick)

    def _tick(self) -> None:
        self.meter.advance(0)


class _Attempts:
    """A meter that counts a layer once, however often it is sent."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._done = 0
        self._lock = Lock()
        self.expect = meter.expect

    def advance(self, count: int) -> None:
        """Advance the meter."""
        with self._lock:
            self._done += count
        self._meter.advance(count)

    def begin(self) -> None:
        """Take back what is sent once more."""
        self.advance(-self._done)


def _find(registry: Registry, target: Reference) -> tuple[bytes, Layer] | None:
    """Return the manifest under a tag that is a key, and its layer, where it is one of an artifact with that key."""
    manifest = registry.find(target)
    with suppress(CorruptImage):
        if manifest is not None and (found := shape.read(manifest)).receipt.key == target.tag:
            return manifest, found.layer
    return None


def _publish(
    registry: Registry,
    tag: Reference,
    manifests: Mapping[Reference, bytes],
    progress: Progress,
    meter: Meter,
    label: str,
) -> None:
    """Have the index under the moving tag name `manifests`, by their tags, beside what others have put there.

    Registries do not compare and swap, so it is read again after it was written. Whoever has pushed the same meanwhile
    has a manifest of its own: the one that is under the key is meant then, by both. What two pushers at once still lose
    is put back by the next push of it, even where that finds nothing to send.
    """

    def tick() -> None:
        meter.advance(0)

    def meant(target: Reference, manifest: bytes) -> bytes:
        found = _patiently(target, lambda: _find(registry, target), label, progress, tick)
        return found[0] if found else manifest

    for attempt in range(_INDEX_ATTEMPTS):
        began = time.monotonic()
        present = _patiently(tag, lambda: registry.find(tag), label, progress, tick)
        if attempt > 1:
            manifests = {target: meant(target, manifest) for target, manifest in manifests.items()}
        entries = [shape.entry(manifest) for manifest in manifests.values()]
        try:
            wanted = shape.index(present, entries)
            if wanted == present:
                return
            if not uploads.put_manifest(registry, tag, wanted, INDEX):
                # Somebody has deleted what the index still names.
                wanted = shape.index(present, entries, _gone(registry, tag, wanted))
                uploads.put_manifest(registry, tag, wanted, INDEX)
        except CorruptImage as error:
            raise FetchError(
                f"{label}: {tag}: {error.message}", hint="something else was pushed under this tag; delete it there"
            ) from error
        _sleep(min(SETTLE * (time.monotonic() - began), _MAX_SETTLE) * random.uniform(0.5, 1.5), tick)
    raise FetchError(f"{label}: {tag}: what was written to it {_INDEX_ATTEMPTS} times was replaced each time")


def _gone(registry: Registry, tag: Reference, index: bytes) -> set[str]:
    """Return the digests of the manifests in `index` that the registry does not have."""
    found = shape.manifests_in(index)
    return {str(digest) for digest in found if registry.find(tag.pinned(digest)) is None}


def _patiently(
    reference: Reference, ask: Callable[[], T], label: str, progress: Progress, tick: Callable[[], None]
) -> T:
    return first_of([str(reference)], lambda _: ask(), label=label, progress=progress, tick=tick)


def _sleep(seconds: float, tick: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        tick()
        time.sleep(min(left, 0.1))
