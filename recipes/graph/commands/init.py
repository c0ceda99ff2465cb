"""`larder init`: a project of one's own."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Any

from doit.cmd_base import Command

from recipes import declare
from recipes.project import edit
from recipes.settings import IMAGES

from .command import JSON, aligned, show
from .editing import require_known
from .spoken import Spoken

#: What a project begins with, where nothing is named: an images.toml declares something.
_FIRST = ("demo",)


class Init(Spoken, Command):  # type: ignore[misc]
    """`larder init`."""

    doc_purpose = "begin a project: an images.toml here, with images of the catalogue"
    doc_usage = "[NAME ...]"
    doc_description = """Writes images.toml into this folder with the images that are named, for all architectures, and
the schema for editors beside it. Without a name it begins with `demo`. Nothing is ever overwritten."""
    cmd_options = (JSON,)

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Write the project."""
        names = tuple(dict.fromkeys(pos_args)) or _FIRST
        require_known(names)
        begun = edit.begin(Path.cwd() / IMAGES, names)
        begun.apply()
        if opt_values["json"]:
            facts = {"images": str(begun.path), "added": list(names), "files": [str(path) for path in begun.files]}
            show(jsonlib.dumps(facts, indent=1))
            return 0
        others = ", ".join(str(declare.shown(path)) for path in begun.files)
        show(f"{IMAGES} declares {', '.join(names)}; beside it: {others}\n\n{_next(names[0])}")
        return 0


def _next(name: str) -> str:
    rows = [
        (f"  larder {name}", "make what it says of that image"),
        ("  larder list", "what else can be made"),
        ("  larder add NAME [URL]", "one image more; `larder search WORD` looks for one in the catalogue"),
    ]
    return "\n".join(["Next", *aligned(rows, right=set())])
