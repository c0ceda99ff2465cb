"""ext4, tar archives, and container images."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import zstandard

from recipes.formats import rootfs
from recipes.formats import wsl as ext4_vhdx
from recipes.formats.io.context import Context
from recipes.formats.oci import archive as oci_archive
from recipes.formats.tar import read as tar_read
from recipes.model import DEFAULT_VHDX_SIZE
from recipes.units import parse_size
from tests.kit import tar_archives
from tests.kit.ext4_images import ACL, CAPABILITY
from tests.kit.oci_images import ARM64, Layout, docker_archive, file, folder, hardlink, symlink, tar

from . import btrfs
from .mutate import Spot, damage, damage_document, grow
from .target import MAX_VIRTUAL_SIZE, Target, made

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random


#: Bytes of a layer that is grown.
_LARGEST_LAYER = 64 << 20


def read_rootfs(kind: Literal["disk", "rootfs", "oci"], path: Path, out: Path) -> None:
    """Read the root file system in `path`, and write it to `out`."""
    with rootfs.open_tree(
        path,
        Context(limit=MAX_VIRTUAL_SIZE, scratch=lambda: out.with_name("scratch")),
        rootfs.Wanted(kind, "x86_64"),
    ) as tree:
        rootfs.write(tree, out, Context(durable=False))


# ext4.


def _content(root: Path) -> Path:
    """Make a folder with something of everything in it that takes no privilege."""
    root.mkdir(exist_ok=True)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/os-release").write_text("ID=hostile\n")
    for size in (0, 60, 1000, 5000, 30_000):
        (root / f"file-{size}").write_bytes(bytes(range(250)) * (size // 250))
    with (root / "holes").open("wb") as file:
        for at in range(0, 200_000, 9000):
            file.seek(at)
            file.write(b"%d" % at)
    for number in range(40):
        (root / "etc" / f"{number}-{'n' * number}").touch()
    for name, target in (("short", "etc"), ("long", "0123456789/" * 20), ("up", "../../../../etc/passwd")):
        if not (root / name).is_symlink():
            (root / name).symlink_to(target)
    if not (root / "link").exists():
        os.link(root / "file-1000", root / "link")
        os.mkfifo(root / "fifo")
    return root


def ext4(folder: Path, kib: int, *options: str) -> bytes:
    """Return a small ext4 file system with files in it."""
    image = folder / f"ext4-{kib}-{len(options)}"
    image.write_bytes(bytes(kib << 10))
    words = ("-q", "-F", "-b", "1024", "-N", "96", *options)
    made("mke2fs", *words, "-d", _content(folder / "content"), image)
    if "-J" in options:
        # A transaction that has to be replayed.
        request = f"journal_open\njournal_write -b 900-901 -r 902 {folder / 'content/file-5000'}\njournal_close\n"
        made("debugfs", "-w", "-f", "-", image, data=request.encode())
    data = image.read_bytes()
    image.unlink()
    return data


def _ext4_seeds(folder: Path) -> list[bytes]:
    plain = "^metadata_csum,^uninit_bg,^resize_inode"
    return [
        ext4(folder, 256, "-t", "ext4", "-O", f"{plain},^has_journal"),
        ext4(folder, 256, "-t", "ext4", "-I", "256", "-O", f"{plain},^has_journal,inline_data"),
        ext4(folder, 256, "-t", "ext2", "-O", "^resize_inode"),
        ext4(folder, 3000, "-t", "ext4", "-J", "size=1", "-O", plain),
        ext4(folder, 256, "-t", "ext4", "-O", "metadata_csum,^resize_inode,^has_journal"),
    ]


def _damage_ext4(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    spots = [Spot(1024 + at, 4, "little") for at in range(0, 0x60, 4)]
    spots += [Spot(1024 + 0xFE, 2, "little"), Spot(1024 + 0x104, 4, "little"), Spot(1024 + 0x58, 2, "little")]
    spots += [Spot(2048 + at, 4, "little") for at in range(0, 32, 4)]
    # Inodes, directories and extent trees stand wherever there is something in the first blocks.
    used = [at for at in range(3072, min(len(data), 120_000), 4) if any(data[at : at + 4])]
    spots += [Spot(rng.choice(used), rng.choice((1, 2, 4)), "little") for _ in range(60 if used else 0)]
    return damage(rng, data, others, spots)


# Tar archives.


def _archives() -> list[bytes]:
    files: list[Any] = [folder("etc"), file("etc/passwd", b"root:x\n" * 50), symlink("link", "/etc"), file("link/new")]
    small = tar(*files, hardlink("hard", "etc/passwd"))
    longer = io.BytesIO()
    with tarfile.open(fileobj=longer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("x" * 150 + "/y", "z/" * 60 + "name"):
            member = tarfile.TarInfo(name)
            member.linkname, member.type = "t" * 150, tarfile.SYMTYPE
            archive.addfile(member)
    records = [
        (b"path", b"p/" * 100 + b"q"),
        (b"SCHILY.xattr.security.capability", CAPABILITY),
        (b"SCHILY.xattr.system.posix_acl_access", ACL),
        (b"SCHILY.acl.default", b"user::rwx,group::r-x,other::r-x"),
        (b"LIBARCHIVE.xattr.user.a%20b", b"aGVsbG8"),
        (b"mtime", b"1700000000.123456789"),
    ]
    others = [
        longer.getvalue(),
        tar_archives.extended(records) + tar_archives.file(b"data" * 300) + tar_archives.END,
        tar_archives.extended([(b"uid", b"70000")], b"g") + tar_archives.file(b"data") + tar_archives.END,
        tar_archives.old_sparse(90_000, [(i * 8192, 512) for i in range(10)], bytes(5120)) + tar_archives.END,
        tar_archives.sparse_1_0(b"50000", b"2\n0\n512\n40000\n512\n", b"s" * 1024) + tar_archives.END,
        tar_archives.sparse_0_1(b"50000", b"0,512,40000,512", b"s" * 1024) + tar_archives.END,
    ]
    # Without a folder that roots have, none of them would be one.
    etc = tarfile.TarInfo("etc")
    etc.type = tarfile.DIRTYPE
    return [small, *(etc.tobuf() + archive for archive in others)]


def damage_tar(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    """Damage an archive, its headers above all, and mend their checksums."""
    changed = bytearray(damage(rng, data, others))
    headers = [at for at in range(0, len(changed) - 511, 512) if changed[at + 257 : at + 262] == b"ustar"]
    if headers and rng.random() < 0.8:
        at = rng.choice(headers)
        field, size = rng.choice(((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
        values = (
            b"../../etc/passwd\0",
            b"/etc/passwd\0",
            b"etc/../../x\0",
            b"\x1b[2J\0",
            b"7777777\0",
            b"77777777777\0",
            b"\xff" * 12,
            b"\x80" + bytes(10) + b"\x01",
            rng.choice([b"0", b"1", b"2", b"3", b"5", b"6", b"g", b"x", b"L", b"K", b"S", b"D", b"M", b"V"]),
            rng.randbytes(size),
        )
        value = rng.choice(values)[:size]
        changed[at + field : at + field + len(value)] = value
    if rng.random() < 0.9:
        for at in headers:
            changed[at : at + 512] = tar_archives.summed(bytearray(changed[at : at + 512]))
    return bytes(changed)


# Container images.


def _images(layers: list[bytes]) -> list[dict[str, bytes]]:
    """Return the files of images that have these layers."""
    found = []
    for suffix in ("", "+gzip", "+zstd"):
        layout = Layout()
        images = [layout.image(*layers, suffix=suffix), layout.image(*layers[:1], runs_on=ARM64, platform=ARM64)]
        entries = [layout.index(images[1]), images[0]]
        found.append({**layout.files, "index.json": _json({"schemaVersion": 2, "manifests": entries})})
    listing, files = docker_archive(layers)
    found.append({**files, "manifest.json": _json([listing])})
    return found


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _layers() -> list[bytes]:
    return [
        tar(
            folder("etc"), file("etc/passwd", b"root\n"), symlink("up", "../../.."), folder("usr"), file("usr/a", b"a")
        ),
        tar(file("etc/.wh.passwd"), file("usr/.wh..wh..opq"), hardlink("usr/b", "etc/passwd"), file("up/new", b"new")),
    ]


def _image_seeds(_: Path) -> list[bytes]:
    return [tar(*(file(name, data) for name, data in files.items())) for files in _images(_layers())]


def _damage_image(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    """Damage an archive as a whole, or one layer or document of it, around which all digests hold."""
    kind = rng.randrange(3)
    if kind == 0:
        return damage_tar(rng, data, others)
    layers = _layers()
    if kind == 1:
        at = rng.randrange(len(layers))
        layers[at] = damage_tar(rng, layers[at], layers)
        files = rng.choice(_images(layers))
    else:
        files = rng.choice(_images(layers))
        documents = {name: data for name, data in files.items() if data[:1] in (b"{", b"[")}
        name = rng.choice(sorted(documents))
        changed = damage_document(rng, documents[name], list(documents.values()))
        files = _renamed(files, name, changed)
    return tar(*(file(name, data) for name, data in files.items()))


def _renamed(files: dict[str, bytes], name: str, data: bytes, depth: int = 4) -> dict[str, bytes]:
    """Put `data` in the place of a file; where that is a blob, what refers to it is rewritten.

    No further than documents refer to each other in a valid image: in a hostile one that may go round for ever.
    """
    old = files[name]
    files = {**files, name: data}
    if not depth or not name.startswith("blobs/"):
        return files
    before, after = hashlib.sha256(old).hexdigest(), hashlib.sha256(data).hexdigest()
    files[name.replace(before, after)] = files.pop(name)
    for other, document in list(files.items()):
        if before.encode() in document and document[:1] in (b"{", b"["):
            text = document.replace(before.encode(), after.encode())
            text = text.replace(b'"size": %d' % len(old), b'"size": %d' % len(data))
            files = _renamed(files, other, text, depth - 1)
    return files


def _tars(data: bytes) -> list[bytes]:
    """Return the layers in an image, decompressed; none where it is damaged."""
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                file = archive.extractfile(member)
                blob = file.read() if file else b""
                if blob[:2] == b"\x1f\x8b":
                    blob = gzip.decompress(blob)
                elif blob[:4] == b"\x28\xb5\x2f\xfd":
                    blob = zstandard.ZstdDecompressor().decompressobj().decompress(blob)
                if blob[257:262] == b"ustar":
                    found.append(blob)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError):
        return []
    return found


def _grow_image(rng: Random, data: bytes) -> bytes:
    """Grow a layer, around which all digests hold: what compresses well may be much larger than the image."""
    layers = _tars(data) or _layers()
    at = rng.randrange(len(layers))
    layers[at] = grow(rng, layers[at])[:_LARGEST_LAYER]
    layout = Layout()
    image = layout.image(*layers, suffix=rng.choice(("+gzip", "+zstd", "+zstd")))
    files = {**layout.files, "index.json": _json({"schemaVersion": 2, "manifests": [image]})}
    return tar(*(file(name, data) for name, data in files.items()))


# What is made of archives.


def _write_vhdx(path: Path, out: Path) -> None:
    with tar_read.load(path) as tree:
        size = parse_size(DEFAULT_VHDX_SIZE)
        ext4_vhdx.write_vhdx(tree, out, Context(durable=False), size=size)


def _write_layer(path: Path, out: Path) -> None:
    with tar_read.load(path) as tree:
        about = oci_archive.About("x86_64", "localhost/hostile:latest", {})
        context = Context(jobs=2, limit=MAX_VIRTUAL_SIZE, durable=False)
        oci_archive.write(tree, out, about, context, compression="zstd")


TARGETS = (
    Target("ext4", _ext4_seeds, _damage_ext4, partial(read_rootfs, "disk"), None, ("mke2fs", "debugfs")),
    btrfs.target(partial(read_rootfs, "disk")),
    Target("tar", lambda _: _archives(), damage_tar, partial(read_rootfs, "rootfs")),
    Target("oci", _image_seeds, _damage_image, partial(read_rootfs, "oci"), grow=_grow_image),
    Target("vhdx", lambda _: _archives(), damage_tar, _write_vhdx),
    Target("layer", lambda _: _archives(), damage_tar, _write_layer),
)
