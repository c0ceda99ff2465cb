"""`doit help`: doit's own, and the exact next command for each client of an artifact."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_help import Help as DoitHelp
from doit.exceptions import InvalidCommand

from recipes.console import tell
from recipes.derive.oci import reference
from recipes.kinds import KINDS
from recipes.project import workspace

from .command import end_with_reader

if TYPE_CHECKING:
    from pathlib import Path

_USAGE = """
larder
  doit help KIND:IMAGE   the next command for each client, for example `doit help vhdx:debian-12`
"""


class Help(DoitHelp):  # type: ignore[misc]
    """doit's help, with what larder's artifacts are for."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Print what is asked for."""
        end_with_reader()
        status: int = super().execute(params, args)
        return status

    def print_usage(self, cmds: Any) -> None:
        """Print how doit is used, and how larder's help is asked for."""
        super().print_usage(cmds)
        sys.stdout.flush()
        tell(sys.stdout, _USAGE)

    def _execute(self, pos_args: list[str]) -> bool:
        """Print the help of a task, and what its artifact is for."""
        known: bool = super()._execute(pos_args)
        kind, colon, name = pos_args[0].partition(":")
        if colon and not known:
            # Commands have no colon in their names, so it is not doit's usage that was asked for.
            raise InvalidCommand(f"there is no task {pos_args[0]}; `doit list` shows them")
        if known and kind in KINDS and workspace.is_open() and name in workspace.current().images:
            space = workspace.current()
            path = space.session.store.entry(space.images[name]).artifact(kind)
            sys.stdout.flush()
            tell(sys.stdout, next_commands(kind, name, path))
        return known


def next_commands(kind: str, name: str, path: Path) -> str:
    """Return what to do with the artifact of `kind` at `path`, of the image `name`."""
    return KINDS[kind].clients.format(path=shlex.quote(str(path)), image=name, reference=reference(name))
