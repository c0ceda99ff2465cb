"""What larder's own doit commands have in common."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from doit.cmd_base import DoitCmdBase

from recipes import interruption
from recipes.console import tell
from recipes.graph import arguments
from recipes.project import workspace

from .spoken import Spoken, require_larder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.project.workspace import Workspace

JSON = {"name": "json", "long": "json", "type": bool, "default": False, "help": "for scripts: print JSON"}
INTERRUPTED = interruption.STATUS


class CacheCommand(Spoken, DoitCmdBase):  # type: ignore[misc]
    """A command on the cache of the project whose dodo.py doit finds."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Load the project and do what the command is for."""
        arguments.watch()
        with interruption.heard(workspace.stop) as heard:
            try:
                status: int = super().execute(params, args)
            except KeyboardInterrupt:
                heard.bid_farewell()
                return INTERRUPTED
            return status

    def space(self) -> Workspace:
        """Return the workspace of the project."""
        self.dep_manager.close()
        require_larder(self.name)
        arguments.require_asked()
        return workspace.current()


def end_with_reader() -> None:
    """Let whoever stops reading end this process, as any filter: doit's own commands would end in a traceback."""
    # Windows has no such signal, and only the main thread may set handlers.
    with suppress(AttributeError, ValueError):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def show(text: str) -> None:
    """Print `text`, where there is any."""
    if text:
        tell(sys.stdout, f"{text}\n")


def aligned(table: Iterable[tuple[str, ...]], right: set[int]) -> list[str]:
    """Return the rows as lines with aligned columns; the columns `right` are aligned right."""
    rows = list(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
