"""The only rooms where doit is known: tasks, the run command, the database, what a person sees, and the commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from recipes.console import take_any_text

if TYPE_CHECKING:
    from types import TracebackType


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("larder: interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


# Commands catch Ctrl-C themselves. While what they need is still being imported nobody does, and that is a third of a
# second in which people change their mind.
sys.excepthook = _excepthook

# doit's own commands print docs with the titles of images in them.
take_any_text(sys.stdout)
