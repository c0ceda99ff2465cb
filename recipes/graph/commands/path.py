"""`larder path`: where an artifact is."""

from __future__ import annotations

from doit.exceptions import InvalidCommand

from recipes.cache import usage
from recipes.derive import engine
from recipes.errors import StoreError
from recipes.graph.missing import unknown
from recipes.kinds import KINDS

from .command import CacheCommand, show


class Path(CacheCommand):
    """`larder path KIND:NAME`."""

    doc_purpose = "print where an artifact is, for scripts"
    doc_usage = "KIND:IMAGE ..."
    doc_description = """Prints the path of each artifact that is current; fails where one is not.

The files are the cache's: clone them, do not write to them.
"""
    cmd_options = ()

    def _execute(self, pos_args: list[str]) -> int:
        space = self.space()
        if not pos_args:
            raise InvalidCommand("expected KIND:IMAGE, for example raw:ubuntu-24.04")
        paths = []
        for word in pos_args:
            kind, _, name = word.partition(":")
            image = space.images.get(name)
            if kind not in KINDS or image is None:
                raise unknown(word)
            entry = space.session.store.entry(image)
            if not engine.is_current(entry, kind, image, space.identity(image)):
                raise StoreError(f"{word} is not in the cache, or out of date", hint=f"larder {word}")
            usage.record(entry, kind)
            paths.append(str(entry.artifact(kind)))
        show("\n".join(paths))
        return 0
