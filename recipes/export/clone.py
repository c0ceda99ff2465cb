"""clone: an instance's own copy of an artifact, by the cheapest way that the two file systems have.

A RAW disk, or any artifact as the file that it is, becomes one independent file: its extents shared with the cache's
(reflink) or copied without its holes. As a QCOW2 overlay it becomes two: the overlay, and beside it the instance's own
name of the RAW that it stands on. That one is read only, so it may be a hard link to the cache's: all instances then
share one file's page cache, on any file system.

So whatever happens to the cache, an instance has all that it needs. Nothing is fsynced, as cp and qemu-img have it:
what was cloned a moment before a power failure is cloned again.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from recipes.cache.holder import holder
from recipes.cache.store import is_there
from recipes.errors import StoreError
from recipes.formats.io import sparse
from recipes.formats.io.context import Context
from recipes.formats.io.files import os_errors, require_free
from recipes.formats.io.sparse import SECTOR
from recipes.kinds import DERIVABLE, KINDS
from recipes.progress import SILENCE
from recipes.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from recipes.kinds import Row
    from recipes.model import Kind
    from recipes.progress import Progress

#: How bytes come from one file to another without being converted.
Method = Literal["reflink", "hardlink", "copy"]
METHODS: tuple[Method, ...] = get_args(Method)
#: The format that is no kind of artifact: an overlay on a RAW. The kind of this name is cloned by another one.
OVERLAY = "qcow2"
#: The formats that are disks, whose size may be chosen.
_DISKS = frozenset({OVERLAY, *(row.format for row in KINDS.values() if row.is_resizable)})
#: The formats that are a file system, without a partition table around it.
_FILE_SYSTEMS = frozenset(row.format for row in KINDS.values() if row.is_file_system)
#: The formats that whoever takes a clone of them writes to.
_WRITTEN = frozenset(row.format for row in KINDS.values() if row.is_written)
#: What `auto` tries, in this order; a file that is written to is never the cache's own.
_WAYS: tuple[Method, ...] = ("reflink", "copy")
_OVERLAY_WAYS: tuple[Method, ...] = ("hardlink", "reflink", "copy")
#: Suffixes of disks, for which a RAW would be taken.
_FOREIGN = frozenset({".hdd", ".vdi", ".vhd", ".vhdx", ".vmdk"})
#: How the name of what is to become a clone begins.
_DRAFT = ".{}.larder-"
_LOCK_POLL_SECONDS = 0.05
#: What link(2) answers where the file system, or the kernel's protected_hardlinks, has no hard link for us.
_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, *sparse.CANNOT_SHARE})


class Wish:
    """What kind of clone is wanted; raise StoreError where there is none such."""

    __slots__ = ("force", "format", "method", "size")

    def __init__(self, format: str, size: int | None = None, method: Method | None = None, force: bool = False) -> None:
        if size is not None and format not in _DISKS:
            raise StoreError(f"--size is for the disks {' and '.join(sorted(_DISKS))}, not for {format}")
        if size is not None and size % SECTOR:
            raise StoreError(f"--size: a disk has whole sectors of {SECTOR} bytes, and {size} bytes are none")
        if method == "hardlink" and format in _WRITTEN:
            raise StoreError(
                f"an instance writes to its {format}, and as a hard link that would be the cache's",
                hint=f"--format {OVERLAY} writes beside its hard link" if format == "raw" else None,
            )
        #: That of a kind of artifact, which is cloned as the file that it is, or `OVERLAY`.
        self.format: Final = format
        #: Bytes of the clone's disk; None for as many as the artifact has.
        self.size: Final = size
        #: The only way that will do; None for the cheapest that can be had.
        self.method: Final = method
        #: Replace what is there.
        self.force: Final = force

    @property
    def kind(self) -> str:
        """The kind of artifact that is cloned."""
        return "raw" if self.format == OVERLAY else _rows()[self.format].name

    @property
    def ways(self) -> tuple[Method, ...]:
        """The ways that will do, in the order in which they are tried."""
        if self.method is not None:
            return (self.method,)
        return _OVERLAY_WAYS if self.format == OVERLAY else _WAYS


class Cloned(NamedTuple):
    """What became of a wish."""

    path: Path
    #: The file beside an overlay that it stands on.
    base: Path | None
    #: How `base` was made, or else `path`.
    method: Method
    #: Bytes of the disk, or of the file.
    size: int
    #: Bytes that were allotted for it.
    written: int
    seconds: float = 0.0

    def __str__(self) -> str:
        how = f"overlay on {self.base.name} ({self.method})" if self.base else self.method
        return (
            f"{self.path}: {how}, {format_size(self.size)}, {format_size(self.written)} of new space, "
            f"in {self.seconds:.3f} s"
        )


def formats(kind: Kind) -> tuple[str, ...]:
    """Return the formats that an image of `kind` can be cloned in, the one that is meant where none is named first."""
    found = [KINDS[each].format for each in DERIVABLE[kind]]
    first = ("raw", OVERLAY) if "raw" in found else ("rootfs",)
    return (*first, *(each for each in found if each not in first))


def _rows() -> dict[str, Row]:
    """Return the kinds of artifact by their formats."""
    return {row.format: row for row in KINDS.values()}


def format_of(path: str, possible: Iterable[str]) -> str | None:
    """Return which of the `possible` formats the suffix of `path` is for, None where it says nothing.

    Raise StoreError where it is for several, or for a disk in a format that is none of them: a RAW under the name of
    a QCOW2 starts nowhere.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix == f".{OVERLAY}":
        return OVERLAY
    # What is called so without a suffix, as the wrapper, is not meant by a file without one.
    rows = _rows()
    forms = [form for form in possible if form in rows and suffix and PurePath(rows[form].file).suffix == suffix]
    if len(forms) > 1:
        raise StoreError(f"{path}: {suffix} is the suffix of {' and '.join(forms)}", hint="--format decides")
    if not forms and suffix in _FOREIGN:
        raise StoreError(
            f"{path}: there is no format for {suffix}, but {', '.join(possible)}",
            hint="--format decides",
        )
    return next(iter(forms), None)


def base_of(path: Path) -> Path:
    """Return where the file is that an overlay at `path` stands on."""
    return path.with_name(f"{path.name}.base.raw")


def require(path: Path, wish: Wish, *, cache: Path) -> None:
    """Raise StoreError where `wish` cannot be fulfilled at `path`, as far as that is known before anything is made."""
    for each in (path, base_of(path)) if wish.format == OVERLAY else (path,):
        require_free(each, force=wish.force)
    if path.parent.resolve().is_relative_to(cache.resolve()):
        raise StoreError(f"{path} is in the cache, which is larder's", hint="keep instances elsewhere")


def clone(source: Path, path: Path, wish: Wish, *, progress: Progress = SILENCE, label: str = "clone") -> Cloned:
    """Make `path` a clone of the file `source` as `wish` says; for an overlay `source` is a RAW disk.

    Another process may replace or delete `source` meanwhile. After an error there is nothing new at `path`, after an
    interrupt nothing or the whole clone; with ``force`` the old one may be there or none, and never an overlay on a
    file that is not its own. A folder that is missing is made. A meter called `label` is told what is copied.

    Errors: `StoreError`, `NoSpace`, `LimitExceeded` for an overlay of a size that QCOW2 does not have.
    """
    began = time.monotonic()
    require_free(path, force=wish.force)
    with os_errors(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with os_errors(path), _swept(path, progress):
        job = _Job(source, path, wish, progress, label)
        try:
            made = job.overlay() if wish.format == OVERLAY else job.file()
        except FileExistsError as error:
            raise StoreError(
                f"{error.filename2 or error.filename} exists already", hint="--force replaces it"
            ) from error
    return made._replace(seconds=time.monotonic() - began)


class _Job(NamedTuple):
    """What `clone` was asked for."""

    source: Path
    path: Path
    wish: Wish
    progress: Progress
    label: str

    def file(self) -> Cloned:
        with _draft(self.path) as draft:
            method, size = self._grow(draft) if self._grows else self._take(draft)
            if method != "hardlink":
                # A reflink of APFS has the time of what it was made from.
                os.utime(draft)
                os.truncate(draft, size)
            written = _written(draft, method)
            _publish(draft, self.path, force=self.wish.force)
        return Cloned(self.path, None, method, size, written)

    def overlay(self) -> Cloned:
        base = base_of(self.path)
        with _draft(base) as base_draft, _draft(self.path) as draft:
            method, size = self._take(base_draft)
            if method != "hardlink":
                base_draft.chmod(0o444)
            from recipes.formats.disk.qcow2.overlay import write_overlay

            write_overlay(draft, backing=base.name, size=size)
            written = _written(base_draft, method) + sparse.allocated(draft)
            if self.wish.force:
                # The old overlay goes first: on the new base it would be another disk.
                self.path.unlink(missing_ok=True)
            inode = base_draft.stat().st_ino
            _publish(base_draft, base, force=self.wish.force)
            try:
                _publish(draft, self.path, force=self.wish.force)
            except BaseException:
                # A signal may come when the overlay has its name already, and then it needs its base. Another clone
                # by force may have put a base of its own there.
                if is_there(draft) and not _same(draft, self.path) and base.stat().st_ino == inode:
                    base.unlink()
                raise
        return Cloned(self.path, base, method, size, written)

    @property
    def _grows(self) -> bool:
        """Say whether the clone is a file system that is to be larger: a longer file is not all of that."""
        return (
            self.wish.format in _FILE_SYSTEMS
            and self.wish.size is not None
            and self.wish.size > self.source.stat().st_size
        )

    def _grow(self, draft: Path) -> tuple[Method, int]:
        """Write the file system anew, as it would have been made of the size; return as `_take`.

        To share what is there and add groups would save the copy, and give another file system for each way to a size.
        """
        from recipes.formats import microvm

        if "copy" not in self.wish.ways:
            raise StoreError(f"--mode {self.wish.method}: a larger file system is written anew, not shared")
        size = self.wish.size or 0
        microvm.grow_ext4(self.source, draft, Context(self.progress, self.label, durable=False), size=size)
        return "copy", size

    def _take(self, draft: Path) -> tuple[Method, int]:
        """Make `draft` a file with the bytes of the source; return how, and the bytes that the clone is to have."""
        self._size(self.source)
        method = self._copy(draft)
        # Asked again: the source may be another file by now.
        return method, self._size(draft)

    def _size(self, file: Path) -> int:
        size = file.stat().st_size
        if self.wish.size is not None and self.wish.size < size:
            raise StoreError(
                f"a clone of {format_size(self.wish.size)} ({self.wish.size} bytes) is too small: "
                f"{self.source.name} has {format_size(size)} ({size} bytes)"
            )
        return size if self.wish.size is None else self.wish.size

    def _copy(self, draft: Path) -> Method:
        for way in self.wish.ways:
            if way == "hardlink" and _link(self.source, draft):
                return way
            if way == "reflink" and sparse.reflink(self.source, draft, durable=False):
                return way
            if way == "copy":
                with self.progress.meter(self.label) as meter:
                    sparse.copy(self.source, draft, meter=meter, durable=False)
                return way
        (way,) = self.wish.ways
        raise StoreError(
            f"no {way} of {self.source} can be made in {draft.parent}: {self._reason(way)}",
            hint="--mode auto takes the cheapest way there is",
        )

    def _reason(self, way: Method) -> str:
        if self.source.stat().st_dev != self.path.absolute().parent.stat().st_dev:
            return "they are on different file systems"
        if way == "hardlink":
            return "the file system has none, or none of files of other users"
        # A file of a btrfs folder with chattr +C shares extents with its like only.
        return "the file system cannot share extents between them"


@contextmanager
def _swept(path: Path, progress: Progress) -> Iterator[None]:
    """Remove the drafts that killed clones to `path` left, and let nobody take those of the body for such.

    Whoever clones shares a lock on the folder, so who has it alone knows that no draft in it is anybody's. Where it
    cannot be locked, drafts stay.
    """
    folder = path.absolute().parent
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        yield
        return
    try:
        _sweep(descriptor, folder, tuple(_DRAFT.format(each.name) for each in (path, base_of(path))))
        _share(descriptor, folder, progress)
        yield
    finally:
        os.close(descriptor)


def _sweep(descriptor: int, folder: Path, beginnings: tuple[str, ...]) -> None:
    """Remove the files in `folder` whose names begin so, if nobody else has its lock."""
    import fcntl

    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for each in folder.iterdir():
            if each.name.startswith(beginnings):
                with suppress(FileNotFoundError):
                    each.unlink()


def _share(descriptor: int, folder: Path, progress: Progress) -> None:
    """Share the lock of `folder`, which may take as long as another one sweeps; do without where there are no locks."""
    import fcntl

    def taken() -> bool:
        try:
            # What this one has alone is given up first (flock(2)): that is why another may come in between.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # Then nobody has it alone either.
            return True
        return True

    if not taken():
        with progress.meter(f"waiting for {holder(folder)} with {folder}") as meter:
            while not taken():
                meter.advance(0)
                time.sleep(_LOCK_POLL_SECONDS)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Give a free name beside `path` for what will be there, and remove what is left at it."""
    draft = path.with_name(_DRAFT.format(path.name) + os.urandom(4).hex())
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _link(source: Path, draft: Path) -> bool:
    try:
        os.link(source, draft)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        return False
    return True


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def _written(draft: Path, method: Method) -> int:
    return sparse.allocated(draft) if method == "copy" else 0


def _publish(draft: Path, path: Path, *, force: bool) -> None:
    """Give `draft` its name; raise FileExistsError where that is taken, unless by `force`."""
    # A rename replaces whatever another process has put there since it was looked at; a link does not.
    if not force and _link(draft, path):
        return
    if not force and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    draft.replace(path)
