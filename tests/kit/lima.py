"""Lima's side of its download cache, written from its documentation and behaviour: what it takes and what not."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What the drivers of Lima take as it is.
VZ, QEMU = ("raw", "asif"), ("qcow2", "raw", "vmdk", "vhdx")


class Refused(Exception):
    """limactl would fail."""


@dataclass(frozen=True)
class Hit:
    """What limactl would copy into an instance."""

    path: Path
    #: Whether it had to convert first.
    converts: bool = False
    #: Whether it had to hash `data` first.
    hashes: bool = False


def entry_of(cache: Path, url: str) -> Path:
    return cache / "download" / "by-url-sha256" / hashlib.sha256(url.encode()).hexdigest()


@contextmanager
def working(cache: Path, url: str) -> Iterator[Path]:
    """Hold an entry's lock, as limactl does while it works."""
    entry = entry_of(cache, url)
    entry.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(entry, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield entry
    finally:
        os.close(descriptor)


def digest_of(path: Path, algorithm: str) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"


def get_cached(cache: Path, url: str, digest: str | None, formats: tuple[str, ...]) -> Hit | None:
    """Decide as limactl does: None is a download. Without a digest in the template upstream is taken to be down."""
    entry = entry_of(cache, url)
    data = entry / "data"
    if not data.exists():
        return None
    recorded = entry / f"{digest.partition(':')[0]}.digest" if digest else None
    hashes = False
    if recorded and recorded.exists():
        if recorded.read_text().strip() != digest:
            raise Refused(f"expected digest {digest}, got {recorded.read_text()}")
    else:
        if not (entry / "time").exists() or not (entry / "time").read_text():
            return None
        if digest:
            hashes = True
            if digest_of(data, digest.partition(":")[0]) != digest:
                raise Refused("data is something else")
    head = data.read_bytes()[:4]
    if ("qcow2" if head == b"QFI\xfb" else "raw") in formats:
        return Hit(data, hashes=hashes)
    raw = entry / "imgconv" / "raw"
    if not raw.exists() or data.stat().st_mtime_ns > raw.stat().st_mtime_ns:
        return Hit(raw, converts=True, hashes=hashes)
    if digest:
        if not raw.with_name("raw.digest").exists():
            raise Refused("failed to read raw digest file")
        text = raw.with_name("raw.digest").read_text().strip()
        if not re.fullmatch(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", text):
            raise Refused(f"invalid digest {text}")
    return Hit(raw, hashes=hashes)


def differences(cache: Path, url: str, wrapper: bytes, raw: bytes | None, **expected: str) -> list[str]:
    """Return in what an entry differs from one that limactl made; `expected` is the content of `time` and `type`."""
    entry = entry_of(cache, url)
    texts = {"url": url, **expected}
    for algorithm in ("sha256", "sha512"):
        texts[f"{algorithm}.digest"] = f"{algorithm}:{hashlib.new(algorithm, wrapper).hexdigest()}"
    files = {"data", *texts} | ({"imgconv"} if raw is not None else set())
    found = [f"{name} should not be there" for name in {path.name for path in entry.iterdir()} - files]
    found += [f"{name} is missing" for name in files - {path.name for path in entry.iterdir()}]
    found += [f"{name}: {text!r}" for name, text in texts.items() if (entry / name).read_bytes() != text.encode()]
    if (entry / "data").read_bytes() != wrapper:
        found.append("data has other bytes")
    if raw is not None:
        converted = entry / "imgconv" / "raw"
        if {path.name for path in converted.parent.iterdir()} != {"raw", "raw.digest"}:
            found.append("imgconv has other files")
        if converted.read_bytes() != raw:
            found.append("imgconv/raw has other bytes")
        if (entry / "imgconv" / "raw.digest").read_text() not in {
            digest_of(converted, "sha256"),
            digest_of(converted, "sha512"),
        }:
            found.append("imgconv/raw.digest is another file's")
        if converted.stat().st_mtime_ns < (entry / "data").stat().st_mtime_ns:
            found.append("imgconv/raw is older than data")
    for path in (entry, *entry.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found.append(f"{path} is a symbolic link")
        allowed = {0o700} if stat.S_ISDIR(mode) else {0o644, 0o444} if path.name in ("data", "raw") else {0o644}
        if stat.S_IMODE(mode) not in allowed:
            found.append(f"{path} has the mode {stat.S_IMODE(mode):o}")
    return found
