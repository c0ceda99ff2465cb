"""`larder clean`: doit's own, which says so and fails where something could not be deleted."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_clean import Clean as DoitClean
from doit.exceptions import BaseFail

from recipes.graph import arguments
from recipes.project import workspace

from .command import INTERRUPTED
from .spoken import FAILED, Spoken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doit.task import Task

#: Groups whose tasks have what they made in a cache that is not larder's.
_FOREIGN = ("lima",)


class Clean(Spoken, DoitClean):  # type: ignore[misc]
    """Delete what tasks made."""

    doc_purpose = "delete an artifact from the cache"
    doc_usage = "[KIND:IMAGE | KIND | TASK ...]"
    doc_description = """Without a name: what images.toml has with prewarm = true, and what that is made from.

With -a the artifacts of all images. What is in Lima's cache goes only by name: clean lima:IMAGE."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Load the project and clean what is asked for."""
        arguments.watch()
        try:
            status: int | None = super().execute(params, args)
        except KeyboardInterrupt:
            sys.stderr.write("larder: interrupted\n")
            return INTERRUPTED
        return status or 0

    # doit finds the options to pass in the signature, which wraps() keeps.
    @functools.wraps(DoitClean._execute)
    def _execute(self, **options: Any) -> int:
        if workspace.is_open():
            arguments.require_asked()
        self._failed = False
        self._all: bool = options["cleanall"]
        super()._execute(**options)
        return FAILED if self._failed else 0

    def clean_tasks(self, tasks: Sequence[Task], dryrun: bool, cleanforget: bool) -> None:
        """Clean each task once, whatever becomes of the others.

        What is not larder's own, as Lima's cache, is cleaned where it is named, and not with everything.
        """
        tasks = [task for task in tasks if not (self._all and task.subtask_of in _FOREIGN)]
        for task in tasks:
            for action in task.clean_actions:
                action.execute = functools.partial(self._clean, task.name, action.execute)
        super().clean_tasks(tasks, dryrun, cleanforget)

    def _clean(self, name: str, execute: Any, **streams: Any) -> object:
        """Execute a clean action. doit prints what it returns as it is, and forgets it."""
        result = execute(**streams)
        if isinstance(result, BaseFail):
            self._failed = True
            self.outstream.flush()
            sys.stderr.write(f"{name}: {result.get_msg().rstrip()}\n")
            return None
        return result
