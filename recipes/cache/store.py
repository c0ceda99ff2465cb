"""The cache: one entry per image, artifacts with their receipts, locks, and what may be thrown away.

Layout, below the cache's root::

    CACHEDIR.TAG                    backup tools leave this folder out
    doit.db                         doit's database, an index that may be lost
    lists/                          checksum lists and tags as last seen
    roots/                          the projects that share this cache (recipes/cache/roots.py)
    images/NAME/ARCH/               an entry
        wrapper   fetch.json        each artifact beside its receipt
        content   content.json
        disk.raw  raw.json
        rootfs.tar, disk.vhdx, oci.tar, each with rootfs.json, vhdx.json, oci.json
        wrapper.part[.json]         a download that can be resumed
        KIND.asked                  KIND was named on a command line: keep it
        KIND.used                   its mtime says when KIND was last used (recipes/cache/usage.py)
        clones/                     a record of each clone (recipes/cache/ledger.py); written without the lock
        .lock                       held while anything above is written
        .tmp-*                      being written by the holder of the lock
        .next-KIND-INODE            the receipt of the file with this inode, until it is ``KIND.json``

The crash model. Artifact and receipt are written and fsynced under temporary names; then the artifact is renamed, then
the receipt. That of a file that is about to be renamed is found by the file's inode, so after a kill at any instant the
entry holds, for each kind,

* the old artifact and the old receipt: nothing was renamed yet; or
* the new artifact, which its ``.next-*`` vouches for; the next holder of the lock renames that; or
* the new artifact and the new receipt.

A loss of power may bring back the names in any state that the fsyncs of the folder, after each rename, do not rule out:
the receipt that is there may match no artifact (size, mtime) then, which counts as missing and is derived again. An
artifact without a matching receipt is never handed out.

Whatever else a dead process left, temporary files and receipts without artifacts, the next holder of the lock removes:
only a holder makes them. Locks are the operating system's (flock), so a dead process holds none.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from recipes import jsontext
from recipes.errors import InUse, StoreError
from recipes.formats.io import files, sparse
from recipes.kinds import KINDS
from recipes.progress import SILENT_METER

from .holder import holder
from .receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from filelock import BaseFileLock

    from recipes.model import Image
    from recipes.progress import Progress

#: Clones are handed out, the cached file never changes: not even by a careless `qemu -drive file=…`.
_MODE = 0o444
_TEMPORARY = ".tmp-"
_PENDING = ".next-"
_LOCK = ".lock"
_ASKED = ".asked"
_LOCK_POLL_SECONDS = 0.2
#: How often in a row the folder of an entry may vanish before its lock is taken.
_LOCK_RETRIES = 100
_CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of larder. See https://bford.info/cachedir/\n"


class Entry:
    """The folder of one image in the cache. Reading it needs no lock; `hold` gives what writes."""

    def __init__(self, path: Path, image: str, arch: str) -> None:
        self.path = path
        self.image = image
        self.arch = arch
        self._artifacts: dict[str, Path] = {}

    def artifact(self, kind: str) -> Path:
        """Return where the artifact of `kind` is, or would be."""
        path = self._artifacts.get(kind)
        if path is None:
            path = self._artifacts[kind] = self.path / KINDS[kind].file
        return path

    @property
    def part(self) -> Path:
        """Where a download collects its bytes until they are verified."""
        return self.path / f"{KINDS['fetch'].file}.part"

    @property
    def clones(self) -> Path:
        """The folder with the records of what was cloned from the artifacts."""
        return self.path / "clones"

    def receipt(self, kind: str) -> Receipt | None:
        """Return the receipt of `kind`, None where there is none that this version reads."""
        receipt = _read(f"{self.path}/{kind}.json", kind)
        if receipt is not None and self.matches(receipt):
            return receipt
        pending = self._pending(kind)
        return _read(pending, kind) if pending else receipt

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
        """Return the kinds that were named on a command line, or may have been: a mark that cannot be read counts."""
        names = self._names()
        if names is not None:
            return {kind for kind in KINDS if f"{kind}{_ASKED}" in names}
        return {kind for kind in KINDS if not is_gone(self._mark(kind))}

    def ask(self, kind: str) -> None:
        """Remember that `kind` was named on a command line, where the cache can be written to."""
        if not is_there(self._mark(kind)):
            with suppress(OSError, StoreError):
                _make_folder(self.path)
                self._mark(kind).touch()

    def kinds(self) -> list[str]:
        """Return the kinds whose artifact is there, whatever its receipt says."""
        names = self._names() or ()
        return [kind for kind, row in KINDS.items() if row.file in names and is_there(self.artifact(kind))]

    def _names(self) -> set[str] | None:
        """Return the names in the folder; None where it does not tell. One call instead of one for each kind."""
        try:
            # Names alone: iterdir makes a path of each, in five times the time.
            return set(os.listdir(self.path))  # noqa: PTH208
        except FileNotFoundError:
            return set()
        except OSError:
            return None

    def is_spent(self) -> bool:
        """Say whether nothing is in the folder but what goes with artifacts, and tells of none that is there.

        Files that this version does not know may be artifacts of a later one.
        """
        names = self._names()
        if names is None or not is_there(self.path):
            return False
        marks = {f"{kind}{ending}" for kind in KINDS for ending in (".json", _ASKED, ".used")}
        marks |= {_LOCK, self.clones.name, f"{self.part.name}.json"}
        return all(name in marks or name.startswith((_TEMPORARY, _PENDING)) for name in names)

    def leftovers(self) -> list[Path]:
        """Return the files that a holder, alive or dead, has not finished with."""
        names = self._names()
        if not names:
            return []
        left = [name for name in names if name.startswith((_TEMPORARY, _PENDING))]
        # A receipt without an artifact is a lie, and what a download came from tells nothing without its bytes.
        alone = {f"{kind}.json": row.file for kind, row in KINDS.items()} | {f"{self.part.name}.json": self.part.name}
        left += [name for name, file in alone.items() if name in names and file not in names]
        return [self.path / name for name in left]

    @contextmanager
    def hold(self, progress: Progress | None = None) -> Iterator[Held]:
        """Hold the entry's lock: wait for it, telling `progress`; without one raise StoreError where it is taken."""
        from filelock import FileLock

        # A lock that is the existence of a file would outlive whoever is killed.
        lock = FileLock(self.path / _LOCK, fallback_to_soft=False)
        try:
            if not self._acquire(lock, 0.0):
                if progress is None:
                    raise InUse(f"{self.path} is in use by another process")
                with progress.meter(f"{self.image}: waiting for {holder(self.path / _LOCK)}") as meter:
                    while not self._acquire(lock, _LOCK_POLL_SECONDS):
                        meter.advance(0)
        except (OSError, NotImplementedError) as error:
            raise StoreError(
                f"cannot lock {self.path}: {error}",
                hint="the cache must be on a file system with locks that you may write to; LARDER_CACHE moves it",
            ) from error
        try:
            with files.os_errors(self.path):
                yield Held(self)
        finally:
            lock.release()

    def _acquire(self, lock: BaseFileLock, seconds: float) -> bool:
        """Try for so long to take the entry's lock; say whether it is held."""
        from filelock import Timeout

        for _ in range(_LOCK_RETRIES):
            # FileNotFoundError: a holder has just removed the entry, its folder, or the one above it. FileExistsError:
            # mkdir found the folder, and then looked whether it is one.
            with suppress(FileNotFoundError, FileExistsError):
                _mkdir(self.path)
                try:
                    lock.acquire(timeout=seconds, poll_interval=_LOCK_POLL_SECONDS / 4)
                except Timeout:
                    return False
                return True
        raise StoreError(f"cannot lock {self.path}: it is no folder, or vanishes as soon as it is made")

    def _mark(self, kind: str) -> Path:
        return self.path / f"{kind}{_ASKED}"

    def _pending(self, kind: str) -> Path | None:
        """Return where the receipt is of an artifact whose publication was broken off, None where there is none."""
        try:
            path = self.path / f"{_PENDING}{kind}-{self.artifact(kind).stat().st_ino}"
        except OSError:
            return None
        receipt = _read(path, kind)
        return path if receipt is not None and self.matches(receipt) else None


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
        path.chmod(_MODE)
        receipt = dataclasses.replace(receipt, artifact=sparse.measure(path, receipt.artifact))
        pending = self.entry.path / f"{_PENDING}{receipt.kind}-{path.stat().st_ino}"
        files.write(pending, f"{json.dumps(receipt.to_json(), indent=1)}\n".encode())
        path.replace(self.entry.artifact(receipt.kind))
        files.sync_folder(self.entry.path)
        pending.replace(self.entry.path / f"{receipt.kind}.json")
        files.sync_folder(self.entry.path)
        return receipt

    def restamp(self, receipt: Receipt) -> None:
        """Give an artifact whose bytes were just verified its mode and the mtime of its receipt again."""
        path = self.entry.artifact(receipt.kind)
        path.chmod(_MODE)
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

    def remove(self) -> None:
        """Remove the entry with all that is in it. Who waits for the lock gets that of a new, empty one."""
        for path in self.entry.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink(missing_ok=True)
        # From here on somebody else may hold the entry. filelock takes no lock on a file without a name.
        (self.entry.path / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            self.entry.path.rmdir()
            self.entry.path.parent.rmdir()

    def sweep(self) -> None:
        """Finish the publication that a dead holder of the lock had begun, and remove what else it left."""
        for kind in KINDS:
            if pending := self.entry._pending(kind):
                pending.replace(self.entry.path / f"{kind}.json")
        for path in self.entry.leftovers():
            path.unlink(missing_ok=True)


class Store:
    """The cache as a whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries: dict[tuple[str, str], Entry] = {}

    def entry(self, image: Image) -> Entry:
        """Return the entry of `image`; its folder need not exist."""
        return self.entry_of(image.name, image.arch)

    def entry_of(self, name: str, arch: str) -> Entry:
        """Return the entry of the image called `name` for `arch`."""
        entry = self._entries.get((name, arch))
        if entry is None:
            # A task for each of a dozen kinds asks for it.
            entry = self._entries[name, arch] = Entry(self.root / "images" / name / arch, name, arch)
        return entry

    def entries(self) -> Iterator[Entry]:
        """Yield the entries that have a folder, in the order of their names."""
        for path in sorted((self.root / "images").glob("*/*/")):
            yield Entry(path, path.parent.name, path.name)

    def prepare(self) -> None:
        """Make the cache's folder, marked for backup tools."""
        if not is_there(self.root / "CACHEDIR.TAG"):
            _make_folder(self.root)
            with suppress(OSError):
                (self.root / "CACHEDIR.TAG").write_text(_CACHEDIR_TAG, encoding="ascii")
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise StoreError(f"{self.root} cannot be read", hint="LARDER_CACHE names the cache's folder")


def is_there(path: Path) -> bool:
    """Say whether there is something at `path` that this user can make use of; see `is_gone` before deleting."""
    # Path.exists raises PermissionError instead, in some versions of Python.
    try:
        path.stat()
    except OSError:
        return False
    return True


def is_gone(path: Path) -> bool:
    """Say whether there is certainly nothing at `path`: that alone may decide that something is deleted.

    What one may not look at, or what a disk or a server does not give just now, is not gone. Path.exists takes it for
    gone or raises, as the version of Python has it.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


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


def _read(path: Path | str, kind: str) -> Receipt | None:
    try:
        # A thousand are read once each: a path of each would cost as much as reading it.
        with open(path, "rb", buffering=0) as file:
            receipt = Receipt.from_json(jsontext.loads(file.read()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return receipt if receipt.kind == kind else None


def _make_folder(path: Path) -> None:
    try:
        _mkdir(path)
    except (FileNotFoundError, FileExistsError) as error:
        raise _no_folder(path, error) from error


def _mkdir(path: Path) -> None:
    """Make a folder; let FileNotFoundError and FileExistsError pass, which others cause who take it away meanwhile."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        raise _no_folder(path, error) from error


def _no_folder(path: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot make the folder {path}: {error.strerror}", hint="LARDER_CACHE names the cache's folder")
