"""How a task fails."""

from __future__ import annotations

from doit.exceptions import TaskFailed

from recipes.errors import Interrupted, LarderError


def failure(error: LarderError) -> TaskFailed:
    """Return what the action of a task returns after `error`; of an interruption the run itself tells, once."""
    return TaskFailed(str(error), report=not isinstance(error, Interrupted))
