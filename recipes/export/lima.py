"""Lima's download cache: entries that limactl takes for its own, so that it neither downloads nor converts.

As Lima 2.2 reads it (pkg/downloader/downloader.go; website, "Internal data structure", "Download cache")::

    CACHE/download/by-url-sha256/SHA256-OF-THE-URL/
        data                          the wrapper, as served
        sha256.digest, sha512.digest  of data, ``sha256:HEX``; compared as text, data is not hashed again
        url, time, type               the url, and the Last-Modified and Content-Type that came with data
        imgconv/raw                   data as RAW, for drivers that take nothing else; made anew where data is newer
        imgconv/raw.digest            its digest; Lima fails where this is missing beside a RAW

Lima holds flock(2) on the folder while it looks at an entry or changes it, and so does this.

The crash model: ``data`` is what makes an entry, so it goes first, and comes when everything but its own digests is in
place; without these Lima hashes it. A kill at any instant leaves no entry, which Lima downloads, or a right one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from recipes.cache.holder import holder
from recipes.errors import LarderError, StoreError
from recipes.formats.disk.qcow2.image import Qcow2
from recipes.formats.io import files, sparse
from recipes.formats.io.probe import probe
from recipes.model import DIGEST_LENGTHS, Digest
from recipes.units import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.cache.receipt import Served
    from recipes.formats.disk.qcow2.header import Header
    from recipes.model import Identity, Image
    from recipes.progress import Meter, Progress

#: What Lima's own files have.
_FOLDER_MODE = 0o700
_FILE_MODE = 0o644
#: `limactl prune` removes what is left under such names.
_TEMPORARY = ".tmp.larder"
_LOCK_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Supply:
    """What an entry is made of."""

    wrapper: Path
    #: Of the wrapper, one for each algorithm that a template may use; first the one that `is_hit` is asked for.
    digests: tuple[Digest, ...]
    served: Served
    #: The RAW and its digest, where Lima would convert the wrapper.
    raw: tuple[Path, Digest] | None


class Locations(NamedTuple):
    """What a template names."""

    #: Urls, or the path of a RAW.
    places: tuple[str, ...]
    #: Of what is behind the urls.
    digest: Digest | None
    #: Whether Lima's cache has what it needs of them.
    is_cached: bool = False


def cached_urls(image: Image, identity: Identity) -> tuple[str, ...]:
    """Return the urls under which Lima would look for `image`: as declared, and as resolved where they float.

    Lima reads local files where they are, and knows no registries.
    """
    urls = (*image.source.urls, *identity.urls)
    return tuple(dict.fromkeys(url for url in urls if url.startswith(("http://", "https://")) and "*" not in url))


def entry_of(cache: Path, url: str) -> Path:
    """Return where `cache` has the entry of `url`."""
    return cache / "download" / "by-url-sha256" / hashlib.sha256(url.encode()).hexdigest()


def qcow2_header(path: Path) -> Header | None:
    """Return the header of a QCOW2, None for what is none; raise an ImageError where it is a broken one."""
    if probe(path) != "qcow2":
        return None
    with path.open("rb", buffering=0) as file:
        return Qcow2(file.fileno(), path, max_virtual_size=MAX_SIZE).header


def is_hit(entry: Path, digest: Digest, size: int | None) -> bool:
    """Say whether Lima would take `entry` for what has `digest`, and neither ask nor convert, whatever the driver.

    Nothing is hashed; `size` is that of the wrapper, where it is known.
    """
    data, raw = entry / "data", entry / "imgconv" / "raw"
    try:
        found = data.stat()
        if not _claims(entry, digest) or size not in (None, found.st_size):
            return False
        header = qcow2_header(data)
        if header is None:
            return True
        Digest.parse(raw.with_name("raw.digest").read_text(encoding="ascii").strip())
        converted = raw.stat()
        return converted.st_size == header.virtual_size and converted.st_mtime_ns >= found.st_mtime_ns
    except (OSError, ValueError, LarderError):
        return False


def place(cache: Path, url: str, supply: Supply, progress: Progress) -> None:
    """Make the entry of `url`, in place of the one that is there; wait where limactl works on that, telling `progress`.

    Errors: `StoreError`, `NoSpace`.
    """
    entry = entry_of(cache, url)
    with _locked(entry, progress), progress.meter("Lima's cache") as meter:
        _clear(entry)
        # Or a loss of power might bring the old data back beside the new RAW.
        files.sync_folder(entry)
        newest = None
        if supply.raw is not None:
            path, digest = supply.raw
            raw = entry / "imgconv" / "raw"
            raw.parent.mkdir(_FOLDER_MODE, exist_ok=True)
            _hand_over(path, raw, None, meter)
            _write(raw.with_name("raw.digest"), str(digest))
            newest = raw.stat().st_mtime_ns
        served = supply.served
        for name, text in (("url", url), ("time", served.last_modified), ("type", served.content_type)):
            _write(entry / name, text or "")
        draft = entry / f"data{_TEMPORARY}"
        _hand_over(supply.wrapper, draft, newest, meter)
        draft.replace(entry / "data")
        files.sync_folder(entry)
        # The one that is asked for comes last: an entry that claims it lacks nothing.
        for digest in reversed(supply.digests):
            _write(entry / f"{digest.algorithm}.digest", str(digest))


def remove(cache: Path, url: str, digest: Digest, progress: Progress) -> bool:
    """Remove the entry of `url` if it holds what has `digest`; say whether it did."""
    entry = entry_of(cache, url)
    if not entry.is_dir():
        return False
    with _locked(entry, progress):
        if not _claims(entry, digest):
            return False
        _clear(entry)
        for path in (entry / "imgconv", entry):
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                # What is neither Lima's nor ours stays.
                if error.errno != errno.ENOTEMPTY:
                    raise
    return True


def template(found: Locations, image: Image) -> str:
    """Return the part of a Lima template that names `image` where it was `found`."""
    lines = ["images:"]
    for location in found.places:
        # A string in JSON is one in YAML.
        lines += [f"- location: {json.dumps(location)}", f"  arch: {json.dumps(image.arch)}"]
        if found.digest is not None:
            lines.append(f"  digest: {json.dumps(str(found.digest))}")
        else:
            lines.append(
                "  # no digest: Lima would hash the whole disk for each instance; `larder verify` hashes its data"
            )
    if found.digest is not None and not found.is_cached:
        lines.append(f"# Lima downloads it: `larder lima:{image.name}` puts it into Lima's cache before")
    return "\n".join(lines)


def _claims(entry: Path, digest: Digest) -> bool:
    try:
        return (entry / f"{digest.algorithm}.digest").read_text(encoding="ascii").strip() == str(digest)
    except (OSError, ValueError):
        return False


def _clear(entry: Path) -> None:
    """Remove what makes an entry, beginning with what makes it one."""
    names = ["data", *(f"{algorithm}.digest" for algorithm in DIGEST_LENGTHS)]
    names += ["imgconv/raw", "imgconv/raw.digest", "url", "time", "type"]
    for name in names:
        (entry / name).unlink(missing_ok=True)
        (entry / f"{name}{_TEMPORARY}").unlink(missing_ok=True)


def _hand_over(source: Path, destination: Path, newest: int | None, meter: Meter) -> None:
    """Put an artifact at `destination`, with a modification time of `newest` (nanoseconds) at the latest."""
    if not sparse.reflink(source, destination):
        if _link(source, destination, newest):
            return
        sparse.copy(source, destination, meter=meter)
    destination.chmod(_FILE_MODE)
    if newest is not None:
        os.utime(destination, ns=(newest, newest))


def _link(source: Path, destination: Path, newest: int | None) -> bool:
    # A hard link has the artifact's mode and time, which must not change. Lima for macOS clones with the mode, and an
    # instance could not write to its read-only disk; elsewhere it only reads.
    if sys.platform == "darwin" or (newest is not None and source.stat().st_mtime_ns > newest):
        return False
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in (*sparse.CANNOT_SHARE, errno.EMLINK):
            raise
        return False
    return True


def _write(path: Path, text: str) -> None:
    """Write a file so that it is whole or not there, also after a loss of power."""
    draft = path.with_name(f"{path.name}{_TEMPORARY}")
    files.write(draft, text.encode())
    draft.chmod(_FILE_MODE)
    draft.replace(path)
    files.sync_folder(path.parent)


@contextmanager
def _locked(entry: Path, progress: Progress) -> Iterator[None]:
    import fcntl

    try:
        entry.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not _try_lock(descriptor):
                with progress.meter(f"waiting for {holder(entry)} with {entry}") as meter:
                    while not _try_lock(descriptor):
                        meter.advance(0)
                        time.sleep(_LOCK_POLL_SECONDS)
            with files.disk_errors(entry):
                yield
        finally:
            # Closing would not do: a child process may have inherited the descriptor's lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
    except OSError as error:
        raise StoreError(
            f"cannot write to Lima's cache: {error.filename or entry}: {error.strerror}",
            hint="--lima-cache names another folder",
        ) from error


def _try_lock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
