"""Inputs that cost as much as they can: known ones, and a search that goes on from those that cost most.

The campaign breaks things; it seldom makes anything large. Here an input is judged by how much it takes of what its
bytes allow (`tests.hostile.sandbox`): of CPU, of memory, of bytes written. A search keeps the inputs that take most of
each, changes them, mostly by repeating what is in them, and keeps what takes more.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import tempfile
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.oci.spec import CONFIG, LAYER, MANIFEST
from tests.kit import qcow2_images
from tests.kit.oci_images import AMD64, ARM64, Layout
from tests.kit.qcow2_images import COMPRESSED
from tests.kit.tar_archives import END, extended, header, long, padded, sparse_0_1

from . import roots, sandbox
from .mutate import LONGEST, grow

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sandbox import Outcome
    from .target import Target

MiB = 1 << 20
#: Inputs that are kept for each of CPU, memory and bytes written.
_KEPT = 5


# Known ones.


class Bomb(NamedTuple):
    """An input that costs much, by what it is made of."""

    target: str
    make: Callable[[], bytes]


def _members(compress: Callable[[bytes], bytes], content: bytes, size: int = MiB) -> bytes:
    member = compress(content)
    return member * (size // len(member))


def _zstd_blocks(block: bytes, count: int) -> bytes:
    """Return a frame that does not say how much it holds: so many blocks, and an empty last one (RFC 8878, 3.1.1)."""
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * count + b"\x01\0\0"


def _zstd_block(size: int) -> bytes:
    """Return a block of `size` times the same byte (RFC 8878, section 3.1.1.2)."""
    return (size << 3 | 1 << 1).to_bytes(3, "little") + b"z"


def _links() -> bytes:
    """Return forty links, of 1600 names each, and paths behind them."""
    names = (b"d/../" * 800 + (b"a%d" % (number + 1) if number < 39 else b"d") for number in range(40))
    links = b"".join(long(name, b"K") + header(b"a%d" % number, b"2") for number, name in enumerate(names))
    return _ROOT + header(b"d", b"5") + links + b"".join(header(b"a0/%d" % number) for number in range(3000)) + END


def _acl(users: int) -> bytes:
    words = b",".join(b"user:%d:rwx" % number for number in range(users))
    return extended([(b"SCHILY.acl.access", b"user::rwx,group::r-x,other::r-x,mask::rwx," + words)]) + header(b"a")


def _pieces(count: int) -> bytes:
    return sparse_0_1(b"%d" % (1 << 44), b",".join(b"%d,1" % (2 * at) for at in range(count)), b"s" * count)


#: What makes an archive that of a root file system.
_ROOT = header(b"etc", b"5")

_MEMBERS: dict[str, Callable[[], bytes]] = {
    "the same header": lambda: header(b"a") * 8192,
    "other headers": lambda: b"".join(header(b"%d" % number) for number in range(8192)),
    "long paths": lambda: (extended([(b"path", b"a/" * 1500 + b"x")]) + header(b"a")) * 800,
    "parents that no member is": lambda: b"".join(
        extended([(b"path", b"%d/" % number + b"a/" * 1500 + b"x")]) + header(b"a") for number in range(20)
    ),
    "attributes": lambda: (
        (extended([(b"SCHILY.xattr.user.%d" % number, b"") for number in range(20_000)]) + header(b"a")) * 8
    ),
    "access control lists": lambda: _acl(5000) * 40,
    "pieces": lambda: _pieces(50_000) * 4,
    "holes": lambda: b"".join(sparse_0_1(b"%d" % (1 << 44), b"0,512", b"s" * 512) for _ in range(2000)),
    "hard links": lambda: header(b"a") + b"".join(header(b"%d" % number, b"1", link=b"a") for number in range(8192)),
    "whiteouts": lambda: b"".join(header(b".wh.%d" % number) for number in range(8192)),
}


def _tar(make: Callable[[], bytes], times: int = 1) -> bytes:
    """Return an archive of a root file system with these members, again and again."""
    return _ROOT + make() * times + END


def _layer(make: Callable[[], bytes]) -> bytes:
    """Return an image with one layer, compressed."""
    layout = Layout()
    return _archive(layout, layout.image(_tar(make, times=6), suffix="+zstd"))


def _archive(layout: Layout, *images: dict[str, object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return layout.write(Path(folder, "image"), *images).read_bytes()


def _xz(dictionary: int) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": dictionary}]
    compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)
    return b"".join(compressor.compress(bytes(16 * MiB)) for _ in range(14)) + compressor.flush()


def _zstd(window_log: int) -> bytes:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return b"".join(compressor.compress(bytes(16 * MiB)) for _ in range(10)) + compressor.flush()


def _zeros_in_a_layer() -> bytes:
    """Return an image with a layer of 2 GiB; nobody comes to the end of it, and to its digest."""
    layout = Layout()
    config = layout.document({**AMD64, "rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}, CONFIG)
    layer = layout.blob(_zstd_blocks(_zstd_block(128 << 10), 16_384), f"{LAYER}+zstd")
    manifest = layout.document({"schemaVersion": 2, "config": config, "layers": [layer]}, MANIFEST)
    return _archive(layout, manifest)


def _one_config(images: int) -> bytes:
    """Return an archive of docker's with so many images, all with one config of almost 4 MiB."""
    config = json.dumps({**ARM64, "filler": [{}] * 1_000_000}).encode()
    listing = json.dumps([{"Config": "c", "Layers": []}] * images).encode()
    members = (b"c", config), (b"manifest.json", listing)
    return b"".join(header(name, size=len(data)) + padded(data) for name, data in members) + END


def _shared_clusters(flags: int) -> bytes:
    """Return an image of 4 GiB whose entries all name one cluster."""
    cluster = 1 << 16
    tables = range(4, 12)
    deflate = zlib.compressobj(wbits=-12)
    text = b"larder  " * (cluster // 8)
    data = deflate.compress(text) + deflate.flush() if flags & COMPRESSED else text
    entry = (tables.stop * cluster | flags).to_bytes(8, "big")
    return (
        qcow2_images.build(size=4 << 30, l1=[table * cluster for table in tables])
        + entry * (cluster // 8) * len(tables)
        + data.ljust(cluster, b"\0")
    )


BOMBS: dict[str, Bomb] = {
    "gzip: members of a byte": Bomb("gzip", lambda: _members(partial(gzip.compress, mtime=0), b"x")),
    "gzip: members of nothing": Bomb("gzip", lambda: _members(partial(gzip.compress, mtime=0), b"")),
    "gzip: zeros": Bomb("gzip", lambda: gzip.compress(bytes(64 * MiB), mtime=0) * 16),
    "bzip2: streams of a byte": Bomb("bzip2", lambda: _members(bz2.compress, b"x")),
    "bzip2: zeros": Bomb("bzip2", lambda: bz2.compress(bytes(16 * MiB)) * 80),
    "xz: streams of a byte": Bomb("xz", lambda: _members(lzma.compress, b"x")),
    "xz: zeros": Bomb("xz", lambda: lzma.compress(bytes(64 * MiB)) * 16),
    "xz: a large dictionary": Bomb("xz", lambda: _xz(192 * MiB)),
    "zstd: a large window": Bomb("zstd", lambda: _zstd(27)),
    "zstd: blocks of nothing": Bomb("zstd", lambda: _zstd_blocks(b"\0\0\0", MiB // 3)),
    "zstd: blocks of a byte": Bomb("zstd", lambda: _zstd_blocks(_zstd_block(1), MiB // 4)),
    "zstd: one byte again and again": Bomb("zstd", lambda: _zstd_blocks(_zstd_block(128 << 10), 16_384)),
    "tar: links": Bomb("tar", _links),
    **{f"tar: {what}": Bomb("tar", partial(_tar, make)) for what, make in _MEMBERS.items()},
    **{f"oci: {what}": Bomb("oci", partial(_layer, make)) for what, make in _MEMBERS.items()},
    "vhdx: attributes": Bomb("vhdx", partial(_tar, _MEMBERS["attributes"])),
    "vhdx: pieces": Bomb("vhdx", partial(_tar, _MEMBERS["pieces"])),
    "vhdx: holes": Bomb("vhdx", partial(_tar, _MEMBERS["holes"])),
    "layer: holes": Bomb("layer", lambda: sparse_0_1(b"%d" % (1 << 30), b"0,512", b"s" * 512) + END),
    "oci: images with one config": Bomb("oci", lambda: _one_config(3000)),
    "oci: zeros": Bomb("oci", _zeros_in_a_layer),
    "qcow2: entries that share a cluster": Bomb("qcow2", lambda: _shared_clusters(0)),
    "qcow2: entries that share a compressed cluster": Bomb("qcow2", lambda: _shared_clusters(COMPRESSED)),
    **{what: Bomb(*bomb) for what, bomb in roots.BOMBS.items()},
}


# A search.


@dataclass
class Costly:
    """What a search has found."""

    target: str
    inputs: int = 0
    #: What was largest, of CPU, memory and bytes written: the bytes of the input, and what became of it.
    worst: list[tuple[int, Outcome]] = field(default_factory=list)
    #: What went wrong, with the input.
    findings: list[tuple[str, bytes]] = field(default_factory=list)

    def __str__(self) -> str:
        (cpu_size, cpu), (memory_size, memory), (written_size, written) = self.worst
        return (
            f"| {self.target} | {self.inputs} | {cpu.cpu:.1f} s of {cpu_size} bytes | {memory.memory >> 20} MiB of "
            f"{memory_size} | {written.written >> 20} MiB of {written_size} | "
            f"{max(outcome.share for _, outcome in self.worst):.0%} | {len(self.findings)} |"
        )


HEADER = """\
| target | inputs | most CPU | most memory | most written | of its due | findings |
| --- | --- | --- | --- | --- | --- | --- |"""


class Search:
    """A search on one target, from its valid inputs and its bombs; a context manager."""

    def __init__(self, target: Target, seed: int, *, bombs: bool = True) -> None:
        self.found = Costly(target.name)
        self._target = target
        self._rng = Random(f"{seed}/{target.name}")
        self._folder = Path(tempfile.mkdtemp(prefix="larder-costly-"))
        (self._folder / "seeds").mkdir()
        self._seeds = target.seeds(self._folder / "seeds")
        self._first = [*self._seeds]
        if bombs:
            self._first += [bomb.make() for bomb in BOMBS.values() if bomb.target == target.name]
        #: For each of CPU, memory and bytes written: share and input, the largest first.
        self._best: tuple[list[tuple[float, bytes]], ...] = ([], [], [])

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    def step(self) -> None:
        """Try one input more."""
        if self.found.inputs < len(self._first):
            data = self._first[self.found.inputs]
        else:
            parent = self._rng.choice(self._rng.choice(self._best))[1]
            data = self._change(parent)
        self.found.inputs += 1
        outcome = self._run(data)
        if outcome.wrong:
            self.found.findings.append((outcome.wrong, data))
        for number, share in enumerate(outcome.shares):
            best = self._best[number]
            if not best or share > best[0][0]:
                self.found.worst[number : number + 1] = [(len(data), outcome)]
            best.append((share, data))
            best.sort(key=lambda each: -each[0])
            del best[_KEPT:]

    def _change(self, data: bytes) -> bytes:
        rng = self._rng
        if rng.random() < 0.4:
            data = self._target.mutate(rng, data, self._seeds)
        return (self._target.grow or grow)(rng, data)[:LONGEST]

    def _run(self, data: bytes) -> Outcome:
        folder = self._folder / "work"
        folder.mkdir()
        source = folder / "input"
        source.write_bytes(data)
        outcome = sandbox.run(lambda: self._target.read(source, folder / "out"), folder, len(data))
        shutil.rmtree(folder)
        return outcome
