"""The projects that share a cache, so that none prunes what another declares.

ROOT/roots has a file for each images.toml that was used with the cache, with its path. A project whose file is gone
has no say any more, as with the garbage collector's roots of Nix.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

_FOLDER = "roots"


def register(cache: Path, images: Path) -> None:
    """Remember that the project of `images`, an absolute path, uses `cache`, where that can be written to."""
    file = cache / _FOLDER / hashlib.sha256(os.fsencode(images)).hexdigest()[:16]
    if file.exists():
        return
    draft = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        # Of a run that was killed; where it is another's that lives, both would have written the same.
        for left in file.parent.glob(f".{file.name}.*"):
            left.unlink()
        try:
            draft.write_bytes(os.fsencode(images))
            draft.replace(file)
        except OSError:
            draft.unlink(missing_ok=True)


def registered(cache: Path) -> dict[Path, Path]:
    """Return the images.toml of every project that uses `cache`, by the file that says so; some may be gone."""
    found = {}
    for file in sorted((cache / _FOLDER).glob("*")):
        if not file.name.startswith("."):
            with suppress(OSError):
                found[file] = Path(os.fsdecode(file.read_bytes()))
    return found
