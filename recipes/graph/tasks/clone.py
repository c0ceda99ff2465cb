"""`larder clone:NAME --to PATH`: an instance's own copy of an artifact, which is derived first if it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import doit

from recipes.cache import ledger, usage
from recipes.derive import engine
from recipes.errors import StoreError
from recipes.export import clone
from recipes.export.clone import METHODS, OVERLAY, Wish
from recipes.kinds import IMAGES
from recipes.project import workspace
from recipes.settings import expand
from recipes.units import parse_size
from recipes.wording import either

from .optional import OptionTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.model import Image

_FORMATS = clone.formats("disk")
PARAMS: tuple[dict[str, Any], ...] = (
    {
        "name": "to",
        "long": "to",
        "type": list,
        "default": [],
        "metavar": "PATH",
        "help": "the file to make; again for one more",
    },
    {
        "name": "format",
        "long": "format",
        "default": "",
        "metavar": "FORMAT",
        "help": f"{', '.join(_FORMATS)} (default: what the suffix of PATH says, else raw of a disk image and "
        f"rootfs of the others); {OVERLAY} is an overlay on a RAW",
    },
    {
        "name": "size",
        "long": "size",
        "default": "",
        "metavar": "SIZE",
        "help": "make the disk larger, to 40G for example",
    },
    {
        "name": "mode",
        "long": "mode",
        "default": "auto",
        "metavar": "MODE",
        "choices": tuple((mode, "") for mode in ("auto", *METHODS)),
        "help": "how the bytes come: auto is the cheapest way there is",
    },
    {"name": "force", "long": "force", "type": bool, "default": False, "help": "replace what is there"},
)


class CloneTask(OptionTask):
    """The clones of one image that a command line asks for."""

    def __init__(self, image: Image) -> None:
        super().__init__("clone", image, f"{image.title or image.name} for an instance: --to PATH", PARAMS)
        self._wish: Wish | None = None
        self._paths: list[Path] = []

    def read(self, options: dict[str, Any]) -> tuple[str, ...]:
        """Find out what is to be cloned, as what, and where to."""
        if not options["to"]:
            raise StoreError("it has to be said where the clone goes", hint=f"larder {self.name} --to PATH")
        possible = clone.formats(self.image.kind)
        form = options["format"] or _format(options["to"], possible)
        if form not in possible:
            raise StoreError(f"a {IMAGES[self.image.kind]} cannot be cloned as {form}, but as {', '.join(possible)}")
        mode = options["mode"]
        self._wish = Wish(form, _size(options["size"]), None if mode == "auto" else mode, options["force"])
        for path in map(destination, options["to"]):
            clone.require(path, self._wish, cache=workspace.current().session.store.root)
            self._paths.append(path.parent.resolve() / path.name)
        return (self._wish.kind,)

    def act(self) -> None:
        """Make the clones."""
        space, wish = workspace.current(), self._wish
        assert wish is not None, "doit reads the options of what it runs"
        entry = space.session.store.entry(self.image)
        identity = space.identity(self.image)
        if not engine.is_current(entry, wish.kind, self.image, identity):
            raise StoreError(
                f"{wish.kind}:{self.image.name} is not in the cache any more", hint="the same command makes it"
            )
        usage.record(entry, wish.kind)
        for path in self._paths:
            cloned = clone.clone(
                entry.artifact(wish.kind), path, wish, progress=space.session.progress, label=self.name
            )
            ledger.remember(entry, cloned.path, cloned.base, kind=wish.kind, format=wish.format, method=cloned.method)
            space.session.progress.note(f"{self.name}: {cloned}")


def destination(word: str) -> Path:
    """Return the path of a clone, as it was written on the command line."""
    if not word:
        raise StoreError(
            "--to: expected the path of a file, got an empty word", hint="is a variable of the shell unset?"
        )
    if word.startswith("-"):
        raise StoreError(
            f"--to: expected the path of a file, got the option {word}", hint=f"a file of that name is ./{word}"
        )
    path = expand(word)
    # doit has gone to the folder of dodo.py.
    return Path(doit.get_initial_workdir()) / path


def _format(paths: list[str], possible: tuple[str, ...]) -> str:
    """Return the format that the suffix of the paths says, else the first one that is `possible`."""
    found = {form for path in paths if (form := clone.format_of(path, possible))}
    if len(found) > 1:
        raise StoreError(f"the suffixes of --to say {either(sorted(found))}", hint="--format decides")
    return next(iter(found), possible[0])


def _size(text: str) -> int | None:
    if not text:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise StoreError(f"--size: {error}") from None


def task_clone() -> Iterator[dict[str, Any] | CloneTask]:
    """Artifacts for instances: larder clone:NAME --to PATH."""
    yield {"basename": "clone", "name": None, "doc": task_clone.__doc__}
    for image in workspace.current().images.values():
        yield CloneTask(image)
