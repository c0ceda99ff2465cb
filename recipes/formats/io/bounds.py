"""What may come of a small input: so much for nothing, and so much more for each of its bytes.

Every reader of what strangers wrote bounds what an input costs by its length, or by what it has room for. Where the
format itself gives no bound, these do.
"""

from __future__ import annotations

from recipes.units import MAX_SIZE

#: What to do where an honest image is larger than it may be.
RAISE_VIRTUAL_SIZE = "raise max-virtual-size in images.toml if that is what you want"

#: Bytes of content that any input may have.
FREE_CONTENT = 1 << 30
#: Bytes of content for each byte of an input beyond that.
EXPANSION = 1000
#: Weight of metadata that any input may have, and what it may have for each of its bytes. A weight of one is about a
#: byte of memory, or 15 ns of CPU, so this is a quarter of a million files, or some seconds. Headers of 512 bytes
#: compress to two where one repeats another, and to 20 or more where they tell of different files.
FREE_METADATA = 256 << 20
METADATA_PER_BYTE = 64
#: What a file weighs by its name alone.
NAME_WEIGHT = 1024
#: What an extended attribute weighs, and one of the pieces that a file is in.
XATTR_WEIGHT, PIECE_WEIGHT = 256, 128


def metadata_limit(stored: int) -> int:
    """Return the weight of the metadata that an input of `stored` bytes may have."""
    return FREE_METADATA + METADATA_PER_BYTE * stored


def content_limit(stored: int, most: int = MAX_SIZE) -> int:
    """Return the bytes of content that an input of `stored` bytes may have; `most` is what anything may have.

    Deflate expands 1032 times at the most, and real disks are not all zeros, so 1000 times the input and a free GiB
    refuse no honest gzip file, and a small bomb ends within seconds, whatever `max-virtual-size` allows. xz and zstd
    are held to the same although they expand zeros much further: an almost empty disk of many GiB in one of them is
    refused. A larger free part would break the promise on time: a GiB of zeros takes xz and bzip2 3 s of CPU, and 1 s
    with zstd, sizes that are declared and holes notwithstanding, since the digest is over all of it.

    >>> content_limit(1_000_000) == (1 << 30) + 1_000_000_000, content_limit(1_000_000, 1 << 20)
    (True, 1048576)
    """
    return min(most, FREE_CONTENT + EXPANSION * stored)
