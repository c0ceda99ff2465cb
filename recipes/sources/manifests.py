"""What a registry serves as a manifest: an image, or an index of images for several platforms.

OCI image-spec 1.1, manifest.md and image-index.md, and docker's documents that these come from. Pure, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from recipes.errors import CorruptImage, UnsupportedFeature, printable
from recipes.formats.io import digests
from recipes.formats.oci import spec as oci_spec
from recipes.formats.oci.spec import INDEXES, MANIFEST, MANIFESTS, Descriptor, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.model import Arch, Digest

#: Most bytes of one blob; sums of them stay within what a file can have.
_MAX_BLOB = 1 << 50


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image."""

    media_type: str
    config: Descriptor
    #: Config and layers, each blob once: two layers may have the same bytes.
    blobs: tuple[Descriptor, ...]
    #: As they are listed.
    layers: tuple[Descriptor, ...] = ()
    #: What it is, where it is no image.
    artifact_type: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """Images for several platforms."""

    manifests: tuple[Descriptor, ...]

    def candidates(self, arch: Arch) -> tuple[Descriptor, ...]:
        """Return the first manifest for Linux on `arch`, or else the indexes that may have one; perhaps none.

        A manifest without a platform will do where it is the only one, by however many names.
        """
        # podman's machine images are in one index with the container image that they boot.
        images = [
            each for each in self.manifests if each.media_type in MANIFESTS and not each.annotations.get("disktype")
        ]
        fitting = [each for each in images if each.platform and each.platform.runs_on(arch)]
        # Attestations have a platform: unknown/unknown.
        if not fitting and len({each.digest for each in images}) == 1 and images[0].platform is None:
            fitting = images
        if fitting:
            # What every machine runs goes before what almost every one does.
            return (min(fitting, key=lambda each: bool(each.platform and each.platform.is_level_2)),)
        indexes = (each for each in self.manifests if each.media_type in INDEXES)
        return tuple(each for each in indexes if each.platform is None or each.platform.runs_on(arch))

    def platforms(self) -> list[Platform]:
        """Return the platforms that it names."""
        return [each.platform for each in self.manifests if each.platform]


@dataclass(frozen=True, slots=True)
class Named:
    """What a tag names."""

    data: bytes
    document: Manifest | Index

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the document; the errors are those of `parse`."""
        return cls(data, parse(data))

    @property
    def digest(self) -> Digest:
        """Return the digest of the document itself."""
        return digests.of_bytes(self.data)

    def digest_for(self, arch: Arch, where: str) -> Digest:
        """Return the digest of the image for `arch`; that of the document where further ones have to be looked into.

        Raise UnsupportedFeature, which names `where`, for an index without an image for `arch`.
        """
        if isinstance(self.document, Manifest):
            return self.digest
        candidates = self.document.candidates(arch)
        if not candidates:
            raise no_image(arch, self.document.platforms(), where)
        return candidates[0].digest if candidates[0].media_type in MANIFESTS else self.digest

    def has(self, digest: Digest) -> bool:
        """Say whether `digest` is the document's own, or one that it lists."""
        listed = self.document.manifests if isinstance(self.document, Index) else ()
        return digests.of_bytes(self.data, digest.algorithm) == digest or any(each.digest == digest for each in listed)


def parse(data: bytes) -> Manifest | Index:
    """Read a manifest or an index, whose size was bounded before.

    Errors: CorruptImage; UnsupportedFeature for what is neither, such as a manifest of docker's schema 1.
    """
    where = "manifest"
    document = oci_spec.parse(data, dict, where)
    version = oci_spec.get(document, "schemaVersion", int, where)
    if version == 1:
        raise UnsupportedFeature(
            "the manifest is of docker's schema 1, whose layers nothing describes",
            hint="use another tag, or pull it with an old docker and push it again",
        )
    if version != 2:
        raise UnsupportedFeature(f"expected a manifest with schemaVersion 2, found {version}")
    is_index = "manifests" in document
    # One that is both would be read as the one by us and as the other by the next client (CVE-2021-41190).
    if is_index and ("layers" in document or "config" in document):
        raise CorruptImage("the document is a manifest and an index at once")
    # The member is optional, and the Content-Type, which is not, is no part of what the digest covers.
    media_type = oci_spec.get(document, "mediaType", str, where, "")
    if media_type and media_type not in (INDEXES if is_index else MANIFESTS):
        raise UnsupportedFeature(f"expected an image or an index of images, found {printable(media_type[:100])}")
    if is_index:
        return Index(tuple(_descriptors(document, "manifests", where)))
    config = Descriptor.read(document.get("config"), f"{where}: config")
    layers = tuple(_descriptors(document, "layers", where))
    artifact_type = oci_spec.get(document, "artifactType", str, where, "")
    return Manifest(media_type or MANIFEST, config, _distinct((config, *layers)), layers, artifact_type)


def no_image(arch: Arch, found: Iterable[Platform], where: str) -> UnsupportedFeature:
    """Return the error for what is at `where` and has no image for `arch`, only for the platforms `found`."""
    others = dict.fromkeys(str(each) for each in found if each.os != "unknown")
    only = f"only for {', '.join(others)}" if others else "nor for anything else"
    return UnsupportedFeature(f"{where}: there is no image for {Platform.of(arch)}, {only}")


def _descriptors(document: dict[str, Any], key: str, where: str) -> list[Descriptor]:
    return [Descriptor.read(each, f"{where}: {key}") for each in oci_spec.get(document, key, list, where)]


def _distinct(blobs: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    found: dict[Digest, Descriptor] = {}
    for each in blobs:
        if not 0 < each.size <= _MAX_BLOB:
            raise CorruptImage(f"manifest: {each.digest}: expected a number of bytes, found {each.size}")
        if found.setdefault(each.digest, each).size != each.size:
            raise CorruptImage(f"manifest: {each.digest} has two sizes")
    return tuple(found.values())
