"""What the pages of the documentation find when their commands are run: projects, upstreams, registries."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import subprocess
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from .oracles import need
from .project import REPOSITORY
from .servers import docker_registry, nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

DEMO = (REPOSITORY / "demo" / "demo.qcow2").read_bytes()


def declared(name: str, url: str, data: bytes, *more: str) -> str:
    """Return the table of images.toml that declares `data`, served at `url`."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    lines = (f"[images.{name}.x86_64]", f'url = "{url}"', f'digest = "{digest}"', f"size = {len(data)}", *more)
    return "\n".join(lines) + "\n"


@contextmanager
def _debian_12(folder: Path, larder: Callable[..., object]) -> Iterator[None]:
    """A project with a Debian that is in the cache."""
    (folder / "debian-12.qcow2").write_bytes(DEMO)
    (folder / "images.toml").write_text(declared("debian-12", "./debian-12.qcow2", DEMO))
    larder("raw:debian-12")
    yield


@contextmanager
def _formats(folder: Path, larder: Callable[..., object]) -> Iterator[None]:
    """A project with one disk in several wrappers, none of which is here."""
    other = folder.parent / "another cache"
    larder("raw:demo", "--cache", str(other))
    disk = (other / "images" / "demo" / "x86_64" / "disk.raw").read_bytes()
    need("zstd")
    zstd = subprocess.run(
        ["zstd", "-q", "-c", f"--stream-size={len(disk)}"], input=disk, capture_output=True, check=True
    )
    files = {
        "debian-13": ("disk.qcow2", DEMO),
        "debian-13-xz": ("disk.raw.xz", lzma.compress(disk, preset=0)),
        "debian-13-zst": ("disk.raw.zst", zstd.stdout),
        "debian-13-gz": ("disk.raw.gz", gzip.compress(disk, compresslevel=1)),
    }
    root, prefix = folder.parent / "served", folder.parent / "nginx"
    root.mkdir()
    prefix.mkdir()
    with nginx(root, prefix) as server:
        text = ""
        for name, (file, data) in files.items():
            (root / file).write_bytes(data)
            text += declared(name, f"{server.url}/{file}", data)
        (folder / "images.toml").write_text(text)
        yield


@contextmanager
def _wrong(folder: Path, larder: Callable[..., object]) -> Iterator[None]:
    """A project whose images.toml has two mistakes."""
    text = '[images.debian-12]\nkind = "dsik"\n[images.debian-12.amd64]\nurl = "https://example.org/disk.img"\n'
    (folder / "images.toml").write_text(text)
    yield


@contextmanager
def _shared(folder: Path, larder: Callable[..., object]) -> Iterator[None]:
    """A project with a registry, and the disk of which a machine has made the RAW."""
    with docker_registry(folder.parent / "registry") as host, _debian_12(folder, larder):
        images = folder / "images.toml"
        images.write_text(f'[cache]\nregistry = "{host}/acme/images"\n\n{images.read_text()}')
        yield


@contextmanager
def _released(folder: Path, larder: Callable[..., object]) -> Iterator[None]:
    """A project whose pin is behind: upstream, which a mirror stands for, has a newer release."""
    upstream, mirror = "https://cloud-images.ubuntu.com/releases/noble", folder.parent / "mirror"
    file = "ubuntu-24.04-server-cloudimg-amd64.img"
    release = mirror / "releases" / "noble" / "release-20260801"
    release.mkdir(parents=True)
    (release / file).write_bytes(DEMO)
    (release.parent / "SHA256SUMS").write_text(f"{hashlib.sha256(DEMO).hexdigest()} *release-20260801/{file}\n")
    more = (f'checksums = "{upstream}/SHA256SUMS"', f'pattern = "release-*/{file}"')
    text = declared('"ubuntu-24.04"', f"{upstream}/release-20260705/{file}", bz2.compress(DEMO), *more)
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("size"))
    mirrors = f'[mirrors]\n"https://cloud-images.ubuntu.com/" = ["{mirror.as_uri()}/"]\n'
    (folder / "images.toml").write_text(f"{text}\n\n\n{mirrors}")
    yield


@contextmanager
def _tools(*names: str) -> Iterator[None]:
    """An empty folder, on a machine that has these tools."""
    for name in names:
        need(name)
    yield


#: By the name of the page; the others begin in an empty folder.
_STAGES = {
    "cache.md": _formats,
    "images-toml.md": _wrong,
    "instances.md": _debian_12,
    "ci.md": lambda folder, larder: _tools("jq"),
    "json.md": lambda folder, larder: _tools("jq"),
    "sharing.md": _shared,
    "upstream.md": _released,
}


def stage(page: Path, folder: Path, larder: Callable[..., object]) -> AbstractContextManager[None]:
    """Set up what a page finds in `folder`; `larder` runs larder there. It is there within the context."""
    found = _STAGES.get(page.name)
    return found(folder, larder) if found else nullcontext()
