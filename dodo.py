"""The front door: what `doit` reads. Everything else is in recipes/."""

from recipes.graph.tasks import configure, task__sums, task_content, task_fetch, task_raw, task_resolve

__all__ = ["DOIT_CONFIG", "task__sums", "task_content", "task_fetch", "task_raw", "task_resolve"]

DOIT_CONFIG = configure(__file__)
