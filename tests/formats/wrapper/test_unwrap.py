from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import random
import resource
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from recipes.errors import CorruptImage, Interrupted, LimitExceeded, StoreError, UnsupportedFeature
from recipes.formats.io import blkhash
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.context import Context
from recipes.formats.io.sparse import allocated
from recipes.formats.wrapper.unwrap import Unwrapped, unwrap
from recipes.progress import SILENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recipes.progress import Progress

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
}
MIB = 1 << 20
#: 6 MiB of which 512 KiB and an odd rest are data.
DISK = bytes(MIB) + random.Random(1).randbytes(MIB // 2) + bytes(4 * MIB) + b"the end"

each_codec = pytest.mark.parametrize("codec", COMPRESS)


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def _unwrap(
    folder: Path,
    packed: bytes,
    *,
    limit: int = 1 << 40,
    progress: Progress = SILENCE,
    digests: bool = True,
    published: str | None = None,
) -> Unwrapped:
    source = folder / "wrapper"
    source.write_bytes(packed)
    context = Context(progress, "content", 2, limit)
    return unwrap(source, folder / "content", context, digests=digests, published=published)


@each_codec
@pytest.mark.parametrize("content", [DISK, bytes(3 * MIB), b"\0" * 512, b"\0", b""], ids=len)
def test_a_raw_disk(codec: str, content: bytes, tmp_path: Path) -> None:
    unwrapped = _unwrap(tmp_path, COMPRESS[codec](content))
    destination = tmp_path / "content"
    assert destination.read_bytes() == content
    assert unwrapped.codec == codec
    assert unwrapped.content.digest is None
    assert unwrapped.content.size == len(content)
    assert unwrapped.content.virtual_size == -(-len(content) // 512) * 512
    assert unwrapped.content.format == "raw"
    assert unwrapped.blkhash == blkhash.of_file(destination, jobs=1, meter=_Meter())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@each_codec
def test_a_published_digest_is_found_beside_the_blkhash(codec: str, algorithm: str, tmp_path: Path) -> None:
    unwrapped = _unwrap(tmp_path, COMPRESS[codec](DISK), published=algorithm)
    assert str(unwrapped.digest) == f"{algorithm}:{hashlib.new(algorithm, DISK).hexdigest()}"
    assert unwrapped.blkhash == blkhash.of_file(tmp_path / "content", jobs=1, meter=_Meter())


def test_what_is_no_disk_is_known_by_its_sha256(tmp_path: Path) -> None:
    content = b"a text"
    # In many members, so that no piece alone says what it is.
    unwrapped = _unwrap(
        tmp_path, b"".join(gzip.compress(_qcow2()[at : at + 1]) for at in range(512)) + gzip.compress(content)
    )
    whole = _qcow2()[:512] + content
    assert str(unwrapped.digest) == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert unwrapped.blkhash is None


def test_no_digest_where_nobody_wants_one(tmp_path: Path) -> None:
    for content in (DISK, _qcow2()):
        unwrapped = _unwrap(tmp_path, gzip.compress(content), digests=False, published="sha256")
        assert (unwrapped.digest, unwrapped.blkhash) == (None, None)
        (tmp_path / "content").unlink()


@each_codec
def test_zeros_become_holes(codec: str, tmp_path: Path) -> None:
    _unwrap(tmp_path, COMPRESS[codec](DISK))
    assert MIB // 2 <= allocated(tmp_path / "content") <= MIB // 2 + 64 * 1024


def _qcow2() -> bytes:
    return struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 7 << 30).ljust(100_000, b"\0")


@pytest.mark.parametrize(
    ("content", "form", "virtual_size", "is_disk"),
    [
        (_qcow2(), "qcow2", 7 << 30, False),
        (bytes(0x8001) + b"CD001" + bytes(MIB), "iso9660", 0x8200 + MIB, True),
        ((bytes(257) + b"ustar\0").ljust(10240, b"\0"), "tar", None, False),
        (b"vhdxfile" + bytes(9000), "vhdx", None, False),
        (bytes(MIB) + b"conectix" + bytes(504), "vhd", None, True),
        (lzma.compress(DISK), "xz", None, False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_content(content: bytes, form: str, virtual_size: int | None, is_disk: bool, tmp_path: Path) -> None:
    unwrapped = _unwrap(tmp_path, gzip.compress(content))
    assert (tmp_path / "content").read_bytes() == content
    assert unwrapped.content.format == form
    assert unwrapped.content.virtual_size == virtual_size
    # What the receipt knows the file by.
    assert (unwrapped.blkhash is not None) == is_disk
    assert (unwrapped.digest is None) == is_disk


class _Meter:
    def __init__(self, stop_after: int | None = None) -> None:
        self.total: int | None = None
        self.done = 0
        self._stop_after = stop_after

    def advance(self, count: int) -> None:
        self.done += count
        if self._stop_after is not None and self.done > self._stop_after:
            raise Interrupted("told to stop")

    def expect(self, total: int | None) -> None:
        self.total = total


class _Watch:
    """A progress that keeps what its only meter is told."""

    def __init__(self, meter: _Meter) -> None:
        self._meter = meter

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[_Meter]:
        assert label == "content"
        self._meter.expect(total)
        yield self._meter

    def note(self, message: str) -> None:
        pytest.fail(message)


@each_codec
def test_progress_is_of_the_wrapper(codec: str, tmp_path: Path) -> None:
    meter = _Meter()
    packed = COMPRESS[codec](DISK)
    _unwrap(tmp_path, packed, progress=_Watch(meter))
    assert meter.total == len(packed)
    assert len(packed) - 64 <= meter.done <= len(packed)


@each_codec
def test_an_interruption_leaves_nothing(codec: str, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        _unwrap(tmp_path, COMPRESS[codec](DISK), progress=_Watch(_Meter(stop_after=200_000)))
    assert not (tmp_path / "content").exists()


@each_codec
def test_damage_leaves_nothing(codec: str, tmp_path: Path) -> None:
    packed = bytearray(COMPRESS[codec](DISK))
    packed[len(packed) // 2] ^= 1
    for bad in (packed, packed[: len(packed) // 2]):
        # Frames without a checksum keep a flipped bit in literal bytes to themselves.
        if codec == "zstd" and bad is packed:
            continue
        with pytest.raises(CorruptImage, match=codec):
            _unwrap(tmp_path, bytes(bad))
        assert not (tmp_path / "content").exists()


def test_an_existing_destination_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"precious")
    with pytest.raises(StoreError, match="content: File exists"):
        _unwrap(tmp_path, gzip.compress(DISK))
    assert (tmp_path / "content").read_bytes() == b"precious"


@pytest.mark.parametrize("packed", [DISK, _qcow2(), b""], ids=["raw", "qcow2", "empty"])
def test_what_is_not_compressed(packed: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature, match="expected one of gzip, xz, bzip2, zstd"):
        _unwrap(tmp_path, packed)
    assert not (tmp_path / "content").exists()


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    packed = lzma.compress(random.Random(3).randbytes(3 * MIB)) * 6
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "wrapper").write_bytes(packed)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, limits[1]))
    try:
        with pytest.raises(StoreError, match="content: File too large"):
            unwrap(tmp_path / "wrapper", tmp_path / "content", Context(SILENCE, "content", 2, 1 << 40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "content").exists()


@each_codec
def test_the_limit_is_exact(codec: str, tmp_path: Path) -> None:
    packed = COMPRESS[codec](DISK)
    with pytest.raises(LimitExceeded, match=str(len(DISK) - 1)):
        _unwrap(tmp_path, packed, limit=len(DISK) - 1)
    assert not (tmp_path / "content").exists()
    assert _unwrap(tmp_path, packed, limit=len(DISK)).content.size == len(DISK)


def test_a_declared_bomb_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    for packed in (lzma.compress(bytes(16 * MIB)) * 640, zstandard.compress(bytes(16 * MIB)) * 640):
        meter = _Meter()
        with pytest.raises(LimitExceeded, match=f"declares {10 << 30}"):
            _unwrap(tmp_path, packed, limit=content_limit(len(packed), 5 << 30), progress=_Watch(meter))
        assert meter.done == 0


def _zstd_zeros(size: int) -> bytes:
    """A frame that does not say how much it holds, of RLE blocks (RFC 8878, section 3.1.1.2)."""
    block = struct.pack("<I", (128 * 1024) << 3 | 1 << 1)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * (size >> 17) + b"\x01\0\0"


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(bytes(64 * MIB)) * 160,
    "bzip2": lambda: bz2.compress(bytes(16 * MIB)) * 640,
    "zstd": lambda: _zstd_zeros(10 << 30),
}


@pytest.mark.parametrize("codec", BOMBS)
def test_ten_gigabytes_of_zeros_stop_early_in_little_memory(codec: str, tmp_path: Path) -> None:
    packed = BOMBS[codec]()
    (tmp_path / "wrapper").write_bytes(packed)
    # A process of its own: the peak of this one tells nothing.
    program = r"""if True:
        import re, resource, sys
        from pathlib import Path
        from recipes.errors import LimitExceeded
        from recipes.formats.wrapper.unwrap import unwrap
        from recipes.formats.io.context import Context
        try:
            unwrap(Path(sys.argv[1]), Path(sys.argv[2]), Context(jobs=2, limit=300 << 20))
        except LimitExceeded:
            # Linux counts the parent's memory in a child's ru_maxrss.
            if sys.platform == "linux":
                print(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
            else:
                print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    """
    command = [sys.executable, "-c", program, str(tmp_path / "wrapper"), str(tmp_path / "content")]
    root = Path(__file__).parents[3]
    peak = int(subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout)
    assert peak < 100 * 1024
    assert not (tmp_path / "content").exists()
