"""gzip, bzip2, xz and zstd, held against the programs that the formats are named for."""

from __future__ import annotations

import bz2
import gzip
from functools import partial
from typing import TYPE_CHECKING

from recipes.errors import UnsupportedFeature
from recipes.formats.codec import compression, zstd_disk
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.context import Context
from recipes.formats.wrapper import unwrap
from recipes.progress import SILENT_METER
from tests.kit.qcow2_images import content

from .mutate import Spot, damage
from .target import MAX_VIRTUAL_SIZE, Target, Wrong, made, tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from .sandbox import Outcome

#: Bytes of content that are held against another program's, in memory.
_COMPARED = 64 << 20


def _gzip_seeds(_: Path) -> list[bytes]:
    return [
        gzip.compress(content(90_000), mtime=0),
        gzip.compress(b"one", mtime=0) + gzip.compress(content(20_000), mtime=0) + bytes(512),
        made("gzip", "-9", "--name", "-c", data=content(200_000, 2)),
    ]


def _bzip2_seeds(_: Path) -> list[bytes]:
    return [bz2.compress(content(90_000)), bz2.compress(b"one") + bz2.compress(content(30_000), 1)]


def _xz_seeds(_: Path) -> list[bytes]:
    return [
        made("xz", "-c", data=content(90_000)),
        made("xz", "-c", "--block-size=16384", "--check=sha256", data=content(90_000)),
        made("xz", "-c", "--x86", "--lzma2=preset=0", data=content(40_000)) + bytes(8) + made("xz", "-c", data=b"two"),
    ]


def _zstd_seeds(_: Path) -> list[bytes]:
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0more"
    return [
        made("zstd", "-c", data=content(90_000)),
        made("zstd", "-c", "--no-check", data=content(90_000, 3)),
        skippable + made("zstd", "-c", "--long=27", data=content(50_000)) + made("zstd", "-c", data=b""),
    ]


def _disk_seeds(folder: Path) -> list[bytes]:
    seeds = []
    for size in (1 << 20, (9 << 20) + 512):
        source, packed = folder / "disk", folder / "packed"
        source.write_bytes(content(700_000) + bytes(size - 700_000))
        with packed.open("wb") as file:
            file.writelines(zstd_disk.compress(source, jobs=1, level=1, meter=SILENT_METER))
        seeds.append(packed.read_bytes())
    return seeds


def _damage(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    # What says how large things are stands at either end.
    spots = [Spot(at, size, "little") for at in (*range(24), *range(len(data) - 40, len(data))) for size in (1, 4)]
    return damage(rng, data, others, [spot for spot in spots if spot.offset >= 0] if rng.random() < 0.5 else ())


def _limit(path: Path) -> int:
    """Return the bytes of content that a user would allow."""
    return content_limit(path.stat().st_size, MAX_VIRTUAL_SIZE)


def _unwrap(codec: str, path: Path, out: Path) -> None:
    if (found := compression.probe_codec(path)) != codec:
        raise UnsupportedFeature(f"found {found}")
    unwrap.unwrap(path, out, Context(jobs=2, limit=_limit(path), durable=False))


def _expand(path: Path, out: Path) -> None:
    zstd_disk.expand(path, out, jobs=2, limit=_limit(path), meter=SILENT_METER, durable=False)


def _judge(command: str, path: Path, outcome: Outcome, out: Path, _: bool) -> bool:
    if not outcome.accepted or out.stat().st_size > _COMPARED:
        return False
    expected = tool(command, "-dc", data=path.read_bytes())
    if expected is None:
        raise Wrong(f"{command} refuses what larder accepts")
    if expected != out.read_bytes():
        raise Wrong(f"the content is not {command}'s")
    return True


_SEEDS: dict[str, Callable[[Path], list[bytes]]] = {
    "gzip": _gzip_seeds,
    "bzip2": _bzip2_seeds,
    "xz": _xz_seeds,
    "zstd": _zstd_seeds,
}

TARGETS = (
    *(
        Target(codec, seeds, _damage, partial(_unwrap, codec), partial(_judge, codec), (codec,))
        for codec, seeds in _SEEDS.items()
    ),
    Target("zstd-disk", _disk_seeds, _damage, _expand, partial(_judge, "zstd"), ("zstd",)),
)
