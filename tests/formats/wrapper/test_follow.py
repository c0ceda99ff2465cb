from __future__ import annotations

import bz2
import gzip
import lzma
import random
import threading
from typing import TYPE_CHECKING

import pytest
import zstandard

from recipes.formats.codec.compressed import READ
from recipes.formats.io import blkhash
from recipes.formats.io.arrival import Arrival
from recipes.formats.io.context import Context
from recipes.formats.io.sparse import SparseFile
from recipes.formats.wrapper import unwrap
from recipes.formats.wrapper.follow import Followed, Follower
from recipes.progress import SILENT_METER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MIB = 1 << 20
_DISK = bytes(_MIB) + random.Random(1).randbytes(_MIB // 2) + bytes(4 * _MIB) + b"the end".ljust(512, b"\0")
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
each_codec = pytest.mark.parametrize("codec", _COMPRESS)


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class _Download:
    """Somebody who writes a wrapper piece by piece."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "part"
        self.arrival = Arrival(self.path)
        self.drafts = folder / "drafts"
        self.drafts.mkdir()

    def follower(self, *, limit: int = 1 << 40, published: str | None = None) -> Follower:
        names = iter(range(100))
        context = Context(label="content", jobs=2, limit=limit, scratch=lambda: self.drafts / str(next(names)))
        return Follower(self.arrival, context, published=published)

    def send(self, data: bytes, *, stop: int | None = None) -> None:
        self.path.unlink(missing_ok=True)
        with SparseFile(self.path, durable=False) as file:
            self.arrival.begin(len(data))
            for at in range(0, len(data) if stop is None else stop, 70_000):
                file.write(data[at : at + 70_000])
                self.arrival.reach(file.position)
            if stop is None:
                file.finish(len(data))

    def left(self) -> list[Path]:
        return list(self.drafts.iterdir())


@pytest.fixture
def download(tmp_path: Path) -> _Download:
    return _Download(tmp_path)


def _is_disk(followed: Followed | None) -> bool:
    assert followed is not None
    assert followed.path.read_bytes() == _DISK
    assert followed.unwrapped.blkhash == blkhash.of_file(followed.path, jobs=1, meter=SILENT_METER)
    return followed.unwrapped.format == "raw" and followed.unwrapped.virtual_size == len(_DISK)


@each_codec
def test_the_content_is_there_with_the_wrapper(codec: str, download: _Download) -> None:
    with download.follower() as follower:
        download.send(_COMPRESS[codec](_DISK))
        download.arrival.end()
        followed = follower.result()
    assert _is_disk(followed)
    assert len(download.left()) == 1


@each_codec
def test_a_new_beginning_is_decoded_anew(codec: str, download: _Download) -> None:
    packed = _COMPRESS[codec](_DISK)
    with download.follower() as follower:
        download.send(_COMPRESS[codec](_DISK[::-1]), stop=len(packed) // 2)
        # Whole, and of other bytes.
        download.send(_COMPRESS[codec](_DISK[:_MIB]))
        download.send(packed)
        download.arrival.end()
        followed = follower.result()
    assert _is_disk(followed)
    assert len(download.left()) == 1


@each_codec
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_download_that_fails_leaves_no_draft(codec: str, share: float, download: _Download) -> None:
    packed = _COMPRESS[codec](_DISK)
    with download.follower() as follower:
        download.send(packed, stop=int(len(packed) * share))
    assert follower.result() is None
    assert not download.left()


@each_codec
def test_what_cannot_be_decoded_is_left_to_whoever_has_it_whole(codec: str, download: _Download) -> None:
    packed = bytearray(_COMPRESS[codec](_DISK))
    packed[len(packed) // 2] ^= 0xFF
    with download.follower() as follower:
        download.send(bytes(packed))
        download.arrival.end()
        assert follower.result() is None
    assert not download.left()


def test_so_is_what_is_too_large(download: _Download) -> None:
    with download.follower(limit=_MIB) as follower:
        download.send(gzip.compress(_DISK))
        download.arrival.end()
        assert follower.result() is None
    assert not download.left()


def test_a_bomb_costs_what_its_own_bytes_pay_for_whatever_a_server_announces(
    download: _Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unwrap, "content_limit", lambda size, most: min(most, 100 * size))
    # More than a decoder takes at once.
    bomb = zstandard.ZstdCompressor().compress(bytes(4 * _MIB)) * 2000
    assert len(bomb) > 2 * READ
    late = threading.Event()

    def give_up() -> None:
        late.set()
        download.arrival.begin(None)
        download.arrival.fail()

    guard = threading.Timer(30, give_up)
    guard.start()
    with download.follower() as follower:
        download.path.write_bytes(bomb)
        # Enough for gigabytes of content, which a decoder that believes it would wait for.
        download.arrival.begin(1 << 30)
        download.arrival.reach(len(bomb))
        download.arrival.end()
        assert follower.result() is None
    guard.cancel()
    guard.join()
    assert not late.is_set()
    assert not download.left()


def test_what_is_not_compressed_is_not_copied(download: _Download) -> None:
    with download.follower() as follower:
        download.send(_DISK)
        download.arrival.end()
        assert follower.result() is None
    assert not download.left()


def test_the_published_digest_is_found(download: _Download) -> None:
    with download.follower(published="sha512") as follower:
        download.send(gzip.compress(_DISK))
        download.arrival.end()
        followed = follower.result()
    assert followed is not None
    assert followed.unwrapped.digest is not None
    assert followed.unwrapped.digest.algorithm == "sha512"
    assert followed.unwrapped.blkhash is not None


def test_a_bug_is_not_hidden(download: _Download, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("recipes.formats.wrapper.follow.unwrap_arriving", broken)
    with download.follower() as follower:
        download.send(gzip.compress(_DISK))
        download.arrival.end()
        with pytest.raises(AssertionError, match="a bug"):
            follower.result()
