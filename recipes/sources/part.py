"""The part: a download's bytes so far, and beside them what a later process needs to go on from there.

``NAME.part`` holds the bytes and ``NAME.part.json`` (the sidecar) the `Origin` of them. The sidecar is written before
the first byte and only when no bytes of another origin are there, so a kill at any instant leaves bytes of the origin
that the sidecar names, or none. A loss of power may leave other bytes: the digest, which is always checked, tells.
"""

from __future__ import annotations

import dataclasses
import email.utils
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from recipes.formats.sparse import CHUNK, SparseFile, disk_errors
from recipes.model import Digest

from .urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

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

    Leaving the context closes the file and keeps part and sidecar, to be resumed. Errors: NoSpace.
    """

    def __init__(self, path: Path, digest: Digest) -> None:
        self.path = path
        self.digest = digest
        self.origin: Origin | None = None
        #: Whether the bytes came in more than one answer.
        self.pieced = False
        self._sidecar = path.with_name(f"{path.name}.json")
        self._hash = digest.hasher()
        self._file: SparseFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def position(self) -> int:
        """Return how many bytes are there."""
        return self._file.position if self._file else 0

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
        return origin if origin and origin.validator is not None and self.path.is_file() else None

    def restore(self, advance: Callable[[int], None]) -> None:
        """Take over what an earlier process left, where it can be resumed; hash it, telling `advance` its bytes."""
        origin = self.left()
        if origin is None:
            self.clear()
            return
        with self.path.open("rb", buffering=0) as file:
            while data := file.read(CHUNK):
                self._hash.update(data)
                advance(len(data))
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

    def write(self, data: bytes) -> None:
        """Add bytes that the origin served."""
        assert self._file is not None, "begin or restore comes first"
        self._file.write(data)
        self._hash.update(data)

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
        self.origin = None
        self.pieced = False
        self._hash = self.digest.hasher()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_sidecar(self) -> Origin | None:
        """Return the origin of the bytes; None where nothing readable says it, or they are for another digest."""
        try:
            fields: dict[str, Any] = json.loads(self._sidecar.read_bytes())
            return Origin(**fields) if fields.pop("digest") == str(self.digest) else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
