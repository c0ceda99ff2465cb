from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, DigestMismatch, LimitExceeded
from recipes.formats.io import bounds
from recipes.model import Digest
from tests.kit.machines import Machine
from tests.kit.project import disk, sha256

if TYPE_CHECKING:
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
