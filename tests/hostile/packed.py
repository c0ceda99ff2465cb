"""Archives with a disk in them: tar, zip, OVA, Vagrant box."""

from __future__ import annotations

import io
import lzma
import zipfile
from typing import TYPE_CHECKING

from recipes.formats.io.context import Context
from recipes.formats.wrapper import archived
from tests.kit import archives
from tests.kit.qcow2_images import content
from tests.kit.tar_archives import sparse_0_1

from .filesystems import damage_tar
from .mutate import Spot, damage, damage_text
from .target import MAX_VIRTUAL_SIZE, Target, Wrong

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from .sandbox import Outcome

_DISK = bytes(510) + b"\x55\xaa" + content(90_000)
_OVA = {"a.ovf": archives.ovf("a.vmdk"), "a.vmdk": b"KDMV" + content(3000)}
#: Bytes of what is compared.
_COMPARED = 64 << 20


def _zip_seeds(_: Path) -> list[bytes]:
    files = {"readme.txt": b"text", "a/disk.img": _DISK, "empty": b""}
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(zipfile.ZipInfo("disk.raw"), "w", force_zip64=True) as member:
            member.write(_DISK)
        archive.comment = b"comment"
    return [archives.zipped(files), archives.zipped(files, zipfile.ZIP_STORED), large.getvalue()]


def _damage_zip(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    spots = [
        Spot(at + offset, size, "little")
        for magic, fields in (
            (b"PK\3\4", ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))),
            (b"PK\1\2", ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4))),
            (b"PK\5\6", ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))),
            (b"PK\6\6", ((4, 8), (24, 8), (32, 8), (40, 8), (48, 8))),
        )
        for at in _all(data, magic)
        for offset, size in fields
    ]
    return damage(rng, data, others, spots)


def _all(data: bytes, magic: bytes) -> list[int]:
    found, at = [], -1
    while (at := data.find(magic, at + 1)) >= 0:
        found.append(at)
    return found


def _tar_seeds(_: Path) -> list[bytes]:
    box = {
        "metadata.json": b'{"provider": "libvirt", "format": "qcow2"}',
        "box.img": b"QFI\xfb\0\0\0\3" + content(5000),
    }
    return [
        archives.tar({"disk.raw": _DISK, "x.txt": b"x"}),
        archives.tar({**_OVA, "a.mf": archives.manifest(_OVA)}),
        archives.tar(box),
        archives.tar({"disk.img.xz": lzma.compress(_DISK), "notes.md": b"x"}),
        sparse_0_1(b"1048576", b"0,512,524288,512", _DISK[:512] + b"x" * 512) + bytes(1024),
    ]


def _damage_tar(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    start = data.find(b"<?xml")
    if start >= 0 and rng.random() < 0.4:
        # Of as many bytes as before: what is damaged is the descriptor.
        size = len(_OVA["a.ovf"])
        text = damage_text(rng, data[start : start + size], [data[start : start + size]])[:size].ljust(size)
        return data[:start] + text + data[start + size :]
    return damage_tar(rng, data, others)


def _take(path: Path, out: Path) -> None:
    scratch = out.with_name("scratch")
    archived.take(path, out, Context(jobs=2, limit=MAX_VIRTUAL_SIZE, durable=False, scratch=lambda: scratch))


def _judge_zip(path: Path, outcome: Outcome, out: Path, _: bool) -> bool:
    if not outcome.accepted or out.stat().st_size > _COMPARED:
        return False
    size = out.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            names = [each for each in archive.infolist() if each.file_size == size]
            contents = [archive.read(each) for each in names]
    except Exception as error:
        raise Wrong(f"zipfile refuses what larder accepts: {error}") from error
    if out.read_bytes() not in contents:
        raise Wrong("the disk is none of the files that zipfile finds")
    return True


TARGETS = (
    Target("zip", _zip_seeds, _damage_zip, _take, _judge_zip),
    Target("disk-in-tar", _tar_seeds, _damage_tar, _take),
)
