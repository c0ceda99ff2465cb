"""`larder help`: all on one screen, a page for each command and kind, and what to do with an artifact."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_help import Help as DoitHelp
from doit.exceptions import InvalidCommand

from recipes import __version__
from recipes.console import tell
from recipes.derive.oci import reference
from recipes.kinds import KINDS
from recipes.project import workspace

from . import manual
from .command import end_with_reader
from .spoken import PROGRAM, Spoken

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_USAGE = """
larder
  larder help KIND:IMAGE   the next command for each client, for example `larder help vhdx:debian-12`
"""


class Help(Spoken, DoitHelp):  # type: ignore[misc]
    """doit's help, with what larder's artifacts are for; as the program `larder`, its own."""

    doc_purpose = "show how something is used"
    doc_usage = "[COMMAND | KIND | KIND:IMAGE]"
    doc_description = """Without a word: everything on one screen. Of KIND:IMAGE it prints the exact next command for
each client of the artifact, with its path."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Print what is asked for."""
        end_with_reader()
        if len(args) == 1 and (page := self._page(args[0])):
            tell(sys.stdout, f"{page}\n")
            return 0
        status: int = super().execute(params, args)
        return status

    def _page(self, word: str) -> str | None:
        """Return the page of `word` where no project need be read for it."""
        if word in self.cmds:
            return manual.of_command(self.cmds[word](cmds=self._cmds, **self.init_kwargs))
        return manual.of_word(word, self.bin_name) if self.bin_name == PROGRAM else None

    def print_usage(self, cmds: Any) -> None:
        """Print how doit is used, and how larder's help is asked for; as `larder`, what that can do."""
        if self.bin_name == PROGRAM:
            tell(sys.stdout, f"{manual.screen(cmds, __version__)}\n")
            return
        super().print_usage(cmds)
        sys.stdout.flush()
        tell(sys.stdout, _USAGE)

    def _execute(self, pos_args: list[str]) -> bool:
        """Print what a project has to say about a word."""
        word = pos_args[0]
        tasks = {task.name for task in self.task_list}
        if workspace.is_open() and (page := self._of_project(word, tasks)):
            tell(sys.stdout, f"{page}\n")
            return True
        if word not in tasks and (":" in word or workspace.is_open()):
            # Commands have no colon in their names, so it is not doit's usage that was asked for.
            raise InvalidCommand(not_found=word)
        return bool(super()._execute(pos_args))

    def _of_project(self, word: str, tasks: Collection[str]) -> str | None:
        space = workspace.current()
        kind, _, name = word.partition(":")
        if word in tasks and kind in KINDS and name in space.images:
            path = space.session.store.entry(space.images[name]).artifact(kind)
            title = space.images[name].title or name
            return f"{word}  {KINDS[kind].doc.format(title=title)}\n{next_commands(kind, name, path)}".rstrip("\n")
        if word in tasks:
            return manual.of_word(kind, self.bin_name)
        return manual.of_image(space.images[word], self.bin_name) if word in space.images else None


def next_commands(kind: str, name: str, path: Path) -> str:
    """Return what to do with the artifact of `kind` at `path`, of the image `name`."""
    return KINDS[kind].clients.format(path=shlex.quote(str(path)), image=name, reference=reference(name))
