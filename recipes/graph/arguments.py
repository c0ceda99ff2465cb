"""What doit takes out of a command line before any command sees it: words with a ``=``, which become its variables.

doit takes them wherever they stand. A path may have a ``=`` in it, and a misspelt option may be such a word: without it
the rest of the command line means something else, at worst everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from doit import doit_cmd
from doit.exceptions import InvalidCommand

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from doit.cmdparse import CmdOption


class _Variables(dict[str, str]):
    """doit's variables, which remember the names that a dodo.py asked for."""

    def __init__(self, found: dict[str, str]) -> None:
        super().__init__(found)
        self.asked: set[object] = set()

    def get(self, key: object, default: object = None) -> object:  # type: ignore[override]
        """Return the value of a variable; `doit.get_var` calls this."""
        self.asked.add(key)
        return super().get(str(key), default)


def is_variable(word: str) -> bool:
    """Say whether doit takes `word` for a variable (doit.doit_cmd.DoitMain.process_args)."""
    return "=" in word and not word.startswith("-")


def restored(left: Sequence[str], typed: Sequence[str], options: Iterable[CmdOption]) -> list[str]:
    """Return `left`, what doit left of the command line `typed`, with the values of `options` that it took out.

    What stands before the command's name, and the name itself, is not in `left`. Where it is no part of `typed`, as for
    a caller that has its arguments from elsewhere, it is returned as it is.
    """
    options = list(options)
    plain = [word for word in typed if not is_variable(word)]
    before = len(plain) - len(left)
    if before < 0 or plain[before:] != list(left):
        return list(left)
    found: list[str] = []
    for previous, word in zip(("", *typed), typed, strict=False):
        if not is_variable(word):
            before -= 1
            if before < 0:
                found.append(word)
        elif before < 0 and _takes_value(previous, options):
            found.append(word)
            _variables().pop(word.partition("=")[0], None)
    return found


def _takes_value(word: str, options: Iterable[CmdOption]) -> bool:
    """Say whether `word` is an option whose value is the next word, as getopt(3) reads it: a prefix will do."""
    for option in options:
        if option.type is bool:
            continue
        if word.startswith("--") and len(word) > 2 and option.long.startswith(word[2:]):
            return True
        if option.short and not word.startswith("--") and word[:1] == "-" and word[1:].endswith(option.short):
            return True
    return False


def watch() -> None:
    """Note from now on which variables are asked for."""
    doit_cmd._CMDLINE_VARS = _Variables(_variables())


def require_asked() -> None:
    """Raise InvalidCommand for a variable that nothing asked for while tasks were loaded: it was meant otherwise."""
    found = _variables()
    for name, value in found.items():
        if isinstance(found, _Variables) and name not in found.asked:
            word = f"{name}={value}"
            raise InvalidCommand(
                f"{word!r} is neither a task nor an option: doit takes a word with a = in it for a variable, and "
                "nothing here asks for this one\n  hint: a path with a = in it is given as --to=PATH"
            )


def _variables() -> dict[str, str]:
    return doit_cmd._CMDLINE_VARS or {}
