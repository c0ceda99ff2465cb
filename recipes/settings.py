"""What the environment says: the LARDER_* variables and their defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from . import resources
from .errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import Arch

#: The file that says which images there are.
IMAGES = "images.toml"

#: Other names of an architecture -> the one that images.toml uses.
ARCH_ALIASES: Mapping[str, Arch] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "x64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
}

#: Why there is no home folder: a container often runs as a user whom it has not heard of.
_HOMELESS = "HOME is not set, and the user has no entry in the system's list"


def processors() -> int:
    """Return how many processors this process may use: containers and CI pin it to fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_jobs(text: str) -> int:
    """Return a number of threads; raise ValueError with the reason where `text` is none."""
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ValueError(f"expected a number of threads from 1 to 256, got {text!r}")
    return int(text)


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "").strip().lower()
    if value in ("", "0", "no", "false", "off"):
        return False
    if value in ("1", "yes", "true", "on"):
        return True
    raise SettingsError(f"{name}: expected 1 or 0, got {value!r}")


def _arch(environ: Mapping[str, str]) -> Arch:
    asked = environ.get("LARDER_ARCH", "").strip() or os.uname().machine
    known = ARCH_ALIASES.get(asked.lower())
    if known is None:
        raise SettingsError(
            f"LARDER_ARCH: expected x86_64 or aarch64, got {asked!r}",
            hint="set LARDER_ARCH to the architecture whose images you want",
        )
    return known


def _jobs(environ: Mapping[str, str]) -> int:
    text = environ.get("LARDER_JOBS", "").strip()
    if not text:
        return processors()
    try:
        return parse_jobs(text)
    except ValueError as error:
        raise SettingsError(f"LARDER_JOBS: {error}") from None


def expand(text: str) -> Path:
    """Return `text` as a path, with the home folder that a leading ``~`` or ``~USER`` stands for.

    Raise SettingsError where nothing says which folder that is.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        why = f"there is no user called {user[1:]}" if user != "~" else _HOMELESS
        raise SettingsError(f"{text}: {user} is no folder: {why}", hint="write the whole path") from None


def user_cache(name: str) -> Path | None:
    """Return where the platform has the cache of the application `name`; None where this user has no home folder."""
    import platformdirs

    try:
        folder = Path(platformdirs.user_cache_dir(name, appauthor=False))
    except RuntimeError:
        return None
    # Earlier releases leave a ~ as it is where nothing says what that is, and a folder called ~ is nobody's cache.
    return folder if folder.is_absolute() else None


def catalogue() -> Path:
    """Return the images.toml that comes with larder."""
    return resources.find(IMAGES)


def nearest(name: str, here: Path) -> Path | None:
    """Return the file `name` in the folder `here`, or in the nearest one above that has it.

    Raise SettingsError where one above belongs to somebody else: what it says would be believed, and in a folder such
    as /tmp anybody may write one.
    """
    for folder in (here, *here.parents):
        file = folder / name
        try:
            found = file.is_file()
        except OSError:
            # A folder that may not be searched has nothing for this user.
            continue
        if found:
            if folder != here:
                require_own(file)
            return file
    return None


def require_own(file: Path) -> None:
    """Raise SettingsError where `file`, which nobody named, belongs neither to this user nor to root."""
    owner = file.stat().st_uid
    if owner not in (0, os.getuid()):
        raise SettingsError(
            f"{file} is above this folder and belongs to another user, number {owner}",
            hint=f"name it if it is to be used: LARDER_IMAGES={file.with_name(IMAGES)}",
        )


def _images(environ: Mapping[str, str], here: Path) -> Path:
    if asked := environ.get("LARDER_IMAGES", ""):
        return expand(asked).absolute()
    return nearest(IMAGES, here) or catalogue()


def _cache(environ: Mapping[str, str]) -> Path:
    if asked := environ.get("LARDER_CACHE", ""):
        return expand(asked).absolute()
    found = user_cache("larder")
    if found is None:
        raise SettingsError(
            f"nothing says where the cache goes: {_HOMELESS}",
            hint="set LARDER_CACHE to a folder that can be written to; nothing else is needed",
        )
    return found


class Settings(NamedTuple):
    """The settings of one run."""

    cache: Path
    images: Path
    arch: Arch
    offline: bool
    #: Fail where upstream's checksum list cannot be had, instead of using the last good copy.
    strict: bool
    #: A build server: nobody runs the same command twice in a row, so lists are asked for each time.
    ci: bool
    #: Threads inside one conversion.
    jobs: int

    @classmethod
    def from_environ(cls, here: Path, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment; `here` is an absolute folder, from which images.toml is looked for upwards."""
        environ = os.environ if environ is None else environ
        return cls(
            cache=_cache(environ),
            images=_images(environ, here),
            arch=_arch(environ),
            offline=_flag(environ, "LARDER_OFFLINE"),
            strict=_flag(environ, "LARDER_STRICT"),
            ci=environ.get("CI", "").lower() not in ("", "0", "false"),
            jobs=_jobs(environ),
        )
