"""`larder clean`: doit's own, which says so and fails where something could not be deleted."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_clean import Clean as DoitClean
from doit.exceptions import BaseFail

from recipes.console import tell
from recipes.formats.io.sparse import allocated
from recipes.graph import arguments
from recipes.kinds import KINDS
from recipes.project import workspace
from recipes.units import format_size

from .command import INTERRUPTED, end_with_reader
from .spoken import FAILED, Spoken

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

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
        end_with_reader()
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
        said = False
        for task in {task.name: task for task in tasks}.values():
            if _is_ours(task):
                said |= self._clean_ours(task, dryrun)
                # doit forgets what it has recorded of it, where that is asked for, and has nothing to say.
                task.clean_actions = []
                continue
            said = True
            for action in task.clean_actions:
                action.execute = functools.partial(self._clean, task.name, action.execute)
        super().clean_tasks(tasks, dryrun, cleanforget)
        if not said and not self._failed:
            tell(sys.stdout, "nothing of it is in the cache\n")

    def _clean_ours(self, task: Task, dryrun: bool) -> bool:
        """Clean a task of larder's; say what of it goes, and return whether there was something to say."""
        task.init_options()
        freed, failed = _size(task), self._failed
        for action in () if dryrun else task.clean_actions:
            self._clean(task.name, action.execute, out=self.outstream)
        if freed is None or self._failed != failed:
            return False
        tell(sys.stdout, f"{task.name}: {'would be ' if dryrun else ''}deleted{freed}\n")
        return True

    def _clean(self, name: str, execute: Any, **streams: Any) -> object:
        """Execute a clean action. doit prints what it returns as it is, and forgets it."""
        result = execute(**streams)
        if isinstance(result, BaseFail):
            self._failed = True
            self.outstream.flush()
            sys.stderr.write(f"{name}: {result.get_msg().rstrip()}\n")
            return None
        return result


def _is_ours(task: Task) -> bool:
    return workspace.is_open() and (task.subtask_of in _FOREIGN or (task.meta or {}).get("kind") in KINDS)


def _size(task: Task) -> str | None:
    """Say what is freed by the end of what a task made; None where there is nothing of it."""
    if task.subtask_of in _FOREIGN:
        return f" from {task.subtask_of.capitalize()}'s cache"
    space = workspace.current()
    entry = space.session.store.entry(space.images[task.meta["image"]])
    kind = task.meta["kind"]
    paths = [entry.artifact(kind), *((entry.part,) if kind == "fetch" else ())]
    here = [status for path in paths if (status := _status(path))]
    if not here:
        return None
    if all(status.st_nlink > 1 for status in here):
        return "; its file has another name, so that nothing is freed"
    return f", {format_size(sum(allocated(status) for status in here if status.st_nlink == 1))} freed"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
