"""`larder search`: what the catalogue has."""

from __future__ import annotations

import json as jsonlib
from typing import Any

from doit.cmd_base import Command

from recipes.project import catalogue

from .command import JSON, aligned, show
from .spoken import FAILED, Spoken


class Search(Spoken, Command):  # type: ignore[misc]
    """`larder search`."""

    doc_purpose = "look for images in the catalogue"
    doc_usage = "[WORD ...]"
    doc_description = """Shows the images that have each word in their name, title, kind or urls; without a word, all.
`larder add NAME` copies one into a project. Fails where there is none."""
    cmd_options = (JSON,)

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Print what there is."""
        found = list(catalogue.search(tuple(pos_args)))
        if opt_values["json"]:
            show(jsonlib.dumps({"images": [entry.to_json() for entry in found]}, indent=1))
        elif found:
            rows = [(entry.name, entry.kind, " ".join(entry.arches), entry.title) for entry in found]
            show("\n".join(aligned([("NAME", "KIND", "ARCHITECTURES", "TITLE"), *rows], right=set())))
        else:
            show(f"the catalogue has nothing with {' and '.join(pos_args)}")
        return 0 if found else FAILED
