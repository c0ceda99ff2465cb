"""What is sent to registries: blobs, and the manifests that refer to them.

OCI distribution-spec 1.1, "Push": a blob whose digest is known at its end goes up as POST, PATCH, PUT. The PATCH is one
for all of the blob, a body of unknown length (RFC 9112, 7.1) without a Content-Range, as docker and podman send it. Not
the spec's chunks, a PATCH for each 4 MiB, which is the longest that GHCR takes with a Content-Range: that took twice
the time on loopback, and a round trip for each elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import closing, contextmanager
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from recipes.errors import FetchError, LarderError
from recipes.model import Digest
from recipes.redact import shown

from .registry import manifest_of, said_of
from .retry import Retryable, first_of
from .urls import join, split

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from recipes.progress import Progress
    from recipes.reference import Reference

    from .http import Answer, Body, Method
    from .registry import Registry

T = TypeVar("T")

#: Bytes that are sent at once, for which a registry has the time of `http.READ_TIMEOUT`.
PIECE = 256 << 10

#: Where a body went that has to go elsewhere; it is not sent again as it is, as the others are.
_ELSEWHERE = (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
#: How registries say that they know of no such upload, or that it is elsewhere than we are.
_LOST = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


class UploadLost(LarderError):
    """The registry has forgotten an upload, or a part of it: it has to begin anew, which trying again does not."""


def exists(registry: Registry, blob: Reference) -> bool:
    """Say whether the repository has the blob with this digest."""
    accept = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
    with registry.ask("HEAD", blob, f"blobs/{blob.digest}", accept=accept) as answer:
        return answer.status == HTTPStatus.OK


def mount(registry: Registry, blob: Reference, source: Reference) -> bool:
    """Have the repository of `blob` take it from that of `source`, which has it; say whether it did."""
    what = f"blobs/uploads/?mount={blob.digest}&from={source.name}"
    # 202 begins an upload instead, which nobody goes on with; registries drop those after a while.
    accept = (HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
    with registry.ask("POST", blob, what, accept=accept, data=b"") as answer:
        return answer.status == HTTPStatus.CREATED


def put_manifest(registry: Registry, reference: Reference, data: bytes, media_type: str) -> bool:
    """Put a manifest or index under the tag of `reference`; False where a blob or manifest that it names is missing."""
    accept = (HTTPStatus.CREATED, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
    headers = {"Content-Type": media_type}
    with registry.ask("PUT", reference, manifest_of(reference), headers, accept=accept, data=data) as answer:
        if answer.status == HTTPStatus.CREATED:
            return True
        said = said_of(answer)
        if "BLOB_UNKNOWN" in said or "MANIFEST_UNKNOWN" in said:
            return False
        raise FetchError(f"the registry takes no such manifest: {answer.status}: {said}")


class Upload:
    """One blob on its way to the repository of `repository`; for one thread.

    `send` tries again where that may help, and goes on where the registry says that it has got to. Errors: UploadLost;
    FetchError; what `tick`, which is called while waiting, raises.
    """

    def __init__(
        self,
        registry: Registry,
        repository: Reference,
        *,
        label: str,
        progress: Progress,
        tick: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._label = label
        self._progress = progress
        self._tick = tick
        #: Where the next request goes, once the upload has begun.
        self._location: str | None = None
        #: Attempts to send the blob so far.
        self._attempts = 0
        #: Bytes of the blob that were sent.
        self.size = 0

    def send(self, pieces: Callable[[], Generator[bytes]], digest: Digest | None = None) -> Digest:
        """Send a blob and return its digest; `pieces` gives all of it, in pieces of any length, once for each attempt.

        It must give the same each time, and raise no OSError: that is one of the connection here. With `digest` the
        blob is not hashed here: it is the registry that compares, and refuses another.
        """
        self._persevere(self._begin)
        found = self._persevere(lambda: self._send(pieces, digest))
        self._persevere(lambda: self._finish(found))
        return found

    def _begin(self) -> None:
        accept = (HTTPStatus.ACCEPTED,)
        with self._registry.ask("POST", self._repository, "blobs/uploads/", accept=accept, data=b"") as answer:
            self._follow(answer)

    def _send(self, pieces: Callable[[], Generator[bytes]], known: Digest | None) -> Digest:
        """Send what the registry does not have yet, and return the digest of the whole."""
        kept = self._kept() if self._attempts else 0
        self._attempts += 1
        hasher = hashlib.sha256()

        def left() -> Generator[bytes]:
            self.size = 0
            with closing(pieces()) as source:
                for piece in source:
                    if known is None:
                        hasher.update(piece)
                    new = piece[max(0, kept - self.size) :]
                    self.size += len(piece)
                    for at in range(0, len(new), PIECE):
                        yield new[at : at + PIECE]

        with closing(left()) as body:
            # Before there is a connection: to make what the registry has already may take longer than it waits.
            first = next(body, None)
            if kept > self.size:
                raise UploadLost(f"expected the registry to have {self.size} bytes of an upload at most, found {kept}")
            if first is not None:
                self._patch(chain((first,), body))
        return known or Digest("sha256", hasher.hexdigest())

    def _patch(self, body: Iterator[bytes]) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        with self._continue("PATCH", (HTTPStatus.ACCEPTED, *_ELSEWHERE), headers, body) as answer:
            # What Range says here is no use: at some registries it stays behind. That the blob was not taken whole
            # shows in the digest.
            moved = answer.status != HTTPStatus.ACCEPTED
        if moved:
            raise Retryable(f"the upload goes on elsewhere, at {shown(self._location or '')}")

    def _kept(self) -> int:
        """Return the number of bytes that the registry has kept."""
        with self._continue("GET", (HTTPStatus.NO_CONTENT,)) as answer:
            span = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
        if span is None:
            raise UploadLost("the registry does not say how much of an upload it has")
        # An upload without a byte is 0-0, as that of one byte is.
        return int(span[1]) + (span[1] != "0")

    def _finish(self, digest: Digest) -> None:
        assert self._location is not None, "send begins the upload"
        location = f"{self._location}{'&' if split(self._location).query else '?'}digest={digest}"
        # One that was gone on with may have been so elsewhere than the registry said.
        accept = (HTTPStatus.CREATED, *(_LOST if self._attempts > 1 else ()))
        try:
            with self._registry.ask("PUT", self._repository, location, accept=accept, data=b"") as answer:
                if answer.status != HTTPStatus.CREATED:
                    raise self._lost(answer)
        except (FetchError, UploadLost):
            # It may be the answer alone that did not arrive, and a second PUT finds no upload any more.
            if not exists(self._registry, self._repository.pinned(digest)):
                raise

    @contextmanager
    def _continue(
        self,
        method: Method,
        statuses: tuple[HTTPStatus, ...],
        headers: Mapping[str, str] | None = None,
        data: Body | None = None,
    ) -> Iterator[Answer]:
        """Send a request about this upload, which is answered with one of `statuses` if the registry knows of it."""
        assert self._location is not None, "send begins the upload"
        accept = (*statuses, *_LOST)
        with self._registry.ask(method, self._repository, self._location, headers, accept=accept, data=data) as answer:
            if answer.status not in statuses:
                raise self._lost(answer)
            yield answer
            self._follow(answer)

    def _lost(self, answer: Answer) -> UploadLost:
        return UploadLost(f"the registry does not go on with an upload: {answer.status}: {said_of(answer)}")

    def _follow(self, answer: Answer) -> None:
        """Take the url of the next request from the answer to this one."""
        location = answer.headers.get("Location")
        if location is None and self._location is None:
            raise FetchError("the registry does not say where to send a blob")
        self._location = join(answer.url, location or self._location or "")
        if split(answer.url).scheme == "https" and split(self._location).scheme != "https":
            raise FetchError(f"refused to send a blob to {shown(self._location)!r}: only https is expected")

    def _persevere(self, attempt: Callable[[], T]) -> T:
        return first_of(
            [str(self._repository)],
            lambda _: attempt(),
            label=self._label,
            progress=self._progress,
            tick=self._tick,
            reached=lambda: self.size,
        )
