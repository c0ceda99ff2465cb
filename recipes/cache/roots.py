"""The projects that share a cache, so that none prunes what another declares.

ROOT/roots has a file for each images.toml that was used with the cache, with its path. A project whose file is gone
has no say any more, as with the garbage collector's roots of Nix.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from recipes.errors import StoreError

_FOLDER = "roots"


def register(cache: Path, images: Path) -> None:
    """Remember that the project of `images`, an absolute path, uses `cache`, where that can be written to."""
    text = os.fsencode(images)
    file = cache / _FOLDER / hashlib.sha256(text).hexdigest()[:16]
    with suppress(OSError):
        # Not whether it is there: a loss of power may have left it empty.
        if file.read_bytes() == text:
            return
    draft = file.with_name(f".{file.name}")
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        # Others who begin at the same time write the same bytes to the same file, which is why it is not truncated:
        # whoever gives it its name, it is whole. What a killed run leaves the next one goes on with.
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
            # Who shares the cache must be able to see whose it is as well, whatever the umask.
            os.fchmod(opened.fileno(), 0o644)
        draft.replace(file)


def registered(cache: Path, *, strict: bool = True) -> dict[Path, Path]:
    """Return the images.toml of every project that uses `cache`, by the file that says so; some may be gone.

    Raise StoreError if that cannot be told: a project that is not seen is not gone. For what deletes nothing, not
    `strict`, leave out what cannot be read.
    """
    found = {}
    folder = cache / _FOLDER
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if strict:
            raise _unreadable(folder, error) from error
        return {}
    for file in files:
        try:
            found[file] = _path_in(file)
        except FileNotFoundError:
            continue
        except StoreError:
            if strict:
                raise
    return found


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: {error.strerror}: it says which projects share this cache",
        hint="have its owner make it readable for all who share the cache (chmod -R a+rX), or prune it",
    )


def _path_in(file: Path) -> Path:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(file, error) from error
    if not data.startswith(b"/") or b"\0" in data:
        raise StoreError(
            f"{file}: expected the path of an images.toml, found {data[:80]!r}",
            hint="a project that shares this cache writes it anew when it runs; if that is no more, delete the file",
        )
    return Path(os.fsdecode(data))
