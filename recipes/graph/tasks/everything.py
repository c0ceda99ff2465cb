"""All that a dodo.py has of larder: its tasks, and how doit runs them."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from recipes.graph.report import Reporter
from recipes.project import workspace

from .clone import task_clone
from .derivations import creators, task__sums, task_resolve
from .lima import task_lima
from .registry import task_pull, task_push

if TYPE_CHECKING:
    from pathlib import Path

#: Objects that are made before those that are alive are looked through; 700 is Python's own.
_GC_THRESHOLD = 50_000
_ALONE = (task__sums, task_clone, task_lima, task_pull, task_push, task_resolve)


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
        "subtasks": True,
        "verbosity": 2,
    }
    # task_fetch, task_content, task_raw and so on: one for each kind of artifact in recipes/kinds.py.
    return {"DOIT_CONFIG": config, **creators(), **{each.__name__: each for each in _ALONE}}
