from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import threading
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.errors import CorruptImage, Interrupted, LarderError
from recipes.formats.disk.convert import convert
from recipes.formats.disk.qcow2.image import Qcow2
from recipes.formats.io.blkhash import BlockHasher
from recipes.formats.io.sparse import SparseFile, allocated
from recipes.progress import SILENCE
from tests.kit.disks import reference
from tests.kit.oracles import lack, need
from tests.kit.qcow2_images import COMPRESSED, build, content, create, qemu_raw, run, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.progress import Meter

CLUSTER = 65536
FIRST = 4 * CLUSTER
LIMIT = 2 << 40


class Count:
    """A meter that remembers, and that stops the work once `stop` bytes are done."""

    def __init__(self, stop: int | None = None) -> None:
        self.done = 0
        self.total: int | None = None
        self._stop = stop

    def advance(self, count: int) -> None:
        self.done += count
        if self._stop is not None and self.done >= self._stop:
            raise Interrupted("told to stop")

    def expect(self, total: int | None) -> None:
        self.total = total


def convert_file(
    source: Path, raw: Path, *, jobs: int = 3, meter: Meter | None = None, hasher: BlockHasher | None = None
) -> int:
    """Convert `source` to `raw` and return the disk's size."""
    with source.open("rb") as file, SparseFile(raw) as target, SILENCE.meter("convert") as silent:
        image = Qcow2(file.fileno(), source, max_virtual_size=LIMIT)
        convert(image, target, jobs=jobs, meter=meter or silent, hasher=hasher)
        return image.header.virtual_size


def assert_as_qemu(path: Path) -> bytes:
    """Hold the conversion and its digest against qemu-img's; return the content."""
    wanted = qemu_raw(path)
    assert wanted is not None
    raw = path.with_name(path.name + ".larder")
    raw.unlink(missing_ok=True)
    hasher = BlockHasher()
    meter = Count()
    size = convert_file(path, raw, meter=meter, hasher=hasher)
    data = raw.read_bytes()
    assert data == wanted
    assert hasher.result(size).hex == reference(data)
    assert meter.done == meter.total
    raw.unlink()
    return data


# Every kind of cluster, at places and with lengths that suit no size of cluster.
WRITES = (
    "write -P 1 0 512",
    "write -P 2 63k 3k",
    "write -P 3 200k 170k",
    "write -P 0 400k 40k",
    "write -P 4 900k 1k",
    "discard 300k 20k",
)
WRITES_V3 = ("write -z 210k 7k", "write -z -u 230k 64k", "write -z 700k 100k")
SIZE = 1024 * 1024 + 512


@pytest.mark.parametrize(
    "options",
    [
        *[("compat=0.10", f"cluster_size={1 << bits}") for bits in (9, 12, 16, 21)],
        *[("compat=1.1", f"cluster_size={1 << bits}") for bits in range(9, 22)],
        *[("extended_l2=on", f"cluster_size={1 << bits}") for bits in (14, 16, 21)],
        ("compat=1.1", "preallocation=falloc"),
        ("compat=1.1", "refcount_bits=1"),
        ("extended_l2=on", "preallocation=metadata"),
    ],
    ids=lambda options: "-".join(options),
)
def test_plain_clusters(tmp_path: Path, options: tuple[str, ...]) -> None:
    need("qemu-img", "qemu-io")
    path = create(tmp_path / "image", SIZE, *options)
    write(path, *WRITES, *(() if "compat=0.10" in options else WRITES_V3))
    assert_as_qemu(path)


@pytest.mark.parametrize("size", [512, 65536, 1_000_448, 3_000_320])
@pytest.mark.parametrize(
    "options",
    [
        *[("compat=1.1", f"cluster_size={1 << bits}") for bits in (9, 12, 15, 16, 18, 21)],
        *[("compression_type=zstd", f"cluster_size={1 << bits}") for bits in (9, 12, 15, 16, 18, 21)],
        ("compat=0.10",),
        ("extended_l2=on", "cluster_size=16k"),
    ],
    ids=lambda options: "-".join(options),
)
def test_compressed_clusters(tmp_path: Path, options: tuple[str, ...], size: int) -> None:
    need("qemu-img")
    (tmp_path / "raw").write_bytes(content(size))
    run(
        "qemu-img",
        "convert",
        "-c",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "-o",
        ",".join(options),
        tmp_path / "raw",
        tmp_path / "image",
    )
    assert assert_as_qemu(tmp_path / "image") == (tmp_path / "raw").read_bytes()


def test_clusters_out_of_order_in_the_file(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    path = create(tmp_path / "image", "8M")
    places = list(range(128))
    random.Random(0).shuffle(places)
    write(path, *(f"write {'-c' if place % 3 else ''} -P {place + 1} {place * 64}k 64k" for place in places[:100]))
    assert_as_qemu(path)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_plain_and_compressed_clusters_of_one_image(tmp_path: Path, compression: str) -> None:
    need("qemu-img", "qemu-io")
    path = create(tmp_path / "image", "4M", f"compression_type={compression}")
    write(path, "write -c -P 1 0 512k", "write -P 2 512k 512k", "write -c -P 3 1M 64k", "write -P 4 100k 10k")
    write(path, "write -z 200k 100k", "write -P 5 3M 1M")
    assert_as_qemu(path)


def test_snapshots_and_bitmaps_are_not_the_active_state(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    path = create(tmp_path / "image", "4M")
    write(path, "write -P 1 0 1M", "write -c -P 2 1M 128k")
    run("qemu-img", "snapshot", "-c", "before", path)
    run("qemu-img", "bitmap", "--add", path, "changes")
    write(path, "write -P 3 512k 1M", "write -z 0 100k", "write -P 4 3M 64k")
    run("qemu-img", "snapshot", "-c", "after", path)
    data = assert_as_qemu(path)
    assert data[:1] == b"\0"
    assert data[3 << 20 : (3 << 20) + 1] == b"\4"


def test_stale_refcounts_do_no_harm(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    path = create(tmp_path / "image", "4M")
    write(path, "write -P 1 1M 1M")
    image = bytearray(path.read_bytes())
    image[79] |= 1  # the dirty bit
    image[2 * CLUSTER : 3 * CLUSTER] = bytes(CLUSTER)  # the first refcount block
    path.write_bytes(image)
    assert_as_qemu(path)


def test_a_terabyte_of_nothing_costs_nothing(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    path = create(tmp_path / "image", "1T")
    write(path, *(f"write -P {number + 1} {number * 60}G 64k" for number in range(16)))
    hasher = BlockHasher()
    assert convert_file(path, tmp_path / "raw", hasher=hasher) == 1 << 40
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, tmp_path / "raw")
    assert allocated(tmp_path / "raw") < 2 << 20


def test_zeros_that_the_image_stores_become_holes(tmp_path: Path) -> None:
    data = (bytes(4096) + b"x" * 4096) * 8 + bytes(CLUSTER)
    (tmp_path / "image").write_bytes(build(l2={0: FIRST, 1: FIRST + CLUSTER}, data=data))
    convert_file(tmp_path / "image", tmp_path / "raw", hasher=BlockHasher())
    assert (tmp_path / "raw").read_bytes() == data.ljust(1 << 20, b"\0")
    assert allocated(tmp_path / "raw") <= 8 * 4096 + 16384


def test_part_of_a_sector_at_the_end_of_the_disk_is_dropped(tmp_path: Path) -> None:
    need("qemu-img")
    (tmp_path / "image").write_bytes(build(size=1000, l2={0: FIRST}, data=b"x" * CLUSTER))
    assert len(assert_as_qemu(tmp_path / "image")) == 512


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -12)
    return compressor.compress(data) + compressor.flush()


def with_compressed(stored: bytes, *, zstd: bool, length: int = CLUSTER) -> bytes:
    """Return an image whose cluster 3 is `stored`, in `length` bytes of the file."""
    entry = COMPRESSED | (-(-length // 512) - 1) << 62 - 8 | FIRST
    data = stored.ljust(length, b"\xa5")
    return build(l2={3: entry}, data=data, compression_type=int(zstd), incompatible=8 if zstd else 0)


UNSIZED = zstandard.ZstdCompressor(write_content_size=False)
NOISE = random.Random(0).randbytes(CLUSTER)


@pytest.mark.parametrize(
    ("stored", "zstd"),
    [(deflated((b"abc" * 30_000)[:CLUSTER]), False), (UNSIZED.compress(NOISE), True)],
    ids=["zlib", "zstd without a size"],
)
def test_what_follows_the_compressed_data_is_ignored(tmp_path: Path, stored: bytes, zstd: bool) -> None:
    need("qemu-img")
    (tmp_path / "image").write_bytes(with_compressed(stored, zstd=zstd, length=CLUSTER + 4096))
    assert_as_qemu(tmp_path / "image")


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize(
    ("stored", "zstd"),
    [
        (b"", False),
        (b"", True),
        (deflated(bytes(CLUSTER))[:-5], False),
        (deflated(bytes(CLUSTER - 1)), False),
        (deflated(bytes(CLUSTER + 1)), False),
        (deflated(bytes(1 << 26)), False),
        (zstandard.compress(bytes(CLUSTER - 1)), True),
        (zstandard.compress(bytes(CLUSTER + 1)), True),
        (UNSIZED.compress(bytes(CLUSTER - 1)), True),
        (UNSIZED.compress(bytes(CLUSTER + 1)), True),
        # A frame header that claims 2^62 bytes (RFC 8878, section 3.1.1.1: single segment, size in 8 bytes).
        (b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 62), True),
    ],
)
def test_what_does_not_inflate_to_one_cluster_is_corrupt(
    tmp_path: Path, stored: bytes, zstd: bool, hashed: bool
) -> None:
    (tmp_path / "image").write_bytes(with_compressed(stored, zstd=zstd))
    with pytest.raises(CorruptImage, match="compressed cluster at guest offset 196608"):
        convert_file(tmp_path / "image", tmp_path / "raw", hasher=BlockHasher() if hashed else None)


def test_an_error_of_one_thread_stops_them_all(tmp_path: Path) -> None:
    clusters = 512
    data = NOISE * clusters
    image = build(size=clusters * CLUSTER, l2={index: FIRST + index * CLUSTER for index in range(clusters)}, data=data)
    (tmp_path / "image").write_bytes(image)
    meter = Count(stop=8 * CLUSTER)
    with pytest.raises(Interrupted):
        convert_file(tmp_path / "image", tmp_path / "raw", jobs=4, meter=meter, hasher=BlockHasher())
    assert meter.total == len(data)
    assert meter.done < len(data) // 2
    assert threading.active_count() == 1


@contextmanager
def xfs(tmp_path: Path) -> Iterator[Path]:
    """Mount a new XFS, whose files share extents."""
    need("mkfs.xfs", "mount")
    run("truncate", "-s", "320M", tmp_path / "xfs")
    run("mkfs.xfs", "-q", "-m", "reflink=1", tmp_path / "xfs")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    done = subprocess.run(["mount", "-o", "loop", tmp_path / "xfs", mounted], capture_output=True, check=False)
    if done.returncode:
        lack(f"mount: {done.stderr.decode().strip()}")
    try:
        yield mounted
    finally:
        run("umount", mounted)


@pytest.mark.skipif(sys.platform != "linux", reason="loop mounts")
@pytest.mark.parametrize("hashed", [True, False])
def test_plain_clusters_share_their_extents_where_they_can(tmp_path: Path, hashed: bool) -> None:
    need("qemu-img")
    with xfs(tmp_path) as folder:
        (folder / "content").write_bytes(NOISE * 1000 + bytes(4096) + b"end")
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", folder / "content", folder / "image")
        (folder / "content").unlink()
        run("sync", "-f", folder)
        before = free(folder)
        convert_file(folder / "image", folder / "raw", hasher=BlockHasher() if hashed else None)
        run("sync", "-f", folder)
        assert before - free(folder) < 4 << 20
        run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", folder / "image", folder / "raw")


def free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Small images of every kind, whose metadata are in the first cluster of their file or near."""
    need("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("specimens")
    made = []
    for number, options in enumerate(
        (
            "compat=0.10,cluster_size=4k",
            "compat=1.1,cluster_size=512",
            "compat=1.1,cluster_size=4k,compression_type=zstd",
            "cluster_size=16k,extended_l2=on",
        )
    ):
        path = create(folder / str(number), "200k", options)
        write(path, "write -c -P 1 0 64k", "write -P 2 64k 20k", "write -P 3 190k 4k")
        if "0.10" not in options:
            write(path, "write -z 72k 4k", "write -z 100k 32k")
        run("qemu-img", "snapshot", "-c", "s", path)
        write(path, "write -P 4 66k 1k")
        made.append(path.read_bytes())
    return made


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_larder_accepts_of_a_damaged_image_is_what_qemu_makes_of_it(
    data: st.DataObject, specimens: list[bytes], tmp_path: Path
) -> None:
    image = bytearray(data.draw(st.sampled_from(specimens)))
    l1 = int.from_bytes(image[40:48], "big")
    l2 = int.from_bytes(image[l1 : l1 + 8], "big") & 0xFF_FFFF_FFFF_FE00
    zones = st.one_of(
        st.integers(4, 111), st.integers(112, 511), st.integers(l1, l1 + 31), st.integers(l2, l2 + 511)
    ) | st.integers(4, len(image) - 1)
    for position in data.draw(st.lists(zones, min_size=1, max_size=3)):
        image[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "image"
    raw = tmp_path / "raw"
    path.write_bytes(image)
    raw.unlink(missing_ok=True)
    # qemu-img would write what a damaged size claims.
    with path.open("rb") as file, SparseFile(raw) as target, SILENCE.meter("convert") as meter:
        try:
            convert(Qcow2(file.fileno(), path, max_virtual_size=8 << 20), target, jobs=2, meter=meter)
        except LarderError:
            return
    assert raw.read_bytes() == qemu_raw(path)
