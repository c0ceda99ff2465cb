"""Disk images of any format, read in every way that larder has, and by QEMU."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.errors import ImageError
from recipes.formats.disk.guest import Guest
from recipes.formats.disk.table import FORMATS, virtual_size
from recipes.formats.disk.to_raw import to_raw
from recipes.formats.io.context import Context
from recipes.formats.io.source import read

from .disks import reference
from .qcow2_images import content

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
LIMIT = 1 << 42


def disk(path: Path, size: int, seed: int = 0) -> Path:
    """Write a RAW disk of `size` bytes: content here and there, single bytes, holes, and something at its end."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        places = [rng.randrange(size) for _ in range(4)]
        for at, data in (*((at, content(rng.randrange(1, 400_000), at)) for at in places), (size // 2, b"\1")):
            file.seek(at)
            file.write(data[: size - at])
        file.seek(max(0, size - 700))
        file.write(rng.randbytes(min(700, size)))
    return path


def qemu_img(*words: object) -> bool:
    """Run qemu-img; say whether it succeeded."""
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def made(raw: Path, form: str, *options: str) -> Path:
    """Return `raw` as qemu-img writes it in its format `form`."""
    path = raw.with_name(f"disk.{form}")
    path.unlink(missing_ok=True)
    assert qemu_img("convert", "-f", "raw", "-O", form, *(f"-o{each}" for each in options), raw, path)
    return path


def qemu_raw(path: Path, form: str) -> bytes | None:
    """Return what qemu-img makes of `path`, None if it refuses."""
    raw = path.with_name(f"{path.name}.qemu")
    try:
        return raw.read_bytes() if qemu_img("convert", "-f", form, "-O", "raw", path, raw) else None
    finally:
        raw.unlink(missing_ok=True)


def read_all(path: Path, name: str, limit: int = LIMIT) -> bytes:
    """Return the disk in `path`, in the format `name`: converted, and by random access; it is claimed."""
    out = path.with_name(f"{path.name}.larder")
    out.unlink(missing_ok=True)
    found = to_raw(path, out, Context(jobs=3, limit=limit, durable=False))
    assert found.source_format == name
    data = out.read_bytes()
    assert found.blkhash is not None
    assert found.blkhash.hex == reference(data)
    without = to_raw(path, out.with_name("plain"), Context(jobs=1, limit=limit, durable=False), blkhash=False)
    assert without.virtual_size == len(data)
    assert out.with_name("plain").read_bytes() == data
    for each in (out, out.with_name("plain")):
        each.unlink()
    with path.open("rb") as file:
        image = FORMATS[name].open(file.fileno(), path, limit)
        guest = Guest(image, "disk")
        assert image.data_size == sum(extent.length for extent in image.extents())
        for at in {0, len(data) // 3, max(0, len(data) - 10_000)}:
            assert read(guest, at, 20_000) == data[at : at + 20_000]
        blob = path.read_bytes()
        assert virtual_size(name, lambda at, count: blob[at : at + count], len(blob)) == len(data)
    return data


def refused(path: Path, image: bytes, kind: type[ImageError], match: str, limit: int = LIMIT) -> None:
    """Assert that `image` is refused for this reason, by name, and nothing is left."""
    path.write_bytes(image)
    with pytest.raises(kind, match=match) as caught:
        to_raw(path, path.with_name("out"), Context(jobs=2, limit=limit, durable=False))
    assert str(path) in str(caught.value)
    assert not path.with_name("out").exists()


def assert_cut_is_refused(path: Path, image: bytes, name: str, whole: int | None = None) -> None:
    """Assert that no beginning of `image` is taken for the disk: cut at every structure's end, and anywhere.

    `whole` are the bytes that it takes to have all of the disk, by default all that there are.
    """
    rng = random.Random(len(image))
    whole = len(image) if whole is None else whole
    cuts = {rng.randrange(8, whole) for _ in range(60)}
    cuts |= {at for at in (*range(8, 2048, 97), *range(0, whole, max(512, whole // 40 // 512 * 512))) if at >= 8}
    for cut in sorted({*cuts, whole - 1, whole - 512}):
        path.write_bytes(image[:cut])
        assert not _is_read(path, name), f"cut at {cut}"


def _is_read(path: Path, name: str) -> bool:
    try:
        with path.open("rb") as file:
            return FORMATS[name].open(file.fileno(), path, LIMIT).data_size >= 0
    except ImageError:
        return False
