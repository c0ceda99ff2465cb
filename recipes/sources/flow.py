"""A blob that is taken on while it arrives: nothing of it is kept but what somebody makes of it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Generic, TypeVar

from recipes.formats.io.pipeline import Stage

from .part import Blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recipes.model import Digest

    from .part import Origin

T = TypeVar("T")


class Flow(Blob, Generic[T]):
    """The part of a blob that `consume` makes the file `path` of, in a thread of its own, from the chunks it is given.

    It goes on after a cut, as long as this process lives: what a dead one left cannot be told from anything else. What
    `consume` raises ends the transfer; it leaves nothing at `path` then, nor when it is to start over.
    """

    def __init__(self, path: Path, digest: Digest, consume: Callable[[Iterator[bytes]], T]) -> None:
        super().__init__(path, digest)
        self._consume = consume
        self._stack = ExitStack()
        self._stage: Stage[T] | None = None
        #: What `consume` returned for all of the blob.
        self.result: T | None = None

    @property
    def allocated(self) -> int:
        """Return the bytes on disk that `begin` gives back: nobody counts them."""
        return 0

    def restore(self, advance: Callable[[int], None]) -> None:
        """Take over nothing."""

    def begin(self, origin: Origin) -> None:
        """Start over with bytes from `origin`."""
        self.clear()
        self._stage = self._stack.enter_context(Stage(self._consume))
        self.origin = origin

    def write(self, data: bytes) -> None:
        """Hand bytes on that the origin served."""
        assert self._stage is not None, "begin comes first"
        self._stage.put(data)
        self._add(data)

    def finish(self) -> None:
        """Wait for what is made of the bytes, all of which were handed on."""
        assert self._stage is not None, "begin comes first"
        self.result = self._stage.finish()

    def clear(self) -> None:
        """Drop what was made of the bytes so far."""
        self._close()
        self.path.unlink(missing_ok=True)
        self._forget()

    def _close(self) -> None:
        self._stack.close()
        self._stage = None
