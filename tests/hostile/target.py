"""What inputs are thrown at."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recipes.model import DEFAULT_MAX_VIRTUAL_SIZE
from recipes.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from .sandbox import Outcome


#: Bytes of the largest disk that users accept who say nothing.
MAX_VIRTUAL_SIZE = parse_size(DEFAULT_MAX_VIRTUAL_SIZE)


class Wrong(Exception):
    """What larder made of an input is not what it should be."""


@dataclass(frozen=True)
class Target:
    """A reader of inputs."""

    name: str
    #: Make valid inputs in an empty folder.
    seeds: Callable[[Path], list[bytes]]
    #: Make one input of a valid one, in view of all of them.
    mutate: Callable[[Random, bytes, list[bytes]], bytes]
    #: Read the file at the first path, and write to the new file at the second, if anything.
    read: Callable[[Path, Path], object]
    #: Hold what became of an input against another program: input, its outcome, what was written, and whether to look
    #: at refused inputs. Return whether the two were compared and are equal; raise Wrong.
    judge: Callable[[Path, Outcome, Path, bool], bool] | None = None
    #: Programs that make the seeds, or judge.
    tools: tuple[str, ...] = ()
    #: Make a larger input of one, where repeating its bytes would not: see `tests.hostile.mutate.grow`.
    grow: Callable[[Random, bytes], bytes] | None = None


def tool(*command: object, data: bytes | None = None) -> bytes | None:
    """Return what a program writes to its standard output, None where it fails or takes too long."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=data, capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def made(*command: object, data: bytes | None = None) -> bytes:
    """Return the same of a program that must not fail."""
    result = tool(*command, data=data)
    assert result is not None, command
    return result
