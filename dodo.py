"""The front door: what `doit` reads. Everything else is in recipes/."""

from recipes.graph.tasks.clone import task_clone
from recipes.graph.tasks.derivations import (
    configure,
    task__sums,
    task_content,
    task_fetch,
    task_oci,
    task_raw,
    task_resolve,
    task_rootfs,
    task_vhdx,
)
from recipes.graph.tasks.lima import task_lima
from recipes.graph.tasks.share import task_pull, task_push

__all__ = [
    "DOIT_CONFIG",
    "task__sums",
    "task_clone",
    "task_content",
    "task_fetch",
    "task_lima",
    "task_oci",
    "task_pull",
    "task_push",
    "task_raw",
    "task_resolve",
    "task_rootfs",
    "task_vhdx",
]

DOIT_CONFIG = configure(__file__)
