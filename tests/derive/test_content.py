from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING, ClassVar

import pytest

from recipes.errors import CorruptImage, DigestMismatch, LimitExceeded, UnsupportedFeature
from recipes.formats.io import bounds
from recipes.model import Digest
from tests.kit.archives import tar, zipped
from tests.kit.disks import qcow2
from tests.kit.machines import Machine
from tests.kit.project import disk, sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DISK = disk("thing")
PACKED = gzip.compress(DISK, mtime=0)


def machine(folder: Path, data: bytes, content: Digest | None = None) -> Machine:
    made = Machine(folder / "machine", "registry.invalid", data=data)
    made.identity = made.identity._replace(content=content)
    return made


def digest(data: bytes) -> Digest:
    return Digest.parse(sha256(data))


def test_compression_is_undone(tmp_path: Path) -> None:
    made = machine(tmp_path, PACKED)
    receipt = made.build("content")
    assert made.entry.artifact("content").read_bytes() == DISK
    assert receipt.content is not None
    assert (receipt.content.size, receipt.content.format) == (len(DISK), "raw")


def test_what_is_not_compressed_gets_a_second_name(tmp_path: Path) -> None:
    made = machine(tmp_path, DISK)
    made.entry.ask("fetch")
    receipt = made.build("content")
    wrapper, content = made.entry.artifact("fetch"), made.entry.artifact("content")
    assert wrapper.stat().st_ino == content.stat().st_ino
    assert receipt.artifact.digest == made.identity.digest


@pytest.mark.parametrize("data", [DISK, PACKED], ids=["plain", "gzip"])
class TestPublishedDigests:
    def test_that_hold(self, tmp_path: Path, data: bytes) -> None:
        receipt = machine(tmp_path, data, digest(DISK)).build("content")
        assert receipt.content is not None
        assert receipt.content.digest == digest(DISK)

    def test_by_another_algorithm(self, tmp_path: Path, data: bytes) -> None:
        import hashlib

        found = Digest("sha512", hashlib.sha512(DISK).hexdigest())
        machine(tmp_path, data, found).build("content")

    def test_that_do_not(self, tmp_path: Path, data: bytes) -> None:
        made = machine(tmp_path, data, digest(b"other"))
        with pytest.raises(DigestMismatch, match="is not what upstream lists") as caught:
            made.build("content")
        assert str(digest(DISK)) in caught.value.message
        assert made.entry.receipt("content") is None
        assert not made.entry.artifact("content").exists()


def test_no_more_than_the_wrapper_pays_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FREE_CONTENT", 0)
    monkeypatch.setattr(bounds, "EXPANSION", 10)
    made = machine(tmp_path, gzip.compress(bytes(1 << 20), mtime=0))
    with pytest.raises(LimitExceeded):
        made.build("content")
    assert not made.entry.artifact("content").exists()


def test_a_stream_that_ends_early(tmp_path: Path) -> None:
    made = machine(tmp_path, PACKED[:-100])
    with pytest.raises(CorruptImage):
        made.build("content")
    assert made.entry.receipt("content") is None


class TestArchives:
    """A disk in an archive: what is content then is the disk."""

    FILES: ClassVar = {"readme": b"text", "a.img": DISK, "b.img": bytes(510) + b"\x55\xaa" + bytes(512)}

    @pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
    def test_the_disk_is_the_content(self, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
        made = machine(tmp_path, pack(tar({"readme": b"text", "disk.raw": DISK})))
        receipt = made.build("content")
        assert made.entry.artifact("content").read_bytes() == DISK
        assert receipt.content is not None
        assert (receipt.content.size, receipt.content.format) == (len(DISK), "raw")
        left = {path.name for path in made.entry.path.iterdir()}
        assert {name for name in left if "content" in name or "scratch" in name} == {"content", "content.json"}
        assert made.build("raw").artifact.blkhash == receipt.artifact.blkhash

    def test_of_a_zip(self, tmp_path: Path) -> None:
        made = machine(tmp_path, zipped({"a.qcow2": qcow2("x")[0], "notes.txt": b"x"}))
        receipt = made.build("raw")
        assert made.entry.artifact("raw").read_bytes() == qcow2("x")[1]
        assert receipt.content is not None
        assert receipt.content.format == "qcow2"

    def test_what_is_declared_decides_and_is_part_of_the_key(self, tmp_path: Path) -> None:
        made = machine(tmp_path, gzip.compress(tar(self.FILES)))
        with pytest.raises(UnsupportedFeature, match=r"expected one disk in the archive, found a\.img .*, b\.img"):
            made.build("content")
        before = made.key("content")
        made.image = made.image._replace(source=made.image.source._replace(member="a.*"))
        assert made.key("content") != before
        made.build("content")
        assert made.entry.artifact("content").read_bytes() == DISK
        made.image = made.image._replace(source=made.image.source._replace(member="b.img"))
        made.build("content")
        assert made.entry.artifact("content").read_bytes() == self.FILES["b.img"]

    def test_upstream_s_digest_is_of_the_archive_inside(self, tmp_path: Path) -> None:
        inside = tar({"disk.raw": DISK})
        for name in "ab":
            (tmp_path / name).mkdir()
        machine(tmp_path / "a", gzip.compress(inside), digest(inside)).build("content")
        with pytest.raises(DigestMismatch):
            machine(tmp_path / "b", gzip.compress(inside), digest(DISK)).build("content")

    def test_a_tarball_that_is_a_root_stays_one(self, tmp_path: Path) -> None:
        inside = tar({"disk.raw": DISK})
        made = machine(tmp_path, gzip.compress(inside))
        made.image = made.image._replace(kind="rootfs", derive=("content",))
        made.build("content")
        assert made.entry.artifact("content").read_bytes() == inside
