"""Checksum lists as last seen: asked for once a run, verified before they are kept, good while upstream is down.

What a tag in a registry names is kept as a list is: the document is the registry's manifest or index then.

What asks and what verifies is imported where that is done: most runs look at the copies only.

One JSON file per list in the cache holds the text (of a signed one, only what the signature covers), what makes the
next request conditional, and when upstream last confirmed it; it is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Self

from recipes import jsontext
from recipes.errors import FetchError, ImageError, LarderError, OfflineError, SignatureError, StoreError
from recipes.formats.io import files
from recipes.names import tail
from recipes.redact import shown
from recipes.reference import SCHEME, Reference, is_layout, serves_by_digest

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import Source

    from . import pages
    from .access import Access
    from .checksums import ChecksumList
    from .manifests import Named

    Listing = ChecksumList | Named

#: Seconds for which a list is taken as it is, so that a person who runs doit again and again does not wait for it.
TTL = 3600.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """A list as it is in the cache."""

    url: str
    #: When upstream served it, or said that it is still right; seconds since the epoch.
    confirmed: float
    validators: pages.Validators
    text: str

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read what `dump` wrote; raise ValueError, TypeError or KeyError where it is something else."""
        from . import pages

        fields = jsontext.loads(data)
        return cls(
            str(fields["url"]),
            float(fields["confirmed"]),
            pages.Validators(**fields["validators"]),
            str(fields["text"]),
        )

    def dump(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class ListRef:
    """A checksum list, or a tag in a registry, as a declaration refers to it."""

    url: str
    signature: str | None
    keyring: Path | None
    #: Name of its task and file: the same for all images that refer to it in the same way, keyring's bytes included.
    key: str

    @classmethod
    def of(cls, source: Source) -> Self | None:
        """Return the list that decides about `source`; None for a pinned one, which none does."""
        return None if source.digest is not None else cls.declared(source)

    @classmethod
    def declared(cls, source: Source) -> Self | None:
        """Return the list that `source` refers to, also where it is pinned; None where it names none.

        For an image in registries that is the tag in the first url, and for one in a layout its index.json; the others
        serve the same bytes.
        """
        if source.checksums is None:
            return cls._tag(source.urls[0])
        trusted = _digest_of(source.keyring) if source.keyring else ""
        text = json.dumps([source.checksums, source.signature, trusted])
        return cls(
            source.checksums,
            source.signature,
            source.keyring,
            _key(source.checksums, text),
        )

    @classmethod
    def _tag(cls, url: str) -> Self | None:
        if is_layout(url):
            return cls(url, None, None, _key(url.rstrip("/"), url))
        if not url.startswith(SCHEME):
            return None
        reference = Reference.parse(url)
        if reference.tag is None:
            return None
        tag = str(reference.tagged())
        return cls(tag, None, None, _key(tag, tag))

    @property
    def is_tag(self) -> bool:
        """Say whether it is a tag, which a registry resolves, or index.json, which does a tag's work for a layout."""
        return serves_by_digest(self.url)

    @property
    def what(self) -> str:
        """Return what it is and where, for messages."""
        if is_layout(self.url):
            return f"image layout {shown(self.url)}"
        return f"{'tag' if self.is_tag else 'checksum list'} {shown(self.url)}"


def _key(url: str, text: str) -> str:
    """Return a file name with the end of the path of `url`, of its own for each `text`."""
    stem = re.sub(r"[^A-Za-z0-9._+-]", "-", shown(url).partition("?")[0].rpartition("/")[2])[:60]
    return f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@cache
def _digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise LarderError(f"cannot read the keyring {path}: {error.strerror}") from error


def _parsed(text: str, *, is_tag: bool) -> Listing:
    from . import checksums
    from .manifests import Named

    return Named.parse(text.encode()) if is_tag else checksums.parse(text)


class Lists:
    """The cached checksum lists."""

    def __init__(self, root: Path, *, ttl: float = TTL) -> None:
        """Keep lists in the folder `root`; take one for fresh for `ttl` seconds."""
        self._root = root
        self._ttl = ttl
        self._parsed: dict[str, tuple[int, Listing]] = {}

    def read(self, ref: ListRef) -> Listing:
        """Return the list, or what the tag names, as last seen; raise FetchError where it never was."""
        version = self._version(ref)
        known = self._parsed.get(ref.key)
        if known is not None and known[0] == version:
            return known[1]
        kept = self._kept(ref)
        if kept is None:
            raise FetchError(f"the {ref.what} was not fetched yet")
        parsed = _parsed(kept.text, is_tag=ref.is_tag)
        self._parsed[ref.key] = (version, parsed)
        return parsed

    def version(self, source: Source) -> int:
        """Return a number that changes when the list that decides about `source` does."""
        ref = ListRef.of(source)
        return self._version(ref) if ref else 0

    def expire(self) -> None:
        """Take no list for fresh from now on."""
        self._ttl = 0.0

    def is_fresh(self, ref: ListRef) -> bool:
        """Say whether upstream confirmed the list so recently that it need not be asked."""
        if is_layout(ref.url):
            # It costs nothing to look.
            return False
        kept = self._kept(ref)
        return kept is not None and 0 <= time.time() - kept.confirmed < self._ttl

    def age(self, ref: ListRef) -> str:
        """Return of when the list is, as the server says, for messages."""
        kept = self._kept(ref)
        modified = kept.validators.last_modified if kept else None
        return f"of {modified}" if modified else "of a time that the server does not tell"

    def refresh(
        self,
        ref: ListRef,
        access: Access,
    ) -> None:
        """Ask upstream for the list, or the registry for what the tag names.

        Where upstream cannot be reached, or serves what is not the list, the last good copy stays in use, which
        `access.progress` is told; `access.strict` makes that an error, as it is where there is no copy. A list whose
        signature does not hold is never used, whatever was seen before.
        """
        kept = self._kept(ref)
        try:
            self._write(ref, self._ask(ref, kept, access))
        except SignatureError:
            raise
        except OfflineError as error:
            if kept is None:
                raise OfflineError(
                    f"the {ref.what} was never fetched, and LARDER_OFFLINE is set",
                    hint="unset LARDER_OFFLINE once, or pin the image with `digest`",
                ) from error
        except (FetchError, StoreError) as error:
            if access.strict or kept is None:
                raise
            age = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.confirmed))
            access.progress.note(f"warning: using the {ref.what} as of {age}: {error.message}")

    def _ask(
        self,
        ref: ListRef,
        kept: _Kept | None,
        access: Access,
    ) -> _Kept:
        from . import checksums, pages
        from .urls import with_mirrors

        if ref.is_tag:
            return self._resolve(ref, kept, access)
        answer = pages.get(
            with_mirrors((ref.url,), access.mirrors),
            label=f"checksum list {tail(ref.url)}",
            offline=access.offline,
            validators=kept.validators if kept else None,
            past_caches=access.past_caches,
            progress=access.progress,
        )
        if isinstance(answer, pages.NotModified):
            assert kept is not None, "only a conditional request is answered with Not Modified"
            return replace(kept, confirmed=time.time())
        content = answer.content
        if ref.keyring is not None:
            from . import openpgp

            signature = self._signature(ref, access)
            content = openpgp.verify(content, signature, ref.keyring.read_bytes(), what=shown(ref.url))
        text = checksums.decode(content)
        checksums.parse(text)
        return _Kept(shown(ref.url), time.time(), answer.validators, text)

    def _resolve(
        self,
        ref: ListRef,
        kept: _Kept | None,
        access: Access,
    ) -> _Kept:
        from . import layouts, pages, registry
        from .manifests import Named
        from .urls import with_mirrors

        urls = with_mirrors((ref.url,), access.mirrors)
        offline, progress = access.offline, access.progress
        data: bytes | None
        if is_layout(ref.url):
            data = layouts.latest(urls, label=ref.what, offline=offline, progress=progress)
        else:
            known = kept.text.encode() if kept else None
            data = registry.latest(urls, known=known, label=f"tag {tail(ref.url)}", offline=offline, progress=progress)
        if data is None:
            assert kept is not None, "only what is known can be the same still"
            return replace(kept, confirmed=time.time())
        try:
            Named.parse(data)
            text = data.decode()
        except ImageError as error:
            raise FetchError(f"{ref.what}: {error.message}", hint=error.hint) from error
        except UnicodeDecodeError as error:
            raise FetchError(f"{ref.what}: the manifest is not UTF-8") from error
        # The digest is all that tells whether it changed.
        return _Kept(shown(ref.url), time.time(), pages.Validators(shown(ref.url)), text)

    def _signature(
        self,
        ref: ListRef,
        access: Access,
    ) -> bytes | None:
        from . import pages
        from .urls import with_mirrors

        if ref.signature is None:
            return None
        page = pages.get(
            with_mirrors((ref.signature,), access.mirrors),
            label="signature",
            offline=access.offline,
            past_caches=access.past_caches,
            progress=access.progress,
        )
        assert isinstance(page, pages.Page), "the request was not conditional"
        return page.content

    def _path(self, ref: ListRef) -> Path:
        return self._root / f"{ref.key}.json"

    def _version(self, ref: ListRef) -> int:
        try:
            return self._path(ref).stat().st_mtime_ns
        except OSError:
            return 0

    def _kept(self, ref: ListRef) -> _Kept | None:
        try:
            return _Kept.load(self._path(ref).read_bytes())
        except (OSError, ValueError, TypeError, KeyError):
            # Not there, or not ours: upstream is asked, as if there were none.
            return None

    def _write(self, ref: ListRef, kept: _Kept) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            files.replace(self._path(ref), kept.dump().encode())
        except OSError as error:
            raise StoreError(
                f"cannot keep the {ref.what} in {self._root}: {error.strerror}",
                hint="LARDER_CACHE names the cache's folder",
            ) from error
