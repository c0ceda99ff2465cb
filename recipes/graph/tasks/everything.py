"""All that a dodo.py has of larder: its tasks, and how doit runs them."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from recipes.graph.report import Reporter
from recipes.project import needs, workspace

from .clone import task_clone
from .derivations import creators, task__sums, task_resolve
from .lima import task_lima
from .registry import task_pull, task_push

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Objects that are made before those that are alive are looked through; 700 is Python's own.
_GC_THRESHOLD = 50_000
#: What derivations depend on, and all that stands for itself.
_NEEDED = (task__sums, task_pull, task_resolve)
_ALONE = (*_NEEDED, task_clone, task_lima, task_push)


def narrowed(namespace: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return of `namespace` what a run of the tasks in `words` can need; all of it where they do not tell.

    Tasks that are not larder's may depend on any of larder's.
    """
    space = workspace.current()
    makers = {name: value for name, value in namespace.items() if name.startswith("task_")}
    is_ours = all(getattr(maker, "__module__", "").startswith(__package__) for maker in makers.values())
    names = words or namespace["DOIT_CONFIG"].get("default_tasks", ())
    space.needs = needs.of(names, space.images) if is_ours and names else None
    if space.needs is None:
        return dict(namespace)
    kept = {*(f"task_{kind}" for kind in space.needs.kinds), *(each.__name__ for each in _NEEDED)}
    return {name: value for name, value in namespace.items() if name not in makers or name in kept}


def load(here: Path) -> dict[str, Any]:
    """Open the workspace of the folder `here`, an absolute path; return what doit looks for in a dodo.py of it."""
    # A graph of thousands of tasks is no garbage, and to look through it over and over took a sixth of a no-op run.
    gc.set_threshold(_GC_THRESHOLD)
    space = workspace.open_workspace(here)
    config = {
        "backend": "larder",
        "dep_file": str(space.settings.cache / "doit.db"),
        "default_tasks": [
            f"{kind}:{image.name}" for image in space.images.values() if image.prewarm for kind in image.derive
        ],
        "par_type": "thread",
        "reporter": Reporter,
        "verbosity": 2,
    }
    # task_fetch, task_content, task_raw and so on: one for each kind of artifact in recipes/kinds.py.
    return {"DOIT_CONFIG": config, **creators(), **{each.__name__: each for each in _ALONE}}
