"""Undo the compression of a wrapper while it arrives, so that content is there when the wrapper is."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, Self

from recipes.errors import LarderError
from recipes.formats.io.arrival import Gone

from .unwrap import Unwrapped, unwrap_arriving

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.io.arrival import Arrival
    from recipes.formats.io.context import Context

    from .unwrap import Draft


class Followed(NamedTuple):
    """Content that was made of a wrapper on its way."""

    path: Path
    unwrapped: Unwrapped


class Follower:
    """A thread that decodes what arrives, to files of `context.scratch`; a codec sees bytes that nobody has verified.

    Whatever goes wrong with that is no error: it ends with nothing, and whoever makes the content of the whole wrapper
    says what is wrong with it. A wrapper that begins anew is decoded anew. `published` is the algorithm of the digest
    that upstream publishes of the content. Leave the context after the arrival has ended or failed, or it fails here.
    """

    def __init__(self, arrival: Arrival, context: Context, *, published: str | None) -> None:
        self._arrival = arrival
        self._context = context
        self._published = published
        self._made: tuple[Path, Draft] | None = None
        self._bug: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._arrival.fail()
        self._thread.join()

    def result(self) -> Followed | None:
        """Return what was made of the wrapper, which has ended and is verified; None where nothing was."""
        self._thread.join()
        if self._bug:
            raise self._bug
        if self._made is None:
            return None
        path, draft = self._made
        with path.open("rb", buffering=0) as file:
            return Followed(path, draft.identified(file.fileno()))

    def _run(self) -> None:
        turn = 0
        try:
            while True:
                with self._arrival.follow(turn) as growing:
                    if growing is None:
                        return
                    turn = growing.turn
                    path = self._scratch()
                    try:
                        draft = unwrap_arriving(growing, path, self._context, published=self._published)
                    except Gone:
                        continue
                    except LarderError:
                        draft = None
                if self._arrival.ended(turn):
                    self._made = (path, draft) if draft else None
                    return
                path.unlink(missing_ok=True)
        except BaseException as error:
            self._bug = error

    def _scratch(self) -> Path:
        assert self._context.scratch is not None, "a follower needs room for drafts"
        return self._context.scratch()
