"""Where an image comes from: the table of an architecture, ``[images.NAME.ARCH]``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from recipes.model import Digest, Source
from recipes.names import ends_with
from recipes.reference import Reference, is_layout, serves_by_digest

from .findings import table
from .urls import OCI, check_url, resolved, urls
from .validate import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from . import tomlpos
    from .findings import Findings

#: What stands in the table of an architecture.
SOURCE_KEYS = ("url", "digest", "size", "checksums", "pattern", "signature", "keyring", "strip", "member", "disktype")


class SourceReader:
    """Reads what an image comes from; files that it names are below `folder`."""

    def __init__(self, findings: Findings, folder: Path) -> None:
        self._findings = findings
        self._wrong = findings.wrong
        self._folder = folder

    def read(self, path: tomlpos.Path, value: object) -> Source:
        """Read the table `value`."""
        entries = table(value)
        if isinstance(value, dict):
            self._requirements(path, entries)
        found = tuple(urls((*path, "url"), entries.get("url"), self._folder))
        for where, url in found:
            if not url.startswith(OCI):
                check_url(self._findings, where, url, moving="checksums" in entries and "digest" not in entries)
        for _ in self._findings.distinct((*path, "url"), entries.get("url")):
            pass
        digest = None
        if isinstance(entries.get("digest"), str):
            try:
                digest = Digest.parse(entries["digest"])
            except ValueError as error:
                self._wrong((*path, "digest"), str(error))
        digest = self._registry(path, entries, found, digest)
        for key in ("checksums", "signature"):
            if isinstance(entries.get(key), str):
                check_url(self._findings, (*path, key), self._list(entries[key]) or "", moving=None)
        return Source(
            urls=tuple(url for _, url in found),
            digest=digest,
            size=self._findings.size((*path, "size"), entries["size"]) if "size" in entries else None,
            checksums=self._list(entries.get("checksums")),
            pattern=self._pattern((*path, "pattern"), entries.get("pattern"), tuple(url for _, url in found)),
            signature=self._list(entries.get("signature")),
            keyring=self._keyring((*path, "keyring"), entries.get("keyring")),
            strip=self._strip((*path, "strip"), entries.get("strip")),
            member=entries["member"] if isinstance(entries.get("member"), str) else "",
            disktype=entries["disktype"] if isinstance(entries.get("disktype"), str) else "",
        )

    def _list(self, url: Any) -> str | None:
        return resolved(url, self._folder) if isinstance(url, str) else None

    def _strip(self, path: tomlpos.Path, value: object) -> str:
        if not isinstance(value, str):
            return ""
        parts = value.removesuffix("/").split("/")
        if not all(parts) or not {".", ".."}.isdisjoint(parts):
            self._wrong(
                path, f"expected the folder in the tarball that is the root, such as root.x86_64, got {quoted(value)}"
            )
        return "/".join(parts)

    def _requirements(self, path: tomlpos.Path, entries: dict[str, Any]) -> None:
        if "url" not in entries:
            self._wrong(path, "needs a url", key=True)
        elif entries["url"] == []:
            self._wrong((*path, "url"), "expected at least one url")
        from_registry = any(serves_by_digest(url) for _, url in urls(path, entries.get("url"), self._folder))
        if "digest" not in entries and "checksums" not in entries and not from_registry:
            self._wrong(
                path,
                'needs digest or checksums, since nothing is accepted unverified: copy digest = "sha256:HEX" from '
                "upstream's list, or give the url of the list as checksums",
                key=True,
            )
        for key in ("pattern", "signature", "keyring"):
            if key in entries and "checksums" not in entries:
                self._wrong((*path, key), "is for a checksum list; expected checksums beside it", key=True)
        if "signature" in entries and "keyring" not in entries:
            self._wrong((*path, "signature"), "needs keyring, the file with the keys that may have made it", key=True)

    def _registry(
        self,
        path: tomlpos.Path,
        entries: dict[str, Any],
        urls: tuple[tuple[tomlpos.Path, str], ...],
        digest: Digest | None,
    ) -> Digest | None:
        """Check those of `urls` that serve by digest; return what pins the image, `digest` or the one in a url."""
        found = digest
        references = [(where, url) for where, url in urls if url.startswith(OCI)]
        for where, url in references:
            try:
                pinned = Reference.parse(url).digest
            except ValueError as error:
                self._wrong(where, str(error))
                continue
            if found is not None and pinned is not None and found != pinned:
                self._wrong(where, f"is pinned to other bytes than {found}")
            found = found or pinned
        served = references or [(where, url) for where, url in urls if is_layout(url)]
        if not served:
            return found
        what, place, places = ("oci:// urls", "registry", "registries")
        if not references:
            what, place, places = ("image layouts", "layout", "layouts")
        for key, why in (
            ("checksums", "what a tag is" if references else "what it holds"),
            ("size", "how large an image is"),
        ):
            if key in entries:
                self._wrong((*path, key), f"is not for {what}: the {place} itself says {why}", key=True)
        if len(served) < len(urls):
            other = next(each for each in urls if each not in served)
            self._wrong(other[0], f"expected {what} only, as the others are: what a {place} serves is no file")
        if digest is not None and digest.algorithm != "sha256":
            self._wrong((*path, "digest"), f"expected the sha256 of a manifest, which is what {places} serve by")
        return found

    def _pattern(self, path: tomlpos.Path, value: object, found: tuple[str, ...]) -> str | None:
        if not isinstance(value, str):
            return None
        if not all(value.split("/")):
            self._wrong(path, f"expected a file name, or the end of a path such as release-*/NAME, got {quoted(value)}")
            return value
        for url in found:
            # What the list names takes the place of the url's end, which must have been found in the same way. What is
            # wrong with the url itself is told already.
            with contextlib.suppress(ValueError):
                if not ends_with(url, value):
                    self._wrong(path, f"{quoted(value)} is not what {quoted(url)} ends with")
        return value

    def _keyring(self, path: tomlpos.Path, value: object) -> Path | None:
        if not isinstance(value, str):
            return None
        file = self._folder / value
        try:
            found = file.is_file() and os.access(file, os.R_OK)
        except OSError:
            found = False
        if not found:
            self._wrong(path, f"expected a file of OpenPGP keys at {file}, found none that can be read")
        return file
