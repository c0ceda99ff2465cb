"""Frozen values that everything else speaks of; no I/O.

The words are the ones of the README: an *image* has a *source*; `resolve` turns the source into an *identity*; a
derivation leaves an *artifact* and a *receipt* that says what it is and what it came from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from recipes.rootplace import ANYWHERE

if TYPE_CHECKING:
    import hashlib
    from pathlib import Path

    from recipes.rootplace import RootPlace

Arch = Literal["x86_64", "aarch64"]
Kind = Literal["disk", "rootfs", "oci"]
Compression = Literal["gzip", "zstd", "none"]
Qcow2Compression = Literal["zstd", "zlib"]

#: What a virtual disk may claim, unless images.toml or the command line says otherwise.
DEFAULT_MAX_VIRTUAL_SIZE = "2TiB"
#: What WSL gives the disks that it makes itself (its defaultVhdSize); only what is written takes room.
DEFAULT_VHDX_SIZE = "1TiB"
#: Room for what a guest installs; only what is written takes room.
DEFAULT_EXT4_SIZE = "8GiB"
#: Every client loads gzip; docker before release 23 does not load zstd.
DEFAULT_COMPRESSION: Compression = "gzip"
#: Every QEMU since 5.1 reads zstd, which is smaller and faster in both directions.
DEFAULT_QCOW2_COMPRESSION: Qcow2Compression = "zstd"

#: Hex digits of each digest algorithm that a source may be pinned with.
DIGEST_LENGTHS = {"sha256": 64, "sha512": 128}


class Digest(NamedTuple):
    """A digest as OCI writes it: ``algorithm:hex`` (OCI image-spec, descriptor.md, "Digests")."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``sha256:…`` or ``sha512:…``; raise ValueError with the reason where it is neither.

        >>> Digest.parse("sha256:" + "0" * 64).algorithm
        'sha256'
        >>> Digest.parse("md5:00")
        Traceback (most recent call last):
        ValueError: expected sha256:HEX or sha512:HEX, got 'md5:00'
        """
        algorithm, colon, digits = text.partition(":")
        if not colon and re.fullmatch(r"[0-9a-fA-F]+", text):
            for name, length in DIGEST_LENGTHS.items():
                if len(text) == length:
                    raise ValueError(f"a digest begins with its algorithm: write {name}:{text}")
        if not colon or algorithm not in DIGEST_LENGTHS:
            raise ValueError(f"expected sha256:HEX or sha512:HEX, got {text!r}")
        digits = digits.lower()
        expected = DIGEST_LENGTHS[algorithm]
        if not re.fullmatch(r"[0-9a-f]*", digits):
            raise ValueError(f"{algorithm} takes hexadecimal digits only, got {digits!r}")
        if len(digits) != expected:
            raise ValueError(f"{algorithm} takes {expected} hexadecimal digits, got {len(digits)}")
        return cls(algorithm, digits)

    def hasher(self) -> hashlib._Hash:
        """Return a new hash object of this digest's algorithm."""
        import hashlib

        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Source(NamedTuple):
    """Where an image comes from.

    It is pinned by `digest`, or floating: then `checksums` decides, or for an ``oci://`` url the registry. A pinned one
    may name its list too.
    """

    urls: tuple[str, ...]
    digest: Digest | None = None
    size: int | None = None
    checksums: str | None = None
    #: What to look for in `checksums`, as many trailing segments of a path as it has; ``*`` stands for what moves.
    pattern: str | None = None
    signature: str | None = None
    keyring: Path | None = None
    #: The folder of a tarball that is the root, where that is not the tarball's own.
    strip: str = ""
    #: Which file in an archive is the disk, as `fnmatch` has it, if that is not to be found out.
    member: str = ""
    #: Which of several disks in a registry it is: what podman calls it, what it is for, its name.
    disktype: str = ""


class Image(NamedTuple):
    """One ``[images.NAME]`` of images.toml, for one architecture."""

    name: str
    arch: Arch
    kind: Kind
    source: Source
    title: str = ""
    #: The kinds of artifact that this project asks for.
    derive: tuple[str, ...] = ()
    prewarm: bool = False
    #: Where the root file system of a disk is, if that is not to be found out.
    root: RootPlace = ANYWHERE
    #: Bytes of the virtual disk of a VHDX.
    vhdx_size: int = 1 << 40
    #: Bytes of a bare ext4, and whether it has a journal.
    ext4_size: int = 8 << 30
    ext4_journal: bool = True
    #: Of the layer in an OCI archive.
    compression: Compression = DEFAULT_COMPRESSION
    #: Of the clusters of a QCOW2.
    qcow2_compression: Qcow2Compression = DEFAULT_QCOW2_COMPRESSION


class Identity(NamedTuple):
    """What upstream serves now: the result of resolving a source."""

    urls: tuple[str, ...]
    digest: Digest
    #: Bytes of the wrapper, where they are known before the download.
    size: int | None = None
    #: Digest of the content, where upstream publishes that too.
    content: Digest | None = None


class BlockHash(NamedTuple):
    """A blkhash: a digest of a disk's content that costs its data, not its size.

    The value does not describe itself, so the three parameters that determine it travel with it.
    """

    #: The inner digest: ``sha256`` or ``blake3``.
    algorithm: str
    #: Bytes of a block.
    block_size: int
    #: Version of the construction: the release of blkhash that introduced it.
    construction: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex} (blocks of {self.block_size}, {self.construction})"


class Wrapper(NamedTuple):
    """The bytes as downloaded; of an image from a registry, the archive of its blobs."""

    digest: Digest
    size: int


class Content(NamedTuple):
    """The wrapper without its outer compression."""

    #: None for a disk that was compressed and whose digest upstream does not publish: its blkhash is the artifact's.
    digest: Digest | None
    size: int
    #: Name of the format, as `recipes.formats.io.probe` gives it.
    format: str
    #: Bytes of the virtual disk, where the content is a disk image.
    virtual_size: int | None = None


class Artifact(NamedTuple):
    """A file in the cache as it was when its receipt was written."""

    #: Bytes, holes included (``st_size``).
    size: int = 0
    #: Bytes that the file system allotted (``st_blocks``).
    allocated: int = 0
    mtime_ns: int = 0
    digest: Digest | None = None
    blkhash: BlockHash | None = None
