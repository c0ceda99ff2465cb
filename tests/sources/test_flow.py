"""A blob that is taken on while it arrives."""

from __future__ import annotations

import hashlib
import random
import threading
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.codec import zstd_disk
from recipes.formats.codec.arriving import arriving
from recipes.model import BlockHash, Digest
from recipes.progress import SILENT_METER
from recipes.sources.flow import Flow
from recipes.sources.part import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Longer than any of this takes, so that what hangs fails.
SECONDS = 20
ANYWHERE = Origin("https://example.org/", None, None, None, None, None)
CHUNK = 1 << 16


def _skippable(size: int) -> bytes:
    return b"\x50\x2a\x4d\x18" + size.to_bytes(4, "little") + bytes(size)


@pytest.fixture
def blob(tmp_path: Path) -> bytes:
    """A disk as zstd, and a skippable frame of many chunks, whose payload no decoder reads."""
    disk = tmp_path / "disk"
    disk.write_bytes(random.Random(1).randbytes(100_000) + bytes(1 << 20))
    return b"".join(zstd_disk.compress(disk, jobs=1, level=1, meter=SILENT_METER)) + _skippable(20 * CHUNK)


def _flow(blob: bytes, path: Path, *, size: int) -> Flow[BlockHash]:
    def expand(chunks: Iterator[bytes]) -> BlockHash:
        wrapper = arriving(chunks, "blob", "zstd", size, look_back=zstd_disk.LOOK_BACK)
        return zstd_disk.expand_wrapper(wrapper, path, jobs=2, limit=1 << 30, meter=SILENT_METER)

    return Flow(path, Digest("sha256", hashlib.sha256(blob).hexdigest()), expand)


def _receive(flow: Flow[BlockHash], blob: bytes) -> list[BaseException | None]:
    """Hand a blob on as a download does; return the error that ended it, or None."""
    found: list[BaseException | None] = []

    def receive() -> None:
        try:
            flow.begin(ANYWHERE)
            for at in range(0, len(blob), CHUNK):
                flow.write(blob[at : at + CHUNK])
            flow.finish()
            found.append(None)
        except CorruptImage as error:
            found.append(error)

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive(), "the download waits for ever"
    return found


def test_what_the_decoder_does_not_read_is_received_and_hashed(blob: bytes, tmp_path: Path) -> None:
    with _flow(blob, tmp_path / "raw", size=len(blob)) as flow:
        assert _receive(flow, blob) == [None]
        assert flow.complete
        assert flow.result is not None
    assert (tmp_path / "raw").read_bytes() == (tmp_path / "disk").read_bytes()


def test_a_decoder_that_fails_ends_the_download_and_leaves_nothing(blob: bytes, tmp_path: Path) -> None:
    damaged = blob.replace(_skippable(20 * CHUNK), b"none" * 4 * CHUNK)
    with _flow(damaged, tmp_path / "raw", size=len(damaged)) as flow:
        (error,) = _receive(flow, damaged)
        assert "expected the magic of a frame" in str(error)
    assert not (tmp_path / "raw").exists()
