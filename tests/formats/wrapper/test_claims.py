"""What a wrapper says of its content, held against what is in it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import struct
import subprocess
from typing import TYPE_CHECKING, ClassVar

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.wrapper import claims
from recipes.formats.wrapper.claims import Claims
from tests.kit.archives import tar, zipped
from tests.kit.oracles import need

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MiB = 1 << 20
#: Random data, which every codec stores as it is: a wrapper that is much larger than its beginning.
NOISE = hashlib.shake_256(b"noise").digest(3 * MiB)
RAW = b"\xfa\x33\xc0".ljust(510, b"\0") + b"\x55\xaa" + bytes(MiB - 512) + NOISE
QCOW2 = b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, 10 << 30) + bytes(65536) + NOISE
VMDK = b"KDMV" + struct.pack("<IIQ", 1, 3, 10 << 30 >> 9).ljust(508, b"\0") + NOISE


class Served:
    """A wrapper that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read = 0

    def pread(self, offset: int, count: int) -> bytes:
        piece = self.data[offset : offset + count]
        self.read += len(piece)
        return piece

    def claims(self) -> Claims:
        return claims.read("a", len(self.data), self.pread)


def run(*command: str, data: bytes) -> bytes:
    need(command[0])
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


#: Made when a test needs them: to compress takes seconds, and every worker of pytest imports this.
SIZES: dict[str, tuple[Callable[[], bytes], Claims]] = {
    "qcow2": (lambda: QCOW2, Claims(None, "qcow2", len(QCOW2), 10 << 30)),
    "raw": (lambda: RAW, Claims(None, "raw", len(RAW), len(RAW))),
    "raw, part of a sector": (lambda: RAW[:-12], Claims(None, "raw", len(RAW) - 12, len(RAW))),
    "vhd": (lambda: RAW + b"conectix".ljust(512), Claims(None, "vhd", len(RAW) + 512, None)),
    "vmdk": (lambda: VMDK, Claims(None, "vmdk", len(VMDK), 10 << 30)),
    "two bytes": (lambda: b"\0\1", Claims(None, "raw", 2, 512)),
    "text": (lambda: b"tiny", Claims(None, "text", 4, None)),
    "gzip": (lambda: gzip.compress(RAW), Claims("gzip", "raw", None, None)),
    "gzip of qcow2": (lambda: gzip.compress(QCOW2), Claims("gzip", "qcow2", None, 10 << 30)),
    "bzip2": (lambda: bz2.compress(QCOW2), Claims("bzip2", "qcow2", None, 10 << 30)),
    "xz": (lambda: lzma.compress(QCOW2), Claims("xz", "qcow2", len(QCOW2), 10 << 30)),
    "xz of nothing": (lambda: lzma.compress(b""), Claims("xz", None, 0, None)),
}


@pytest.mark.parametrize(("data", "expected"), SIZES.values(), ids=SIZES)
def test_sizes(data: Callable[[], bytes], expected: Claims) -> None:
    assert Served(data()).claims() == expected


class TestArchives:
    FILES: ClassVar = {"readme": b"x" * 5000, "a.qcow2": QCOW2, "more": NOISE}

    @pytest.mark.parametrize("pack", [tar, zipped])
    def test_a_few_ranges_tell(self, pack: Callable[[dict[str, bytes]], bytes]) -> None:
        served = Served(pack(self.FILES))
        found = claims.read("a", len(served.data), served.pread, member="")
        assert found == Claims(None, "qcow2", len(QCOW2), 10 << 30)
        assert served.read < len(served.data) / 2

    def test_an_archive_is_content_where_no_disk_is_wanted(self) -> None:
        data = tar(self.FILES)
        assert Served(data).claims() == Claims(None, "tar", len(data), None)

    def test_a_compressed_one_says_nothing(self) -> None:
        served = Served(gzip.compress(tar(self.FILES)))
        assert claims.read("a", len(served.data), served.pread, member="") == Claims("gzip", "tar", None, None)

    def test_many_members_are_not_looked_through(self) -> None:
        served = Served(tar({str(at): bytes(20_000) for at in range(200)}))
        assert claims.read("a", len(served.data), served.pread, member="") == Claims(None, "tar", None, None)

    def test_what_will_be_refused_is(self) -> None:
        served = Served(tar({"a.img": b"1", "b.img": b"2"}))
        with pytest.raises(UnsupportedFeature, match="expected one disk"):
            claims.read("a", len(served.data), served.pread, member="")


@pytest.mark.parametrize("options", [["-T2", "--block-size=300000"], ["-T1", "--block-size=300000"], ["-1"]])
def test_real_xz(options: list[str]) -> None:
    served = Served(run("xz", "-c", *options, data=RAW))
    assert served.claims() == Claims("xz", "raw", len(RAW), len(RAW))
    assert served.read < len(served.data) / 4


def test_xz_of_many_blocks_is_read_in_its_index() -> None:
    reads = []

    def pread(offset: int, count: int) -> bytes:
        reads.append(offset)
        return data[offset : offset + count]

    data = run("xz", "-c", "--block-size=50000", data=NOISE)
    assert claims.read("a", len(data), pread).content_size == len(NOISE)
    # The beginning, and what is within one window of the end.
    assert [offset for offset in reads if 1 << 17 < offset < len(data) - (1 << 16)] == []


def test_xz_of_several_streams_and_padding() -> None:
    data = lzma.compress(RAW[:MiB]) + lzma.compress(RAW[MiB:]) + bytes(8)
    assert Served(data).claims() == Claims("xz", "raw", len(RAW), len(RAW))


@pytest.mark.parametrize("options", [["-3"], ["-19"], ["-T2", "--long=27"]])
def test_real_zstd(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "a").write_bytes(RAW)
    served = Served(run("zstd", "-c", *options, str(tmp_path / "a"), data=b""))
    assert served.claims() == Claims("zstd", "raw", len(RAW), len(RAW))
    assert served.read < len(served.data) / 4


def test_zstd_from_a_pipe_says_nothing() -> None:
    assert Served(run("zstd", "-c", data=QCOW2)).claims() == Claims("zstd", "qcow2", None, 10 << 30)


def test_zstd_of_several_frames_is_not_taken_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(RAW[:MiB])
    (tmp_path / "2").write_bytes(RAW[MiB:])
    frames = [run("zstd", "-c", str(tmp_path / name), data=b"") for name in "12"]
    assert Served(b"".join(frames)).claims() == Claims("zstd", "raw", None, None)
    # pzstd announces each frame's bytes in a skippable frame.
    announced = b"".join(struct.pack("<III", 0x184D2A50, 4, len(frame)) + frame for frame in frames)
    assert Served(announced).claims() == Claims("zstd", "raw", None, None)


@pytest.mark.parametrize("codec", [gzip.compress, bz2.compress, lzma.compress])
def test_few_bytes_are_enough(codec: Callable[[bytes], bytes]) -> None:
    served = Served(codec(NOISE * 2))
    served.claims()
    assert served.read < len(served.data) / 4


DAMAGE: dict[str, Callable[[], bytes]] = {
    "xz cut off": lambda: lzma.compress(RAW[:MiB])[:-4],
    "xz with junk": lambda: lzma.compress(RAW[:MiB]) + b"junk",
    "gzip cut off": lambda: gzip.compress(RAW, mtime=0)[:9],
    "bzip2 cut off": lambda: bz2.compress(RAW[:MiB])[:4],
    "a magic of zstd": lambda: b"\x28\xb5\x2f\xfd",
    "no frame of zstd": lambda: b"\x28\xb5\x2f\xfd" + b"\xff" * 20,
    "a skipped frame without end": lambda: b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
    "a magic of a skipped frame": lambda: b"\x50\x2a\x4d\x18",
}


@pytest.mark.parametrize("data", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told(data: Callable[[], bytes]) -> None:
    with pytest.raises(CorruptImage, match=r"^a: "):
        Served(data()).claims()
