"""`larder list`: doit's own, which nobody need read to its end."""

from __future__ import annotations

from typing import Any

from doit.cmd_list import List as DoitList

from .command import end_with_reader
from .spoken import Spoken


class List(Spoken, DoitList):  # type: ignore[misc]
    """doit's list of tasks: two hundred lines, which often go to ``head``, or to a pager that is left early."""

    doc_purpose = "show what can be made"

    def execute(self, params: Any, args: list[str]) -> int:
        """Print the tasks."""
        end_with_reader()
        status: int = super().execute(params, args)
        return status
