"""`doit path`: where an artifact is."""

from __future__ import annotations

import sys

from doit.exceptions import InvalidCommand

from recipes.cache import usage
from recipes.derive import engine
from recipes.errors import LarderError
from recipes.kinds import KINDS

from .command import FAILED, CacheCommand, show


class Path(CacheCommand):
    """`doit path KIND:NAME`."""

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
                raise InvalidCommand(f"expected KIND:IMAGE as `doit list` shows them, got {word!r}")
            entry = space.session.store.entry(image)
            try:
                current = engine.is_current(entry, kind, image, space.identity(image))
            except LarderError as error:
                sys.stderr.write(f"{error}\n")
                return FAILED
            if not current:
                sys.stderr.write(f"{word} is not in the cache, or out of date\n  hint: doit {word}\n")
                return FAILED
            usage.record(entry, kind)
            paths.append(str(entry.artifact(kind)))
        show("\n".join(paths))
        return 0
