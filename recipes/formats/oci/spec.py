"""The words of OCI images: media types, platforms, descriptors (OCI image-spec 1.1); and docker's for the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from recipes import jsontext
from recipes.errors import CorruptImage, printable
from recipes.model import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.model import Arch

T = TypeVar("T")

#: Bytes of the largest document: what registries must take for a manifest (distribution-spec 1.1, "Pushing Manifests").
JSON_LIMIT = 4 << 20

# media-types.md; docker's are those of the distribution project's "Image Manifest Version 2, Schema 2".
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
INDEXES = frozenset({INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"})
MANIFESTS = frozenset({MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"})
CONFIGS = frozenset({CONFIG, "application/vnd.docker.container.image.v1+json"})
#: Layers that come with the image, in the clear.
LAYERS = frozenset(
    name + suffix
    for name, separator in ((LAYER, "+"), (DOCKER_LAYER, "."))
    for suffix in ("", f"{separator}gzip", f"{separator}zstd")
)

#: Before a name in a layer: the file of that name is deleted (layer.md, "Whiteouts").
WHITEOUT = b".wh."

#: annotations.md: the tag alone; containerd's has the whole reference, and podman and Apple's container go by it.
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"

#: How errors call the types of JSON.
_TYPES = {dict: "an object", list: "an array", str: "a string", int: "a number"}


class Platform(NamedTuple):
    """What an image runs on (image-index.md, "platform"; config.md)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def of(cls, arch: Arch) -> Platform:
        """Return the platform of Linux on `arch`."""
        return _PLATFORMS[arch][0]

    @classmethod
    def read(cls, value: Mapping[str, Any], where: str) -> Self | None:
        """Read a platform, or a config's; None where it names no architecture. Raise CorruptImage as `get`."""
        os, architecture, variant = (get(value, key, str, where, "") for key in cls._fields)
        # podman's machine images have the kernel's names.
        return cls(os, _GO_NAMES.get(architecture, architecture), variant) if architecture else None

    def runs_on(self, arch: Arch) -> bool:
        """Say whether machines of `arch` run this: not so amd64/v3 and arm64/v9, which many do not."""
        return self in _PLATFORMS[arch]

    @property
    def is_level_2(self) -> bool:
        """Say whether it takes a processor of x86-64-v2, as those since about 2009 are."""
        return (self.architecture, self.variant) == ("amd64", "v2")

    def __str__(self) -> str:
        return printable("/".join(filter(None, self)))


_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}

#: By machine; where no variant is named, amd64 is v1 and arm64 is v8.
_PLATFORMS: Mapping[Arch, tuple[Platform, ...]] = {
    "x86_64": (Platform("linux", "amd64"), Platform("linux", "amd64", "v1"), Platform("linux", "amd64", "v2")),
    "aarch64": (Platform("linux", "arm64", "v8"), Platform("linux", "arm64")),
}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What refers to a blob (descriptor.md); nothing of it is verified."""

    media_type: str
    digest: Digest
    #: Bytes.
    size: int
    annotations: Mapping[str, Any]
    platform: Platform | None
    #: What the artifact is that it refers to, in an index.
    artifact_type: str = ""

    @classmethod
    def read(cls, value: Any, where: str) -> Self:
        """Read a descriptor; raise CorruptImage, which names `where`, for what is none."""
        value = _typed(value, dict, where)
        return cls(
            get(value, "mediaType", str, where),
            digest(value.get("digest"), where),
            get(value, "size", int, where),
            get(value, "annotations", dict, where, {}),
            Platform.read(get(value, "platform", dict, where, {}), where),
            get(value, "artifactType", str, where, ""),
        )

    @property
    def path(self) -> str:
        """Where an image layout has the blob (image-layout.md, "Blobs")."""
        return f"blobs/{self.digest.algorithm}/{self.digest.hex}"


def digest(value: Any, where: str) -> Digest:
    """Read a digest; raise CorruptImage, which names `where`, for what is none."""
    try:
        return Digest.parse(_typed(value, str, where))
    except ValueError as error:
        raise CorruptImage(f"{where}: {error}") from error


def get(document: Mapping[str, Any], key: str, kind: type[T], where: str, default: T | None = None) -> T:
    """Return the member `key`, which is of `kind`; `default`, if there is one, where it is missing or null.

    Raise CorruptImage, which names `where`, for anything else.
    """
    value = document.get(key)
    return default if value is None and default is not None else _typed(value, kind, f"{where}: {key}")


def parse(data: bytes, kind: type[T], where: str) -> T:
    """Return the JSON document `data`, which is of `kind`.

    Raise CorruptImage, which names `where`, for anything else.
    """
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise CorruptImage(f"{where}: expected a JSON document: {error}") from error
    return _typed(value, kind, where)


def dump(document: Any) -> bytes:
    """Return `document` as JSON, the same bytes for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _typed(value: Any, kind: type[T], where: str) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        # An array or object is not shown: what could be parsed may still be nested too deeply to be written.
        found = _TYPES[type(value)] if isinstance(value, (dict, list)) else repr(str(value)[:100])
        raise CorruptImage(f"{where}: expected {_TYPES[kind]}, found {found}")
    return value
