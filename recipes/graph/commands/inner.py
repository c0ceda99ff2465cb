"""doit's own commands that larder has nothing to add to, as far as they are in nobody's way."""

from __future__ import annotations

import dbm
import json
import sys
from typing import TYPE_CHECKING, Any

from doit.action import CmdAction
from doit.cmd_base import DoitCmdBase
from doit.cmd_completion import TabCompletion as DoitTabCompletion
from doit.cmd_dumpdb import DumpDB as DoitDumpDB
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_resetdep import ResetDep as DoitResetDep
from doit.cmd_strace import Strace as DoitStrace
from doit.exceptions import InvalidCommand

from recipes.console import tell
from recipes.graph.database import WriteThrough
from recipes.kinds import DERIVABLE, KINDS
from recipes.project import why, workspace

from .command import aligned, end_with_reader, show
from .spoken import FAILED, Spoken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from doit.task import Task


class Forget(Spoken, DoitForget):  # type: ignore[misc]
    """Forget that tasks were done."""

    doc_purpose = "forget what is recorded of a task"
    doc_description = "Artifacts stay as they are: of those the receipts say that they are there."


class Ignore(Spoken, DoitIgnore):  # type: ignore[misc]
    """Leave tasks out until they are forgotten."""

    doc_purpose = "leave a task out of every run, until `forget`"


class ResetDep(Spoken, DoitResetDep):  # type: ignore[misc]
    """Take the files that tasks depend on as they are."""


class TabCompletion(Spoken, DoitTabCompletion):  # type: ignore[misc]
    """Print a script for a shell."""


class Info(Spoken, DoitInfo):  # type: ignore[misc]
    """Show what doit knows of a task, and why it would run."""

    doc_purpose = "show why something would be made, and from what"
    doc_usage = "KIND:IMAGE | IMAGE | TASK"
    doc_description = """Of KIND:IMAGE: whether it is up to date, what upstream has of it, and for whom it is kept. Of
IMAGE: whether what can be made of it is up to date. Upstream is not asked. Fails where KIND:IMAGE is not up to date."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Print what there is to know."""
        end_with_reader()
        status: int = super().execute(params, args)
        return status

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        tasks = {task.name: task for task in self.task_list}
        for word in pos_args[:1]:
            if page := _page(word, tasks):
                show(page[0])
                return 0 if page[1] else FAILED
            if word not in tasks:
                raise InvalidCommand(not_found=word)
        status: int = super()._execute(pos_args, hide_status)
        return status


def _page(word: str, tasks: Mapping[str, Task]) -> tuple[str, bool] | None:
    """Return what there is to say of an image or of what is made of one, and whether that is up to date.

    None of everything else, of which doit knows more.
    """
    if not workspace.is_open():
        return None
    space = workspace.current()
    image = space.images.get(word)
    if word not in tasks and image is not None:
        found = [(f"{kind}:{word}", why.answer(space, kind, image).text) for kind in DERIVABLE[image.kind]]
        return "\n".join(aligned(found, right=set())), True
    kind, _, name = word.partition(":")
    image = space.images.get(name)
    if word not in tasks or image is None:
        return None
    head = f"{word}  {tasks[word].doc}"
    if kind not in KINDS:
        return f"{head}\n  `larder help {kind}` says how it is used", True
    answer = why.answer(space, kind, image)
    rows = [("state", answer.text), *why.facts(space, kind, image)]
    text = "\n".join([head, *aligned(((f"  {fact}", text) for fact, text in rows), right=set())])
    return text, answer.is_current


class Strace(Spoken, DoitStrace):  # type: ignore[misc]
    """Show which files a shell command opens."""

    def _execute(self, show_all: bool) -> int:
        (word,) = self.sel_tasks
        tasks = {task.name: task for task in self.task_list}
        if word not in tasks:
            raise InvalidCommand(not_found=word)
        if not any(isinstance(action, CmdAction) for action in tasks[word].actions):
            raise InvalidCommand(f"strace follows commands of a shell, and {word} has none")
        status: int = super()._execute(show_all)
        return status


class DumpDB(Spoken, DoitCmdBase):  # type: ignore[misc]
    """Show doit's records of a project."""

    doc_purpose = "print doit's records of tasks, as JSON"
    doc_usage = ""
    doc_description = None

    def _execute(self, dep_file: str) -> int:
        end_with_reader()
        backend = self.dep_manager.backend
        if isinstance(backend, WriteThrough):
            tell(sys.stdout, json.dumps(backend.records(), indent=1) + "\n")
            return 0
        self.dep_manager.close()
        try:
            DoitDumpDB.execute(self, {"dep_file": dep_file}, [])
        except dbm.error as error:
            raise InvalidCommand(f"{dep_file}: {error}") from None
        return 0
