"""What all single steps have in common: where the result goes, what is said of it, and that nothing half is left."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from recipes.console import Watch, console
from recipes.errors import LarderError
from recipes.formats.io.context import Context
from recipes.units import format_size

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recipes.model import Artifact
    from recipes.progress import Progress


class Request(NamedTuple):
    """What a step is asked for."""

    source: Path
    destination: Path
    jobs: int
    #: Bytes that a disk may have.
    limit: int
    #: Replace what is at `destination`.
    force: bool
    #: Say it as a receipt does.
    json: bool
    #: Set where the user wants the work to end.
    stop: threading.Event

    def context(self, draft: Path, progress: Progress) -> Context:
        """Return how the work on `draft` is to be done. Nothing is fsynced: neither do cp, gzip and qemu-img."""
        return Context(
            progress,
            self.source.name,
            self.jobs,
            self.limit,
            durable=False,
            scratch=lambda: draft.with_name(f"{draft.name}.{os.urandom(4).hex()}"),
        )


def run(request: Request, kind: str, make: Callable[[Path, Progress], dict[str, Any]], *, folders: bool = False) -> str:
    """Make the destination under a temporary name beside it, and return what is to be printed.

    `make` writes an artifact of this `kind` to a path where nothing is, and returns what is known of it: "content",
    "digest", "blkhash". A run that is killed leaves nothing at the destination. The source may be a folder if `folders`
    may be. Errors: `LarderError`.
    """
    from recipes.formats.io.files import require_folder, require_free
    from recipes.formats.io.sparse import measure
    from recipes.model import Artifact

    if not (folders and request.source.is_dir()):
        require_file(request.source)
    destination = request.destination
    require_free(destination, force=request.force)
    require_folder(destination)
    draft = destination.with_name(f".{destination.name}.{os.urandom(4).hex()}")
    began = time.monotonic()
    try:
        with shown(request.stop, quiet=request.json) as progress:
            made = make(draft, progress)
        draft.replace(destination)
    finally:
        draft.unlink(missing_ok=True)
    seconds = round(time.monotonic() - began, 3)
    artifact = measure(destination, Artifact(digest=made.get("digest"), blkhash=made.get("blkhash")))
    if request.json:
        return _json(kind, made.get("content"), artifact, seconds)
    text = f"{destination}: {format_size(artifact.size)}, {format_size(artifact.allocated)} on disk, {seconds:.1f} s\n"
    if artifact.digest:
        text += f"  {artifact.digest}\n"
    if artifact.blkhash:
        text += f"  blkhash {artifact.blkhash.algorithm} {artifact.blkhash.hex}\n"
    return text


@contextmanager
def shown(stop: threading.Event, *, quiet: bool = False) -> Iterator[Progress]:
    """Yield the progress of work that ends once `stop` is set: on the terminal, if that is what stderr is."""
    screen = console(sys.stderr, stop) if sys.stderr.isatty() and not quiet else None
    try:
        yield screen or Watch(stop)
    finally:
        if screen is not None:
            screen.close()


def _json(kind: str, content: dict[str, Any] | None, artifact: Artifact, seconds: float) -> str:
    # Imported here and not before: they are a tenth of the time of a small image.
    import json

    from recipes.cache.receipt import SCHEMA_VERSION, plain
    from recipes.derive.engine import RECIPES

    document = {
        "larder": SCHEMA_VERSION,
        "kind": kind,
        "recipe": RECIPES[kind].name,
        "content": content,
        "artifact": plain(artifact),
        "durations": {kind: seconds},
    }
    return json.dumps(document, indent=1) + "\n"


def require_file(source: Path) -> None:
    """Raise LarderError where `source` is no file."""
    if not source.is_file():
        found = "a folder" if source.is_dir() else "nothing"
        raise LarderError(f"{source}: expected a file, found {found}")
