"""Where something is in a registry: ``oci://HOST[:PORT]/NAME[:TAG][@sha256:HEX]``, and where a project shares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from recipes.redact import shown

from .model import Digest

SCHEME = "oci://"


def is_layout(url: str) -> bool:
    """Say whether `url` is the folder of an image layout, ``file:///FOLDER/``.

    >>> is_layout("file:///srv/image/"), is_layout("file:///srv/image.tar")
    (True, False)
    """
    return url.lower().startswith("file://") and url.endswith("/")


def serves_by_digest(url: str) -> bool:
    """Say whether what is at `url` is known by the digest of its manifest: in a registry, or in a layout."""
    return url.startswith(SCHEME) or is_layout(url)


#: The host of Docker Hub as references have it. Requests and credentials go by other names.
DOCKER_HUB = "docker.io"

# The grammars of the OCI distribution-spec 1.1, "Pulling manifests".
_HOST = r"(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?)"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_REFERENCE = re.compile(rf"oci://{_HOST}/(?P<name>{_PART}(?:/{_PART})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>[^@/]+))?")
_NAMESPACE = re.compile(rf"(?P<plain>http://)?{_HOST}(?P<path>(?:/{_PART})*)")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry; by its `digest` where there is one, else by its `tag`."""

    #: With the port, where one is given; in lower case.
    host: str
    name: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an ``oci://`` url; the tag is ``latest`` where neither tag nor digest is given.

        As for docker, an image of Docker Hub whose name has no slash is in ``library/``. Raise ValueError with the
        reason where `url` is none.

        >>> str(Reference.parse("oci://ghcr.io/Owner/x"))
        Traceback (most recent call last):
        ValueError: expected oci://HOST/NAME:TAG or oci://HOST/NAME@sha256:HEX, got 'oci://ghcr.io/Owner/x'
        >>> str(Reference.parse("oci://docker.io/debian:12"))
        'oci://docker.io/library/debian:12'
        """
        match = _REFERENCE.fullmatch(url)
        if not match:
            raise ValueError(f"expected oci://HOST/NAME:TAG or oci://HOST/NAME@sha256:HEX, got {shown(url)!r}")
        host, name, tag, digits = match.group("host", "name", "tag", "digest")
        digest = Digest.parse(digits) if digits else None
        host = host.lower()
        if host in (DOCKER_HUB, "index.docker.io"):
            host, name = DOCKER_HUB, name if "/" in name else f"library/{name}"
        return cls(host, name, tag or (None if digest else "latest"), digest)

    def tagged(self) -> Self:
        """Return what the tag names, whatever that is now."""
        return type(self)(self.host, self.name, self.tag)

    def tag_of(self, tag: str) -> Self:
        """Return what has the tag `tag` in the same repository."""
        return type(self)(self.host, self.name, tag)

    def pinned(self, digest: Digest) -> Self:
        """Return what has `digest` in the same repository: a manifest, an index or a blob."""
        return type(self)(self.host, self.name, None, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{SCHEME}{self.host}/{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


@dataclass(frozen=True, slots=True)
class Namespace:
    """The repositories below ``HOST[:PORT]/PATH``: one for each image of the projects that share through them."""

    host: str
    #: Begins with a slash, or is empty.
    path: str
    #: Whether the registry is declared to speak http.
    plain: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``HOST[:PORT]/PATH``, with ``http://`` in front for a registry that has no TLS.

        Raise ValueError with the reason where `text` is none.
        """
        match = _NAMESPACE.fullmatch(text)
        # A registry is asked for credentials by docker's configuration, but people try.
        text = re.sub(r"^[^/@]*@", "", shown(text))
        if not match:
            raise ValueError(f"expected HOST/PATH, or http://HOST/PATH for a registry without TLS, got {text!r}")
        host, path, plain = match["host"].lower(), match["path"], bool(match["plain"])
        if not re.search(r"[.:]|^localhost$", host):
            # As docker tells a host from a user of Docker Hub.
            raise ValueError(f"expected HOST/PATH, and a host has a dot or a port, got {text!r}")
        if host in (DOCKER_HUB, "index.docker.io"):
            host = DOCKER_HUB
            if not path or plain:
                raise ValueError(f"expected {DOCKER_HUB}/USER, got {text!r}")
        return cls(host, path, plain)

    def repository(self, name: str) -> Reference:
        """Return the moving tag of the image `name`.

        >>> str(Namespace.parse("ghcr.io/owner/images").repository("ubuntu-24.04"))
        'oci://ghcr.io/owner/images/ubuntu-24.04:latest'
        """
        return Reference(self.host, f"{self.path}/{component(name)}".removeprefix("/"), "latest")

    def __str__(self) -> str:
        return f"{self.host}{self.path}"


def component(name: str) -> str:
    """Return the name of an image as a path component of references, whose grammar is narrower."""
    return "-".join(re.findall(_PART, name))
