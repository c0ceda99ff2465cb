"""Zip archives of zip(1), bsdtar and Python, and what no zip archive should be."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.archive import zip as zip_read
from recipes.formats.io.source import FileSource
from tests.kit.archives import content, members, zipped
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
NOISE = random.Random(1).randbytes(300_000)
FILES = {"a/text": b"some text\n" * 40_000, "noise.raw": NOISE, "empty": b"", "ü.raw": b"\1" * 5}


def read(data: bytes) -> dict[str, bytes]:
    return {member.name: content(member) for member in members(data, "zip")}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_of_python(method: int) -> None:
    assert read(zipped(FILES, method)) == FILES


@pytest.mark.parametrize(
    "words", [["zip", "-qr"], ["zip", "-qr0"], ["zip", "-qrfz"], ["bsdtar", "--format=zip", "-cf"]]
)
def test_of_other_tools(words: list[str], tmp_path: Path) -> None:
    need(words[0])
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "link").symlink_to("noise.raw")
    more = ["-y"] if words[0] == "zip" else []
    subprocess.run([*words, *more, tmp_path / "out.zip", *FILES, "link"], cwd=folder, check=True)
    assert read((tmp_path / "out.zip").read_bytes()) == FILES, "a link is no file"


def test_what_a_pipe_gets(tmp_path: Path) -> None:
    """Sizes behind the data: zip(1) that writes to a pipe."""
    need("zip")
    done = subprocess.run(["zip", "-q", "-", "-"], input=NOISE, stdout=subprocess.PIPE, check=True)
    assert list(read(done.stdout).values()) == [NOISE]


def test_more_than_4_gib(tmp_path: Path) -> None:
    """Members and places that take zip64, in an archive of holes."""
    path = tmp_path / "large.zip"
    with path.open("wb") as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        archive.writestr("first", b"1")
        with archive.open(zipfile.ZipInfo("zeros.raw"), "w", force_zip64=True) as member:
            member.write(b"x")
    size = (5 << 30) + 3
    data = bytearray(path.read_bytes())
    # Grown by hand: a hole of 5 GiB is stored in the place of one byte.
    entry = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    local = data.index(b"PK\3\4", 10)
    begin = local + 30 + len("zeros.raw") + struct.unpack_from("<H", data, local + 28)[0]
    head, tail = data[: begin + 1], data[begin + 1 :]
    name = b"zeros.raw"
    extra = struct.pack("<2H2Q", 1, 16, size, size)
    fields = list(struct.unpack_from("<4s6H3I5H2I", data, entry))
    fields[8] = fields[9] = 0xFFFFFFFF
    fields[11] = len(extra)
    first = tail[: entry - begin - 1]
    first = first[first.index(b"PK\1\2") :]
    directory = bytes(first) + struct.pack("<4s6H3I5H2I", *fields) + name + extra
    at = len(head) - 1 + size
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, len(directory), at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at + len(directory), 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with path.open("wb") as file:
        file.write(head)
        file.seek(at)
        file.write(directory + end64 + locator + end)
    with zipfile.ZipFile(path) as archive:
        assert [each.file_size for each in archive.infolist()] == [1, size]
    with path.open("rb") as source:
        one, other = zip_read.members(FileSource(source.fileno(), "large"))
        assert (content(one), other.size) == (b"1", size)
        assert next(iter(other.chunks())) == (0, b"x" + bytes(MiB - 1))


def test_something_before_the_archive() -> None:
    """As in what unpacks itself."""
    assert read(b"#!/bin/sh\n" * 20 + zipped(FILES)) == FILES


def test_a_comment_that_looks_like_an_end() -> None:
    out = io.BytesIO(zipped(FILES))
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = b"PK\5\6" + bytes(40)
    assert read(out.getvalue()) == FILES


class TestRefused:
    DATA = zipped({"a.raw": b"some text\n" * 1000, "b.raw": NOISE[:1000]})

    def entry(self, number: int = 0) -> int:
        at = -1
        for _ in range(number + 1):
            at = self.DATA.index(b"PK\1\2", at + 1)
        return at

    def patched(self, at: int, data: bytes) -> bytes:
        return self.DATA[:at] + data + self.DATA[at + len(data) :]

    def test_encrypted(self) -> None:
        with pytest.raises(UnsupportedFeature, match=r"a\.raw is encrypted"):
            members(self.patched(self.entry() + 8, b"\1\0"), "zip")

    @pytest.mark.parametrize(("method", "name"), [(14, "LZMA"), (93, "zstd"), (9, "Deflate64"), (77, "method 77")])
    def test_methods(self, method: int, name: str) -> None:
        with pytest.raises(UnsupportedFeature, match=name):
            members(self.patched(self.entry() + 10, struct.pack("<H", method)), "zip")

    @pytest.mark.parametrize(
        ("place", "value", "message"), [(6, 64, "needs version 64"), (8, 1 << 5, "is a patch of another file")]
    )
    def test_what_no_archive_has(self, place: int, value: int, message: str) -> None:
        with pytest.raises(UnsupportedFeature, match=message):
            members(self.patched(self.entry() + place, struct.pack("<H", value)), "zip")

    def test_a_directory_with_more_than_its_entries(self) -> None:
        end = len(self.DATA) - 22
        with pytest.raises(CorruptImage, match="its central directory has"):
            members(self.patched(end + 8, struct.pack("<2H", 1, 1)), "zip")

    def test_several_files(self) -> None:
        with pytest.raises(UnsupportedFeature, match="in several files"):
            members(self.patched(len(self.DATA) - 22 + 4, b"\1\0"), "zip")

    def test_members_that_overlap(self) -> None:
        at = self.entry(1) + 42
        with pytest.raises(CorruptImage, match="overlaps"):
            members(self.patched(at, struct.pack("<I", 0)), "zip")

    def test_a_member_behind_the_others(self) -> None:
        with pytest.raises(CorruptImage, match=r"ends at byte"):
            members(self.patched(self.entry(1) + 20, struct.pack("<I", 1 << 20)), "zip")

    @pytest.mark.parametrize(
        ("place", "data", "message"),
        [
            (24, struct.pack("<I", 5), "has more than the 5 bytes"),
            (24, struct.pack("<I", 1 << 20), "expected 1048576 bytes, found 10000"),
            (16, b"\0\0\0\0", "expected the CRC-32 00000000"),
            (46, b"c", "its header is not what the directory says"),
        ],
    )
    def test_a_directory_that_lies(self, place: int, data: bytes, message: str) -> None:
        member = members(self.patched(self.entry() + place, data), "zip")[0]
        with pytest.raises(CorruptImage, match=message):
            content(member._replace(size=1 << 21))

    def test_damage(self) -> None:
        with pytest.raises(CorruptImage):
            content(members(self.patched(60, b"\xff" * 8), "zip")[0])

    def test_any_cut(self) -> None:
        for stop in range(0, len(self.DATA), 37):
            with pytest.raises(CorruptImage):
                members(self.DATA[:stop], "zip")

    def test_more_members_than_an_archive_with_a_disk_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zip_read, "MAX_MEMBERS", 1)
        with pytest.raises(LimitExceeded, match="2 members, and 1 are allowed"):
            members(self.DATA, "zip")


def test_a_bomb_costs_what_it_is_asked_for() -> None:
    """Ten MiB of zeros are said to be 1000 bytes: it ends there."""
    packed = zlib.compress(bytes(10 * MiB), 9)[2:-4]
    data = zipped({"a.raw": bytes(10 * MiB)})
    at = data.index(b"PK\1\2")
    data = data[: at + 24] + struct.pack("<I", 1000) + data[at + 28 :]
    assert len(data) < len(packed) + 300
    with pytest.raises(CorruptImage, match="more than the 1000 bytes"):
        content(members(data, "zip")[0])


SAMPLE = zipped({"a.raw": b"some text\n" * 50, "b": b"x"})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=4))
def test_whatever_is_changed_is_refused_or_another_archive(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for at, value in changes:
        data[at] = value
    try:
        for member in members(bytes(data), "zip"):
            content(member)
    except ImageError:
        pass
