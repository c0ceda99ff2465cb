"""`larder remove`: an image less in images.toml."""

from __future__ import annotations

from doit.exceptions import InvalidCommand

from recipes.graph.missing import undeclared
from recipes.project.edit import Edit

from .command import JSON, CacheCommand
from .editing import DRY_RUN, editable, finish


class Remove(CacheCommand):
    """`larder remove`."""

    doc_purpose = "take images out of images.toml"
    doc_usage = "NAME ..."
    doc_description = """Takes the tables of an image out, with their comments; nothing else changes. The diff goes to
standard output. What is in the cache of it stays until `larder prune`."""
    cmd_options = (DRY_RUN, JSON)

    def _execute(self, dry_run: bool, json: bool, pos_args: list[str]) -> int:
        space = self.space()
        if not pos_args:
            raise InvalidCommand("expected the NAME of an image; `larder list` shows them")
        edit = Edit.of(editable(space))
        names = list(dict.fromkeys(pos_args))
        for name in names:
            if name not in space.declaration.images:
                raise InvalidCommand(undeclared(name, space))
        for name in names:
            edit.remove(name)
        said = ["what is in the cache of it goes with `larder prune`"]
        return finish(edit, {"removed": names}, json=json, dry_run=dry_run, said=said)
