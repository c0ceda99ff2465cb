"""`larder lima:NAME`: an image in Lima's own download cache, as limactl would have put it there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doit
from doit.exceptions import TaskFailed

from recipes.console import tell
from recipes.errors import LarderError
from recipes.graph.failure import failure
from recipes.kinds import DERIVABLE
from recipes.project import workspace
from recipes.settings import expand

if TYPE_CHECKING:
    from collections.abc import Iterator


PARAMS: tuple[dict[str, Any], ...] = (
    {
        "name": "lima_cache",
        "long": "lima-cache",
        "default": "",
        "metavar": "DIR",
        "help": "Lima's cache, where it is not in the platform's folder for caches",
    },
    {
        "name": "template",
        "long": "template",
        "type": bool,
        "default": False,
        "help": "only print the `images:` of a Lima template; they name the RAW in larder's cache, which is made, "
        "where Lima's cannot help",
    },
)


def task_lima() -> Iterator[dict[str, Any]]:
    """Each disk image in Lima's download cache."""
    yield {"basename": "lima", "name": None, "doc": task_lima.__doc__}
    for name, image in workspace.current().images.items():
        if "raw" not in DERIVABLE[image.kind]:
            continue
        yield {
            "basename": "lima",
            "name": name,
            "doc": f"{image.title or name} in Lima's download cache",
            "actions": [(export, [name])],
            "params": PARAMS,
            "task_dep": [f"resolve:{name}"],
            "uptodate": [(is_exported, [name])],
            "clean": [(clean, [name])],
            "io": {"capture": False},
        }


def export(name: str, lima_cache: str, template: bool) -> dict[str, str] | TaskFailed:
    """Bring what Lima needs of the image `name` into its cache, or print the template where that is wanted."""
    from recipes.export import lima, lima_supply

    space = workspace.current()
    try:
        image = space.images[name]
        identity = space.identity(image)
        cache = _folder(lima_cache)
        if template:
            found = lima_supply.locations(space.session, image, identity, cache)
            tell(sys.stdout, f"{lima.template(found, image)}\n")
        else:
            lima_supply.fill(space.session, image, identity, cache)
    except LarderError as error:
        return failure(error)
    return {"digest": str(identity.digest)}


def is_exported(task: Any, values: object, name: str) -> bool:
    """Say whether Lima's cache has what it needs, and nothing is to be printed."""
    from recipes.export import lima_supply

    space = workspace.current()
    options = task.options or {}
    if options.get("template"):
        return False
    try:
        image = space.images[name]
        identity = space.identity(image)
        return lima_supply.misses(image, identity, _folder(options.get("lima_cache", ""))) == ()
    except LarderError:
        return False


def clean(name: str) -> TaskFailed | None:
    """Remove the image from Lima's cache; what Lima has of another release stays."""
    from recipes.export import lima

    space = workspace.current()
    try:
        image = space.images[name]
        identity = space.identity(image)
        for url in lima.cached_urls(image, identity):
            lima.remove(_folder(""), url, identity.digest, space.session.progress)
    except OSError as error:
        return TaskFailed(f"cannot delete {error.filename}: {error.strerror}")
    except LarderError as error:
        return failure(error)
    return None


def _folder(option: str) -> Path:
    if option:
        # doit has gone to the folder of dodo.py.
        return Path(doit.get_initial_workdir()) / expand(option)
    from recipes.export import lima_supply

    return lima_supply.default_cache()
