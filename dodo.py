"""The front door: what `doit` reads. Everything else is in recipes/."""

from recipes.graph.tasks.clone import task_clone
from recipes.graph.tasks.derivations import configure, creators, task__sums, task_resolve
from recipes.graph.tasks.lima import task_lima
from recipes.graph.tasks.registry import task_pull, task_push

__all__ = ["DOIT_CONFIG", "task__sums", "task_clone", "task_lima", "task_pull", "task_push", "task_resolve"]

DOIT_CONFIG = configure(__file__)

# task_fetch, task_content, task_raw and so on: one for each kind of artifact in recipes/kinds.py.
globals().update(creators())
