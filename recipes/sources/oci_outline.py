"""The archive of an image from a registry: an OCI image layout in a tar, which podman and skopeo call an oci-archive.

It is a function of the manifest alone (OCI image-spec 1.1, image-layout.md), and where each blob will be is known
before any is downloaded. Pure but for a look at what is there already.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from recipes.formats.io import digests
from recipes.formats.oci import spec as oci_spec
from recipes.formats.oci.spec import INDEX, Descriptor
from recipes.formats.tar.header import BLOCK, padding

if TYPE_CHECKING:
    from pathlib import Path

    from .manifests import Manifest


class Member(NamedTuple):
    """A blob in the archive."""

    descriptor: Descriptor
    #: What stands before its bytes.
    header: bytes
    #: Where its bytes are.
    start: int


@dataclass(frozen=True, slots=True)
class Outline:
    """What an archive will be, as its manifest tells."""

    manifest: Manifest
    #: The beginning, up to and with the manifest.
    prefix: bytes
    members: tuple[Member, ...]
    #: Bytes of the archive.
    size: int

    @classmethod
    def of(cls, manifest: Manifest, data: bytes) -> Self:
        """Return the outline of the image with `manifest`, which was read from `data`."""
        digest = digests.of_bytes(data)
        described = {"mediaType": manifest.media_type, "digest": str(digest), "size": len(data)}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]}
        prefix = b"".join(
            _header(name, len(content)) + content + bytes(padding(len(content)))
            for name, content in (
                ("oci-layout", oci_spec.dump({"imageLayoutVersion": "1.0.0"})),
                ("index.json", oci_spec.dump(index)),
                (f"blobs/{digest.algorithm}/{digest.hex}", data),
            )
        )
        at = len(prefix)
        members = []
        for blob in manifest.blobs:
            header = _header(blob.path, blob.size)
            members.append(Member(blob, header, at + len(header)))
            at += len(header) + blob.size + padding(blob.size)
        return cls(manifest, prefix, tuple(members), at + 2 * BLOCK)

    def present(self, path: Path) -> int:
        """Return the bytes of the archive that an earlier process left at `path`."""
        try:
            with path.open("rb") as file:
                begun = file.read(len(self.prefix)) == self.prefix
            return path.stat().st_size if begun else 0
        except OSError:
            return 0


def _header(name: str, size: int) -> bytes:
    """Return what stands before a member with `size` bytes: USTAR, and PAX where that has no room for name or size."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)
