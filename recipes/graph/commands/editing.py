"""What the commands that edit images.toml have in common."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit import get_initial_workdir
from doit.exceptions import InvalidCommand

from recipes import declare
from recipes.project import catalogue
from recipes.wording import meant

from .command import show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.project.edit import Edit
    from recipes.project.workspace import Workspace

DRY_RUN = {
    "name": "dry_run",
    "short": "n",
    "long": "dry-run",
    "type": bool,
    "default": False,
    "help": "write nothing, show the same change",
}


def editable(space: Workspace) -> Path:
    """Return the images.toml that is edited; raise InvalidCommand where that is the catalogue."""
    if space.is_catalogue_from(Path(get_initial_workdir())):
        raise InvalidCommand("there is no images.toml here, nor above\n  hint: `larder init` begins one")
    return space.settings.images


def require_known(names: Iterable[str]) -> None:
    """Raise InvalidCommand for a name that the catalogue has not."""
    for name in names:
        if name not in catalogue.images():
            near = meant(name, catalogue.images()) or "; `larder search WORD` looks for one"
            raise InvalidCommand(f"the catalogue has no image {name}{near}")


def finish(edit: Edit, facts: dict[str, Any], *, json: bool, dry_run: bool, said: list[str]) -> int:
    """Write the change unless that is only tried, show it with what else is `said`; return the exit status."""
    if not dry_run:
        edit.apply()
    copied = [str(declare.shown(path)) for path in edit.files]
    if json:
        whole = {"images": str(edit.path), **facts, "files": copied, "diff": edit.diff(), "written": not dry_run}
        show(jsonlib.dumps(whole, indent=1))
        return 0
    show(edit.diff())
    lines = [f"{path} was put beside it" for path in copied] if not dry_run else []
    show("\n".join([*lines, *said]))
    return 0
