"""The cache: one entry per image, artifacts with their receipts, locks, and what may be thrown away.

Layout, below the cache's root::

    CACHEDIR.TAG                    backup tools leave this folder out
    doit.db                         doit's database, an index that may be lost
    lists/                          checksum lists as last seen
    images/NAME/ARCH/               an entry
        wrapper   fetch.json        each artifact beside its receipt
        content   content.json
        disk.raw  raw.json
        wrapper.part[.json]         a download that can be resumed
        KIND.asked                  KIND was named on a command line: keep it
        .lock                       held while anything above is written
        .tmp-*                      being written by the holder of the lock

The crash model. Artifacts are published by temporary name, fsync, rename, fsync of the folder; then the receipt in the
same way. So after a kill or a loss of power at any instant the entry holds, for each kind,

* the old artifact and the old receipt (nothing was renamed yet), or
* the new artifact and the old receipt, or none: the receipt does not match (size, mtime), the artifact counts as
  missing and is derived again, or
* the new artifact and the new receipt;

and any number of ``.tmp-*``, which the next holder of the lock removes, since only a holder makes them. An artifact
without a matching receipt is never handed out. Locks are the operating system's (flock), so a dead process holds none.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .errors import StoreError
from .formats import sparse
from .progress import SILENT_METER
from .receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .model import Image
    from .progress import Progress

#: Name of each kind's artifact in its entry.
FILE_NAMES = {"fetch": "wrapper", "content": "content", "raw": "disk.raw"}

_TEMPORARY = ".tmp-"
_LOCK_POLL_SECONDS = 0.2
_CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of larder. See https://bford.info/cachedir/\n"


class Entry:
    """The folder of one image in the cache. Reading it needs no lock; `hold` gives what writes."""

    def __init__(self, path: Path, image: str, arch: str) -> None:
        self.path = path
        self.image = image
        self.arch = arch

    def artifact(self, kind: str) -> Path:
        """Return where the artifact of `kind` is, or would be."""
        return self.path / FILE_NAMES[kind]

    @property
    def part(self) -> Path:
        """Where a download collects its bytes until they are verified."""
        return self.path / f"{FILE_NAMES['fetch']}.part"

    def receipt(self, kind: str) -> Receipt | None:
        """Return the receipt of `kind`, None where there is none that this version reads."""
        try:
            return Receipt.from_json(json.loads((self.path / f"{kind}.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def matches(self, receipt: Receipt) -> bool:
        """Say whether the artifact has the size and mtime that its receipt recorded; its bytes are not read."""
        try:
            found = self.artifact(receipt.kind).stat()
        except OSError:
            return False
        return found.st_size == receipt.artifact.size and found.st_mtime_ns == receipt.artifact.mtime_ns

    def current(self, kind: str, key: str) -> Receipt | None:
        """Return the receipt of `kind` where it is for `key` and its artifact matches it, else None."""
        receipt = self.receipt(kind)
        return receipt if receipt and receipt.key == key and self.matches(receipt) else None

    def written_ns(self, kind: str) -> int:
        """Return when the receipt of `kind` was written, in nanoseconds since the epoch; 0 where there is none."""
        try:
            return (self.path / f"{kind}.json").stat().st_mtime_ns
        except OSError:
            return 0

    def asked(self) -> set[str]:
        """Return the kinds that were named on a command line."""
        return {kind for kind in FILE_NAMES if self._mark(kind).exists()}

    def ask(self, kind: str) -> None:
        """Remember that `kind` was named on a command line, where the cache can be written to."""
        if not self._mark(kind).exists():
            with suppress(OSError, StoreError):
                _make_folder(self.path)
                self._mark(kind).touch()

    def kinds(self) -> list[str]:
        """Return the kinds whose artifact is there, whatever its receipt says."""
        return [kind for kind in FILE_NAMES if self.artifact(kind).exists()]

    def has_leftovers(self) -> bool:
        """Say whether temporary files of a holder, alive or dead, are there."""
        try:
            return any(path.name.startswith(_TEMPORARY) for path in self.path.iterdir())
        except OSError:
            return False

    @contextmanager
    def hold(self, progress: Progress | None = None) -> Iterator[Held]:
        """Hold the entry's lock: wait for it, telling `progress`; without one raise StoreError where it is taken."""
        from filelock import FileLock, Timeout

        _make_folder(self.path)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress is None:
                raise StoreError(f"{self.path} is in use by another process") from None
            with progress.meter(f"waiting for another process with {self.image}") as meter:
                while not lock.is_locked:
                    meter.advance(0)
                    with suppress(Timeout):
                        lock.acquire(timeout=_LOCK_POLL_SECONDS, poll_interval=_LOCK_POLL_SECONDS / 4)
        except (OSError, NotImplementedError) as error:
            raise StoreError(
                f"cannot lock {self.path}: {error}",
                hint="the cache must be on a file system with locks that you may write to; LARDER_CACHE moves it",
            ) from error
        try:
            with sparse.disk_errors(self.path):
                yield Held(self)
        except OSError as error:
            raise StoreError(f"{error.filename or self.path}: {error.strerror or error}") from error
        finally:
            lock.release()

    def _mark(self, kind: str) -> Path:
        return self.path / f"{kind}.asked"


class Held:
    """An entry whose lock this process holds: what may be written to it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.sweep()

    def temporary(self, kind: str) -> Path:
        """Return a fresh name in the entry, for a file that `publish` will take."""
        return self.entry.path / f"{_TEMPORARY}{kind}-{os.urandom(4).hex()}"

    def publish(self, path: Path, receipt: Receipt) -> Receipt:
        """Make `path`, a file in this entry with its bytes fsynced, the artifact of `receipt.kind`.

        `receipt.artifact` needs the digest or blkhash only: size, allocation and mtime are read from the file. Return
        the receipt as written.
        """
        # Clones are handed out, the cached file never changes: not even by a careless `qemu -drive file=…`.
        path.chmod(0o444)
        receipt = dataclasses.replace(receipt, artifact=sparse.measure(path, receipt.artifact))
        path.replace(self.entry.artifact(receipt.kind))
        _sync_folder(self.entry.path)
        draft = self.temporary(f"{receipt.kind}.json")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(receipt.to_json(), file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.entry.path / f"{receipt.kind}.json")
        _sync_folder(self.entry.path)
        return receipt

    def restamp(self, receipt: Receipt) -> None:
        """Give an artifact whose bytes were just verified the mtime of its receipt again, so that it matches."""
        path = self.entry.artifact(receipt.kind)
        os.utime(path, ns=(path.stat().st_atime_ns, receipt.artifact.mtime_ns))

    def discard(self, kind: str) -> None:
        """Delete the artifact of `kind` and its receipt, where they are there."""
        # The receipt goes first: an artifact without a receipt is nothing, a receipt without an artifact is a lie.
        (self.entry.path / f"{kind}.json").unlink(missing_ok=True)
        self.entry.artifact(kind).unlink(missing_ok=True)

    def forget(self, kind: str) -> None:
        """Forget that `kind` was named on a command line."""
        self.entry._mark(kind).unlink(missing_ok=True)

    def discard_part(self) -> None:
        """Delete a download that was begun."""
        part = self.entry.part
        part.unlink(missing_ok=True)
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a dead holder of the lock left half-written."""
        for path in self.entry.path.iterdir():
            if path.name.startswith(_TEMPORARY):
                path.unlink(missing_ok=True)


class Store:
    """The cache as a whole."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, image: Image) -> Entry:
        """Return the entry of `image`; its folder need not exist."""
        return self.entry_of(image.name, image.arch)

    def entry_of(self, name: str, arch: str) -> Entry:
        """Return the entry of the image called `name` for `arch`."""
        return Entry(self.root / "images" / name / arch, name, arch)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries that have a folder, in the order of their names."""
        for path in sorted((self.root / "images").glob("*/*/")):
            yield Entry(path, path.parent.name, path.name)

    def prepare(self) -> None:
        """Make the cache's folder, marked for backup tools."""
        if not (self.root / "CACHEDIR.TAG").exists():
            _make_folder(self.root)
            with suppress(OSError):
                (self.root / "CACHEDIR.TAG").write_text(_CACHEDIR_TAG, encoding="ascii")


def link(source: Path, destination: Path) -> None:
    """Give the file `source` a second name; clone it where the file system has no hard links.

    Artifacts are never written to once they are published, so a shared inode is as good as a copy and costs nothing.
    """
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS):
            raise
        sparse.clone(source, destination, meter=SILENT_METER)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder {path}: {error.strerror}", hint="LARDER_CACHE names the cache's folder"
        ) from error


def _sync_folder(path: Path) -> None:
    """Make renames in `path` durable (POSIX leaves it to fsync of the folder)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
