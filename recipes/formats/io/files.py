"""Files as the operating system gives and takes them: its refusals in a person's words, and writes that last."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from recipes.errors import NoSpace, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space" and "over quota" from the body, which writes `path`, into `NoSpace`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"{path}: {os.strerror(error.errno)}", hint="free some space there, or use another folder"
            ) from error
        raise


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses the body into `StoreError`, or `NoSpace`, as `disk_errors` does.

    The message names the file that the error names, else `path`.
    """
    try:
        with disk_errors(path):
            yield
    except OSError as error:
        # Libraries raise some that are not the system's: those have a text and no number.
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error


def write(path: Path, data: bytes) -> None:
    """Write a file whose bytes are on the disk, under a name that a crash may still lose: `sync_folder` keeps it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`: after a crash or an error that is the old file or the new one, and whole."""
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        write(draft, data)
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make renames in `path` durable (POSIX leaves it to fsync of the folder)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free(path: Path, *, force: bool) -> None:
    """Raise StoreError where no file can be made at `path`; with `force` a file there will be replaced."""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise StoreError(
                f"{path}: expected the name of a file, found a folder", hint=f"for example {path / 'disk'}"
            )
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise StoreError(f"{path}: {error.strerror}") from error
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise StoreError(f"{path}: expected a file or nothing, found what is neither")
    if not force:
        raise StoreError(f"{path} exists already", hint="--force replaces it")


def require_folder(path: Path) -> None:
    """Raise StoreError where `path` is in no folder."""
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path.absolute().parent} is not a folder")
