"""Tasks whose dependencies their options decide: `clone:NAME --to PATH`, `push:NAME --kind raw`.

What is done depends on the options, and so does what the task depends on: they are known once the command line is read,
before the first task runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from doit.cmdparse import CmdOption, CmdParseError
from doit.exceptions import InvalidCommand, TaskFailed
from doit.task import Task

from recipes.errors import LarderError
from recipes.graph.commands.spoken import plain
from recipes.graph.failure import failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recipes.model import Image


class OptionTask(Task):  # type: ignore[misc]
    """Something to be done with artifacts of one image that a command line asks for."""

    options: dict[str, Any] | None

    def __init__(self, group: str, image: Image, doc: str, params: Sequence[dict[str, Any]]) -> None:
        super().__init__(
            f"{group}:{image.name}",
            [(self._act,)],
            subtask_of=group,
            doc=doc,
            params=params,
            io={"capture": False},
        )
        self.image = image
        #: The kinds of artifact that are needed, once the options are known.
        self.kinds: tuple[str, ...] = ()

    def read(self, options: dict[str, Any]) -> tuple[str, ...]:
        """Take the options; return the kinds that are needed. Raise LarderError where nothing can come of them."""
        raise NotImplementedError

    def act(self) -> None:
        """Do what the task is for, with artifacts that were just derived."""
        raise NotImplementedError

    def init_options(self, args: list[str] | None = None) -> list[str]:
        """Read the options that stand before the next task; raise InvalidCommand where nothing can come of them."""
        known = self.options is not None
        try:
            rest = super().init_options(args)
        except CmdParseError as error:
            what = plain(error, map(CmdOption, self.params))
            raise InvalidCommand(f"{self.name}: {what}; `larder help {self.name}` shows them") from None
        if known:
            # doit returns None here, and forgets what else is selected.
            return args or []
        if args is not None and self.options is not None:
            try:
                self.kinds = self.read(self.options)
            except LarderError as error:
                raise InvalidCommand(f"{self.name}: {error}") from None
            self.task_dep.extend(f"{kind}:{self.image.name}" for kind in self.kinds)
        # Nothing where doit asks for what it does not give, as of a task that others depend on.
        return list(rest or [])

    def _act(self) -> dict[str, str] | TaskFailed:
        try:
            self.act()
        except LarderError as error:
            return failure(error)
        return {}
