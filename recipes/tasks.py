"""larder's tasks in a dodo.py of one's own::

    from recipes import tasks

    DOIT_CONFIG = tasks.use(globals())


    def task_boot():
        disk = tasks.path("raw:ubuntu-24.04")
        return {"task_dep": ["raw:ubuntu-24.04"], "actions": [f"./boot.sh {disk}"], "uptodate": [False]}

docs/project.md has more of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.errors import LarderError
from recipes.graph.missing import unknown
from recipes.graph.tasks import everything
from recipes.kinds import DERIVABLE
from recipes.project import workspace


def use(namespace: dict[str, Any], **config: Any) -> dict[str, Any]:
    """Put larder's task creators into `namespace`, the globals of a dodo.py; return its DOIT_CONFIG.

    What `config` says, such as ``default_tasks=["boot"]``, counts above what larder needs. The images are those of the
    nearest images.toml from the folder of dodo.py upwards, else of the catalogue.
    """
    loaded = everything.load(Path(namespace["__file__"]).absolute().parent)
    defaults: dict[str, Any] = loaded.pop("DOIT_CONFIG")
    namespace.update(loaded)
    return {**defaults, **config}


def path(task: str) -> Path:
    """Return where the artifact of a task such as ``raw:ubuntu-24.04`` is, once the task is done.

    The file is the cache's: clone it, do not write to it. Raise LarderError where there is no such task.
    """
    space = workspace.current()
    kind, _, name = task.partition(":")
    image = space.images.get(name)
    if image is None or kind not in DERIVABLE[image.kind]:
        problem = unknown(task) if ":" in task else f"{task}: expected KIND:IMAGE, such as raw:ubuntu-24.04"
        raise LarderError(f"tasks.path: {problem}")
    return space.session.store.entry(image).artifact(kind)
