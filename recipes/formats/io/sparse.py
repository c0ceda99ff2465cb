"""Sparse files: write without zeros, copy without holes, share extents where the file system can.

A hole is never written, so every range of a `SparseFile` is written at most once; what is not written reads as zeros.
POSIX only (Linux and macOS).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from contextlib import contextmanager
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal, Self

from recipes.model import Artifact

from .files import disk_errors
from .mounts import file_system
from .parallel import in_threads

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from recipes.progress import Meter

#: Bytes of the smallest hole: the block of ext4, XFS, btrfs and APFS, and the page of the page cache.
BLOCK = 4096

#: Bytes of a sector, which disks have whole ones of.
SECTOR = 512

#: Bytes that one read or write moves. Larger ones were slower: they fall out of the processor's cache.
CHUNK = 512 * 1024

#: Threads that copy: a copy is the kernel's work, and one thread leaves it to one processor.
_COPIERS = 2

#: Bytes of the smallest run that is allocated before it is written, where that is cheaper. On ext4, whose writes
#: reserve block by block otherwise, runs of `CHUNK` took 0.65 of the time then, of 128 KiB 0.9; on XFS and btrfs 1.3
#: to 1.8.
_ALLOCATED_AHEAD = 128 * 1024

_ZEROS = bytes(BLOCK)
_ZERO_CHUNK = bytes(CHUNK)

#: ``_IOW(0x94, 9, int)`` and ``_IOW(0x94, 13, struct file_clone_range)`` of linux/fs.h, as x86 and ARM encode them.
_FICLONE = 0x40049409
_FICLONERANGE = 0x4020940D
_FILE_CLONE_RANGE = struct.Struct("=qQQQ")

#: SYNC_FILE_RANGE_WRITE of linux/fs.h: begin, and do not wait.
_SYNC_FILE_RANGE_WRITE = 2

#: clonefile(2) leaves the owner to the caller, as open(2) does (sys/clonefile.h).
_CLONE_NOOWNERCOPY = 2

#: FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE of linux/falloc.h.
_FALLOC_PUNCH_HOLE = 0x01 | 0x02
#: F_PUNCHHOLE and struct fpunchhole of macOS's sys/fcntl.h.
_F_PUNCHHOLE = 99
_FPUNCHHOLE = struct.Struct("=IIqq")

#: What a file system answers that cannot share these two files' extents.
CANNOT_SHARE = frozenset(
    {
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.EXDEV,
        errno.EINVAL,
        errno.ENOTTY,
        errno.ENOSYS,
        errno.EPERM,
    }
)


def data_runs(view: memoryview) -> list[tuple[int, int]]:
    """Return the ``(start, stop)`` runs of `view` that are worth writing: its blocks that hold more than zeros.

    `view` is contiguous bytes and begins at a block boundary of the file; its last block may be short.
    """
    whole = len(view) // BLOCK * BLOCK
    # One word of every block rules almost all of them out, and is read without a loop in Python.
    words = view[:whole].cast("Q")[:: BLOCK // 8].tolist()
    if whole < len(view):
        words.append(0)
    if 0 not in words:
        return [(0, len(view))] if words else []
    # A gigabyte of zeros is one comparison for every chunk of it.
    if not any(words) and len(view) <= CHUNK and _ZERO_CHUNK.startswith(view):
        return []
    runs = []
    start = -1
    for index, word in enumerate(words):
        at = index * BLOCK
        # startswith is memcmp; memoryview's == unpacks every element.
        if word == 0 and _ZEROS.startswith(view[at : at + BLOCK]):
            if start >= 0:
                runs.append((start, at))
                start = -1
        elif start < 0:
            start = at
    if start >= 0:
        runs.append((start, len(view)))
    return runs


@contextmanager
def removed_on_error(path: Path) -> Iterator[None]:
    """Remove `path`, which the body creates, when the body fails; an existing file is left alone."""
    try:
        yield
    except FileExistsError:
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class SparseFile:
    """A new file at `path` that leaves holes for aligned blocks of zeros; FileExistsError when there is one.

    With ``resume=True`` the file is there already and sequential writes go on at its end. A resumed file may be
    shorter than what was written to it, by the zeros at its end: ask `position`.

    Leaving the context closes the file and nothing more; `finish` makes it complete, and brings it to the disk unless
    it need not be `durable`. Errors: `NoSpace`; other OSErrors pass.
    """

    def __init__(self, path: Path, *, resume: bool = False, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if resume else os.O_CREAT | os.O_EXCL)
        with disk_errors(path):
            self._fd = os.open(path, flags, 0o666)
        #: Where the next sequential `write` goes.
        self.position = os.fstat(self._fd).st_size if resume else 0
        self._can_share = sys.platform == "linux"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, open for reading and writing."""
        return self._fd

    def close(self) -> None:
        """Close the file; again is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write `data` at `offset`, without its zero blocks; several threads may write different ranges at once.

        The blocks are the file's. A part of a block at either end of `data` is left out too where it is zeros, so a
        block that arrives in pieces is a hole when all of its pieces are zeros.
        """
        for part, at in _at_blocks(data, offset):
            self.pwrite_runs(part, at, data_runs(part))

    def pwrite_runs(self, view: memoryview, offset: int, runs: list[tuple[int, int]]) -> None:
        """Write these ``(start, stop)`` runs of `view`, whose first byte belongs at `offset`."""
        with disk_errors(self.path):
            for start, stop in runs:
                if stop - start >= _ALLOCATED_AHEAD and self._allocates_ahead:
                    self._allocate(offset + start, stop - start)
                self._pwrite_run(view, offset, start, stop)

    def _pwrite_run(self, view: memoryview, offset: int, start: int, stop: int) -> None:
        while start < stop:
            start += os.pwrite(self._fd, view[start:stop], offset + start)

    @cached_property
    def _allocates_ahead(self) -> bool:
        return file_system(self._fd) == "ext4"

    def _allocate(self, offset: int, length: int) -> None:
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as error:
            # A file without extents, of a file system that was ext3 once.
            if error.errno not in CANNOT_SHARE:
                raise
            self._allocates_ahead = False

    def reflink(self, fd: int, source: int, offset: int, runs: list[tuple[int, int]]) -> bool:
        """Let these ``(start, stop)`` runs at `offset` be the extents of the file `fd` at `source`, if that can be.

        False, with nothing done that a write would not do again, where the file system cannot or the runs are not of
        whole blocks.
        """
        if not self._can_share or any(number % BLOCK for run in (*runs, (source, offset)) for number in run):
            return False
        import fcntl

        with disk_errors(self.path):
            for start, stop in runs:
                argument = _FILE_CLONE_RANGE.pack(fd, source + start, stop - start, offset + start)
                try:
                    fcntl.ioctl(self._fd, _FICLONERANGE, argument)
                except OSError as error:
                    if error.errno not in CANNOT_SHARE:
                        raise
                    self._can_share = False
                    return False
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `position`, without its zero blocks, and move on; pieces may have any length.

        Nothing is allocated ahead: the file's size says how far it came, whenever the process is killed.
        """
        with disk_errors(self.path):
            for part, at in _at_blocks(data, self.position):
                for start, stop in data_runs(part):
                    self._pwrite_run(part, at, start, stop)
        self.position += len(data)

    def write_back(self, offset: int, length: int) -> None:
        """Have the kernel begin to bring this range to the disk, where it can be told, so that `finish` waits less."""
        if self._durable and (sync_file_range := _sync_file_range()):
            # What goes wrong in writing, fsync reports.
            sync_file_range(self._fd, offset, length, _SYNC_FILE_RANGE_WRITE)

    def finish(self, size: int) -> None:
        """Give the file exactly `size` bytes."""
        with disk_errors(self.path):
            os.ftruncate(self._fd, size)
            if self._durable:
                os.fsync(self._fd)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Return sync_file_range(2), which Python does not have, or None where the system has no such thing."""
    import ctypes

    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


def _at_blocks(data: bytes | bytearray | memoryview, offset: int) -> Iterator[tuple[memoryview, int]]:
    """Yield `data`, which belongs at `offset`, as a part of the block that others began, and the blocks after that."""
    view = memoryview(data)
    head = min(-offset % BLOCK, len(view))
    if head:
        yield view[:head], offset
    if head < len(view):
        yield view[head:], offset + head


def allocated(file: Path | os.stat_result) -> int:
    """Return the bytes that the file system allotted to `file`."""
    status = file if isinstance(file, os.stat_result) else file.stat()
    # POSIX leaves the unit of st_blocks open; on Linux and macOS it is 512 whatever the file system.
    return status.st_blocks * 512


def measure(path: Path, known: Artifact | None = None) -> Artifact:
    """Return size, allocation and mtime of `path`, with the digest and blkhash of `known`."""
    found = path.stat()
    return Artifact(
        size=found.st_size,
        allocated=allocated(found),
        mtime_ns=found.st_mtime_ns,
        digest=known.digest if known else None,
        blkhash=known.blkhash if known else None,
    )


def data_extents(fd: int, size: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the ``(start, stop)`` ranges from `start` up to `size` that may hold data; the rest is holes.

    One range, all of it, where the file system does not tell. Moves the descriptor's offset.
    """
    stop = start
    while stop < size:
        try:
            start = os.lseek(fd, stop, os.SEEK_DATA)
            if start >= size:
                return
            stop = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno not in CANNOT_SHARE:
                raise
            start, stop = stop, size
        yield start, stop


def data_size(path: Path) -> int:
    """Return the bytes of the file at `path` that are no holes, as far as the file system tells. OSErrors pass."""
    with path.open("rb", buffering=0) as file:
        fd = file.fileno()
        return sum(stop - start for start, stop in data_extents(fd, os.fstat(fd).st_size))


def units(extents: Iterable[tuple[int, int]], size: int, unit: int) -> Iterator[tuple[int, int]]:
    """Yield the ordered `extents` of `size` bytes in whole units of `unit` bytes, none twice; the last may be short."""
    done = 0
    for start, stop in extents:
        start = max(start // unit * unit, done)
        done = max(done, min(-(-stop // unit) * unit, size))
        if start < done:
            yield start, done


def data_units(fd: int, size: int, unit: int) -> Iterator[tuple[int, int]]:
    """Yield `data_extents`, extended to whole `units`."""
    return units(data_extents(fd, size), size, unit)


def data_chunks(fd: int, size: int, unit: int) -> Iterator[tuple[int, int]]:
    """Yield `data_units` in pieces of `CHUNK` bytes at the most, which is a multiple of `unit`."""
    for start, stop in data_units(fd, size, unit):
        for at in range(start, stop, CHUNK):
            yield at, min(at + CHUNK, stop)


def punch(path: Path, *, meter: Meter) -> None:
    """Make holes of the zero blocks in the file at `path`, where its file system has them; its bytes stay the same.

    In place, so that it is done for all names of the file, and what shares its extents keeps them. The caller sees to
    it that nobody writes to the file. It need not be writable, but must be the caller's own; its mtime changes. `meter`
    is told the bytes that are read. What was done is on the disk.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode | stat.S_IWUSR)
    try:
        with path.open("r+b", buffering=0) as file:
            fd = file.fileno()
            for start, stop in _zero_runs(fd, os.fstat(fd).st_size, meter):
                _punch_hole(fd, start, stop)
            os.fsync(fd)
    except OSError as error:
        if error.errno not in CANNOT_SHARE:
            raise
    finally:
        path.chmod(mode)


def _zero_runs(fd: int, size: int, meter: Meter) -> Iterator[tuple[int, int]]:
    """Yield the ``(start, stop)`` ranges of whole blocks that hold zeros and are no holes."""
    buffer = memoryview(bytearray(CHUNK))
    whole = size - size % BLOCK
    meter.expect(sum(stop - start for start, stop in data_units(fd, whole, BLOCK)))
    for start, stop in data_units(fd, whole, BLOCK):
        zeros = start
        while start < stop:
            count = os.preadv(fd, [buffer[: stop - start]], start)
            if count % BLOCK or not count:
                raise OSError(errno.EIO, "the file was cut while it was being read")
            for first, last in data_runs(buffer[:count]):
                if zeros < start + first:
                    yield zeros, start + first
                zeros = start + last
            meter.advance(count)
            start += count
        if zeros < stop:
            yield zeros, stop


def _punch_hole(fd: int, start: int, stop: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, _F_PUNCHHOLE, _FPUNCHHOLE.pack(0, 0, start, stop - start))
    else:
        _fallocate(fd, _FALLOC_PUNCH_HOLE, start, stop - start)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2); Python has posix_fallocate(3) only, which knows no modes."""
    import ctypes

    function = _libc().fallocate
    if function(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def reflink(src: Path, dst: Path, *, durable: bool = True) -> bool:
    """Make `dst`, which must not exist, a copy of `src` that shares its extents; False where that cannot be.

    On success `dst` is on the disk, if it is to be `durable`; otherwise nothing is at `dst`. Errors: FileExistsError,
    `NoSpace`.
    """
    with disk_errors(dst):
        return _clonefile(src, dst, durable) if sys.platform == "darwin" else _ficlone(src, dst, durable)


def _ficlone(src: Path, dst: Path, durable: bool) -> bool:
    import fcntl

    with src.open("rb") as source, dst.open("xb") as target, removed_on_error(dst):
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        except OSError as error:
            if error.errno not in CANNOT_SHARE:
                raise
            dst.unlink()
            return False
        if durable:
            os.fsync(target.fileno())
    return True


def _clonefile(src: Path, dst: Path, durable: bool) -> bool:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.clonefile(os.fsencode(src), os.fsencode(dst), _CLONE_NOOWNERCOPY) != 0:
        number = ctypes.get_errno()
        if number in CANNOT_SHARE:
            return False
        raise OSError(number, os.strerror(number), str(dst))
    with removed_on_error(dst):
        # clonefile copies the mode, and the copy is for writing.
        dst.chmod(stat.S_IMODE(dst.stat().st_mode) | stat.S_IWUSR)
        if durable:
            with dst.open("rb") as target:
                os.fsync(target.fileno())
    return True


def copy(src: Path, dst: Path, *, meter: Meter, durable: bool = True) -> None:
    """Copy `src` to `dst`, which must not exist: its holes stay holes, and its zero blocks become some.

    `meter` is told the bytes of data, not of holes. On success `dst` is on the disk, if it is to be `durable`;
    otherwise nothing is at `dst`.

    Through memory, since copy_file_range copies zeros and was 1.2 to 4 times slower than this on ext4.
    """
    with src.open("rb", buffering=0) as source, SparseFile(dst, durable=durable) as target, removed_on_error(dst):
        fd = source.fileno()
        size = os.fstat(fd).st_size

        def worker(chunks: Iterator[tuple[int, int]]) -> None:
            buffer = memoryview(bytearray(CHUNK))
            for start, stop in chunks:
                view = buffer[: stop - start]
                if os.preadv(fd, [view], start) != len(view):
                    raise OSError(errno.EIO, "the file was cut while it was being read", str(src))
                target.pwrite(view, start)
                meter.advance(len(view))

        meter.expect(sum(stop - start for start, stop in data_units(fd, size, BLOCK)))
        in_threads(data_chunks(fd, size, BLOCK), worker, jobs=_COPIERS)
        target.finish(size)


def clone(src: Path, dst: Path, *, meter: Meter, durable: bool = True) -> Literal["reflink", "copy"]:
    """Make `dst`, which must not exist, an independent copy of `src` by the cheapest way, and say which it was."""
    if reflink(src, dst, durable=durable):
        return "reflink"
    copy(src, dst, meter=meter, durable=durable)
    return "copy"
