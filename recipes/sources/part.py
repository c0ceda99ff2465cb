"""The part: a download's bytes so far, and beside them what a later process needs to go on from there.

``NAME.part`` holds the bytes and ``NAME.part.json`` (the sidecar) the `Origin` of them. The sidecar is written before
the first byte and only when no bytes of another origin are there, so a kill at any instant leaves bytes of the origin
that the sidecar names, or none. A loss of power may leave other bytes: the digest, which is always checked, tells.
"""

from __future__ import annotations

import dataclasses
import email.utils
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from recipes import jsontext
from recipes.formats.io import sparse
from recipes.formats.io.files import disk_errors
from recipes.formats.io.sparse import CHUNK, SparseFile
from recipes.model import Digest
from recipes.redact import shown

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from recipes.formats.io.arrival import Arrival

#: Seconds that Date must be after Last-Modified for the latter to be a strong validator (RFC 7232, 2.2.2; RFC 9110,
#: 8.8.2.2 is content with one): a file that changes twice in a second keeps its Last-Modified.
_STRONG_AGE = 60


@dataclass(frozen=True, slots=True)
class Origin:
    """The answer that a part's bytes come from."""

    #: Without credentials, since this is kept on disk.
    url: str
    #: Bytes of the whole, where they were announced.
    size: int | None
    etag: str | None
    last_modified: str | None
    content_type: str | None
    #: What If-Range takes; None where the answer had no strong validator, and the rest cannot be asked for.
    validator: str | None

    @classmethod
    def of(cls, url: str, size: int | None, headers: Mapping[str, str]) -> Self:
        """Take the origin from the headers of an answer from `url`."""
        return cls(
            url=shown(url),
            size=size,
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
            content_type=headers.get("Content-Type"),
            validator=_strong_validator(headers),
        )


def _strong_validator(headers: Mapping[str, str]) -> str | None:
    """Return what If-Range may carry (RFC 9110, 13.1.5): a strong ETag, else a strong Last-Modified, else None.

    The RFC allows the date only where there is no ETag at all. Beside a weak one it is taken too, since the digest
    has the last word and nginx weakens every ETag of a file that it might have compressed.
    """
    if re.fullmatch(r'"[!#-~\x80-\xff]*"', etag := headers.get("ETag", "")):
        return etag
    modified = headers.get("Last-Modified", "")
    try:
        dates = [email.utils.parsedate_to_datetime(text) for text in (modified, headers.get("Date", ""))]
        return modified if (dates[1] - dates[0]).total_seconds() >= _STRONG_AGE else None
    except (ValueError, TypeError, OverflowError):
        return None


class Part:
    """The part at `path` of a download with `digest`; for one thread, under the lock of its owner.

    An `arrival` is told how far it is, for whoever reads along. Leaving the context closes the file and keeps part and
    sidecar, to be resumed. Errors: NoSpace.
    """

    def __init__(self, path: Path, digest: Digest, arrival: Arrival | None = None) -> None:
        self.path = path
        self._arrival = arrival
        self.digest = digest
        self.origin: Origin | None = None
        #: How many bytes are there.
        self.position = 0
        #: Whether the bytes came in more than one answer.
        self.pieced = False
        #: The digests that the whole goes by: bytes of anything else are not taken over.
        self._names = {str(digest)}
        self._sidecar = path.with_name(f"{path.name}.json")
        self._hash = digest.hasher()
        self._file: SparseFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def allocated(self) -> int:
        """Return the bytes on disk that `begin` gives back."""
        return sparse.allocated(self.path) if self.path.exists() else 0

    @property
    def actual(self) -> Digest:
        """Return the digest of the bytes that are there."""
        return Digest(self.digest.algorithm, self._hash.hexdigest())

    @property
    def complete(self) -> bool:
        """Say whether the bytes that are there are the ones that were asked for."""
        return self.position > 0 and self.actual == self.digest

    def left(self) -> Origin | None:
        """Return the origin of what an earlier process left in the part; None where nothing can be resumed."""
        origin = self._read_sidecar()
        return origin if origin and self._resumes(origin) and self.path.is_file() else None

    def restore(self, advance: Callable[[int], None]) -> None:
        """Take over what an earlier process left, where it can be resumed; hash it, telling `advance` its bytes.

        Bytes that are all there need nothing to be resumed by: that process may have ended just before it handed them
        over, and whatever origin a sidecar has, or had, of them, they are right.
        """
        origin = self._read_sidecar()
        if not self.path.is_file() or (origin is None and self._sidecar.exists()):
            self.clear()
            return
        if self._arrival:
            self._arrival.begin(origin.size if origin else None)
        with self.path.open("rb", buffering=0) as file:
            while data := file.read(CHUNK):
                self._add(data)
                advance(len(data))
        if not self.complete and (origin is None or not self._resumes(origin)):
            advance(-self.position)
            self.clear()
            return
        self._file = SparseFile(self.path, resume=True)
        self.origin = origin
        self.pieced = True

    def begin(self, origin: Origin) -> None:
        """Start over with bytes from `origin`."""
        self.clear()
        fields = {"digest": str(self.digest), **dataclasses.asdict(origin)}
        with disk_errors(self._sidecar):
            # In place: no byte depends on it yet, so one that was cut off by a kill loses nothing.
            self._sidecar.write_text(json.dumps(fields), encoding="utf-8")
        self._file = SparseFile(self.path)
        self.origin = origin
        if self._arrival:
            self._arrival.begin(origin.size)

    def continuation(self, url: str) -> dict[str, str]:
        """Return the headers that ask `url` for the rest; none where this is not a beginning of what it serves."""
        origin = self.origin
        if origin is None or origin.url != shown(url) or origin.validator is None or not self.position:
            return {}
        return {"Range": f"bytes={self.position}-", "If-Range": origin.validator}

    def agrees(self, headers: Mapping[str, str]) -> bool:
        """Say whether the rest, served with these headers, is of the same bytes, as far as they tell.

        A server that ignores If-Range tells here what its bytes are of.
        """
        origin = self.origin
        assert origin is not None, "a range is asked for only where there is an origin"
        said = (headers.get("ETag", origin.etag), headers.get("Last-Modified", origin.last_modified))
        return said == (origin.etag, origin.last_modified)

    def write(self, data: bytes) -> None:
        """Add bytes that the origin served."""
        assert self._file is not None, "begin or restore comes first"
        self._file.write(data)
        self._add(data)

    def finish(self) -> None:
        """Bring the bytes to the disk; the sidecar has served its purpose then."""
        assert self._file is not None, "begin or restore comes first"
        self._file.finish(self._file.position)
        self._close()
        self._sidecar.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove part and sidecar."""
        self._close()
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)
        self._forget()

    def _resumes(self, origin: Origin) -> bool:
        """Say whether the rest of what came from `origin` can be asked for."""
        return origin.validator is not None

    def _add(self, data: bytes) -> None:
        self._hash.update(data)
        self.position += len(data)
        if self._arrival:
            self._arrival.reach(self.position)

    def _forget(self) -> None:
        self.origin = None
        self.position = 0
        self.pieced = False
        self._hash = self.digest.hasher()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_sidecar(self) -> Origin | None:
        """Return the origin of the bytes; None where nothing readable says it, or they are for another digest."""
        try:
            fields: dict[str, Any] = jsontext.loads(self._sidecar.read_bytes())
            return Origin(**fields) if fields.pop("digest") in self._names else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


class Blob(Part):
    """The part of a download that registries have as the blob with `digest`; the whole may go by `others` as well.

    Whoever began it, a registry goes on with it: the digest is in the blob's url, so that serves these bytes or none.
    """

    def __init__(self, path: Path, digest: Digest, others: Iterable[Digest] = ()) -> None:
        super().__init__(path, digest)
        self._names.update(map(str, others))

    def continuation(self, url: str) -> dict[str, str]:
        """Return the headers that ask for the rest, which any url of the blob serves."""
        return {"Range": f"bytes={self.position}-"} if self.position else {}

    def agrees(self, headers: Mapping[str, str]) -> bool:
        """Leave it to the digest."""
        return True

    def _resumes(self, origin: Origin) -> bool:
        return True


class Section(Blob):
    """The part of a blob that is one section of a larger file, at `start` of the file at `path`; with `size` bytes.

    There is no sidecar: the digest is in a blob's url, which serves these bytes or none, so how far the file goes says
    everything. Sections are filled in their order; to begin one anew cuts off what is behind it. `before` is the state
    of a hash over the file up to here, `whole` the same with the section.
    """

    def __init__(self, path: Path, digest: Digest, *, start: int, size: int, before: hashlib._Hash) -> None:
        self._before = before
        self.whole = before.copy()
        super().__init__(path, digest)
        self._start = start
        self._size = size

    @property
    def allocated(self) -> int:
        """Return the bytes on disk that `begin` gives back."""
        return self.position

    def restore(self, advance: Callable[[int], None]) -> None:
        """Take over what is there of the section; hash it, telling `advance` its bytes."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._start)
            while data := file.read(min(CHUNK, self._size - self.position)):
                self._add(data)
                advance(len(data))
        if self.position < self._size:
            self.pieced = self.position > 0
            self._open()
        elif not self.complete:
            advance(-self.position)
            self.clear()

    def begin(self, origin: Origin) -> None:
        """Start over with bytes from `origin`."""
        self.clear()
        self._open()
        self.origin = origin

    def finish(self) -> None:
        """Bring the bytes to the disk."""
        if self._file is not None:
            self._file.finish(self._start + self.position)
            self._close()

    def clear(self) -> None:
        """Cut the file off where the section starts."""
        self._close()
        if self.path.stat().st_size > self._start:
            os.truncate(self.path, self._start)
        self._forget()

    def _add(self, data: bytes) -> None:
        super()._add(data)
        self.whole.update(data)

    def _forget(self) -> None:
        super()._forget()
        self.whole = self._before.copy()

    def _open(self) -> None:
        self._file = SparseFile(self.path, resume=True)
        # Zeros at the end of what came before may be missing, as holes that the file does not go up to.
        self._file.position = self._start + self.position
