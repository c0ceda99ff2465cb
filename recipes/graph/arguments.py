"""What of a command line is whose: doit's variables, the options of a run, those of a task.

doit takes words with a ``=`` for its variables wherever they stand, before any command sees them. A path may have a
``=`` in it, and a misspelt option may be such a word: without it the rest of the command line means something else, at
worst everything. And an option of the run that stands after a task it takes for the task's.
"""

from __future__ import annotations

import getopt
from typing import TYPE_CHECKING

from doit import doit_cmd
from doit.cmdparse import CmdParse
from doit.exceptions import InvalidCommand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from doit.cmdparse import CmdOption

#: The options that ask how something is used.
HELP = frozenset(("-h", "--help"))


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


def sorted_out(words: Sequence[str], run: Sequence[CmdOption], owned: Mapping[str, Sequence[CmdOption]]) -> list[str]:
    """Return `words` with those options of the `run` in front that stand after tasks of larder's.

    `owned` are the options of larder's own tasks, by the group that they are in. What stands after tasks of others is
    theirs.
    """
    rest = _after_options(words, run)
    front, kept = list(words[: len(words) - len(rest)]), list[str]()
    own: Sequence[CmdOption] | None = None
    left = list(rest)
    while left:
        word = left.pop(0)
        if word == "--":
            return [*front, *kept, word, *left]
        if not _is_option(word):
            own = owned.get(word.partition(":")[0])
            kept.append(word)
            continue
        place = front if own is not None and not _option(word, own) and _option(word, run) else kept
        place.append(word)
        if left and "=" not in word and _takes_value(word, run if place is front else own or ()):
            place.append(left.pop(0))
    return [*front, *kept]


def asked_about(words: Sequence[str], run: Sequence[CmdOption], owned: Mapping[str, object]) -> str | None:
    """Return the word that a ``-h`` or ``--help`` in a run's command line is about, "" for the run as a whole.

    None where larder is not asked: what stands after tasks of others is theirs.
    """
    rest = _after_options([word for word in words if word not in HELP], run)
    about = next((word for word in rest if not _is_option(word)), "")
    if HELP.isdisjoint(words) or (about and about.partition(":")[0] not in owned):
        return None
    return about


def _after_options(words: Sequence[str], options: Iterable[CmdOption]) -> list[str]:
    """Return what follows the options at the beginning of `words`; all of them where getopt would refuse one."""
    parser = CmdParse(options)
    try:
        return getopt.getopt(list(words), parser.get_short(), parser.get_long())[1]
    except getopt.GetoptError:
        return list(words)


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _option(word: str, options: Iterable[CmdOption]) -> bool:
    """Say whether `word` is one of `options`, written out or by its letter."""
    name = word.partition("=")[0]
    return any(
        name in (f"--{option.long}", f"--{option.inverse}")
        or (option.short and not word.startswith("--") and word[1:2] == option.short)
        for option in options
    )


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
