"""`larder list`: a row for each image; doit's own list of tasks where that is asked for."""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_list import List as DoitList
from doit.exceptions import InvalidCommand

from recipes.console import tell
from recipes.kinds import DERIVABLE, KINDS
from recipes.project import workspace

from .command import JSON, aligned, end_with_reader
from .spoken import Spoken

if TYPE_CHECKING:
    from recipes.project.workspace import Workspace

#: Groups of larder's tasks beside those of kinds.
_ACTS = ("clone", "lima", "pull", "push", "resolve")
_VERBOSE = {
    "name": "kinds",
    "short": "v",
    "long": "kinds",
    "type": bool,
    "default": False,
    "help": "show what can be made of each image, too",
}


class List(Spoken, DoitList):  # type: ignore[misc]
    """The images that are declared; with doit's options doit's list of tasks, which is hundreds of lines."""

    doc_purpose = "show what can be made"
    doc_usage = "[TASK ...]"
    doc_description = """A row for each image: its architectures, and what of it is cached for this machine.
With --all, or the name of a kind, a line for each task."""
    cmd_options = (*DoitList.cmd_options, _VERBOSE, JSON)

    def execute(self, params: Any, args: list[str]) -> int:
        """Print the images, or the tasks."""
        end_with_reader()
        self._kinds: bool = params["kinds"]
        self._json: bool = params["json"]
        status: int = super().execute(params, args)
        return status

    # doit finds the options to pass in the signature, which wraps() keeps.
    @functools.wraps(DoitList._execute)
    def _execute(self, **options: Any) -> int:
        asked = ("subtasks", "quiet", "status", "private", "list_deps", "template", "pos_args")
        if workspace.is_open() and not any(options[each] for each in asked):
            text = _json if self._json else self._images
            tell(sys.stdout, text(workspace.current()))
            return 0
        if self._json:
            raise InvalidCommand("--json is the list of images; it goes with no name of a task and no option of tasks")
        # doit has groups of larder's that are nothing by themselves.
        options["subtasks"] = options["subtasks"] or workspace.is_open()
        status: int = super()._execute(**options)
        return status

    def _images(self, space: Workspace) -> str:
        head = ("NAME", "ARCHITECTURES", "CACHED", "TITLE")
        rows = []
        for name, by_arch in space.declaration.images.items():
            image = space.images.get(name) or next(iter(by_arch.values()))
            cached = space.session.store.entry(image).kinds() if name in space.images else []
            kinds = (" ".join(DERIVABLE[image.kind]),) if self._kinds else ()
            rows.append((name, " ".join(by_arch), " ".join(cached), *kinds, image.title))
        lines = aligned([(*head[:3], *(("KINDS",) if self._kinds else ()), head[3]), *rows], right=set())
        own = [task for task in self.task_list if not task.subtask_of and task.name not in (*KINDS, *_ACTS)]
        if shown := [(task.name, task.doc) for task in own if not task.name.startswith("_")]:
            lines += ["", "Tasks of dodo.py", *(f"  {line}" for line in aligned(shown, right=set()))]
        return "\n".join(lines) + "\n"


def _json(space: Workspace) -> str:
    facts = []
    for name, by_arch in space.declaration.images.items():
        image = space.images.get(name) or next(iter(by_arch.values()))
        facts.append(
            {
                "name": name,
                "title": image.title,
                "kind": image.kind,
                "arches": list(by_arch),
                "kinds": list(DERIVABLE[image.kind]),
                "derive": list(image.derive),
                "cached": space.session.store.entry(image).kinds() if name in space.images else [],
                "prewarm": image.prewarm,
            }
        )
    whole = {
        "declared_in": str(space.settings.images),
        "cache": str(space.session.store.root),
        "arch": space.settings.arch,
        "images": facts,
    }
    return json.dumps(whole, indent=1) + "\n"
