"""How every command reads its words and answers to those that it does not know, doit's own commands included.

doit shows the whole table of its options, as Python writes it, to whoever misspells one, and takes an option that
stands after a name for a name.
"""

from __future__ import annotations

import getopt
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdOption, CmdParse, CmdParseError
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

from recipes.console import tell
from recipes.errors import LarderError
from recipes.graph import arguments
from recipes.graph.missing import unknown
from recipes.project import workspace
from recipes.wording import either, meant

from . import manual

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The program that has larder's tasks and commands and nothing else.
PROGRAM = "larder"
#: Exit status of a command that could be tried, and whose answer is no.
FAILED = 1
#: That of a bug.
BROKEN = 2

_TYPES = {int: "a whole number", float: "a number"}


class Parser(CmdParse):  # type: ignore[misc]
    """Reads the options of a command, or of tasks, and says what is wrong with them in words."""

    def __init__(self, options: Iterable[CmdOption], *, anywhere: bool) -> None:
        """With `anywhere`, options may stand after names too."""
        super().__init__(options)
        self._getopt = getopt.gnu_getopt if anywhere else getopt.getopt

    def parse_only(self, in_args: Sequence[str], params: Any = None) -> tuple[Any, list[str]]:
        """Read `in_args`; return the values by name, and the words that are no options."""
        params = params or {}
        try:
            found, rest = self._getopt(list(in_args), self.get_short(), self.get_long())
        except getopt.GetoptError as error:
            raise CmdParseError(refused(error.msg, self.options)) from None
        for word, value in found:
            option, inverse = self.get_option(word)
            if option.type is bool:
                params[option.name] = not inverse
            elif option.type is list:
                params[option.name] = [*params.get(option.name, ()), value]
            else:
                params[option.name] = _value(word, option, value)
        return params, rest


def refused(problem: str, options: Iterable[CmdOption]) -> str:
    """Say what getopt has against a command line that may have `options`."""
    match = re.search(r"option (-\S+) not recognized", problem)
    if not match:
        return problem
    known = [f"--{name}" for option in options for name in (option.long, option.inverse) if name]
    return f"there is no option {match[1]}{meant(match[1], known)}"


def _value(word: str, option: CmdOption, text: str) -> Any:
    try:
        value = option.type(text)
    except ValueError:
        raise CmdParseError(f"{word}: expected {_TYPES.get(option.type, 'a value')}, got {text!r}") from None
    if option.choices and value not in option.choices:
        raise CmdParseError(
            f"{word}: expected {either(option.choices)}, got {text!r}{meant(text, map(str, option.choices))}"
        )
    return value


class Spoken:
    """What a command of doit's has to have beside it to speak as larder does."""

    #: Whether an option may stand after a name. Where names have options of their own it may not.
    options_anywhere = True
    name: str
    bin_name: str
    config_vals: dict[str, Any]
    _cmdparser: Parser | None

    @property
    def cmdparser(self) -> Parser:
        """Return the parser of the command's options, with the defaults that pyproject.toml gives."""
        if self._cmdparser is None:
            self._cmdparser = Parser(self.get_options(), anywhere=self.options_anywhere)  # type: ignore[attr-defined]
            self._cmdparser.overwrite_defaults(self.config_vals)
        return self._cmdparser

    def parse_execute(self, in_args: list[str]) -> int:
        """Read the command line and do what it says; return the exit status."""
        if self.asks_for_help(in_args):
            tell(sys.stdout, f"{self.help()}\n")
            return 0
        try:
            status: int | None = super().parse_execute(in_args)  # type: ignore[misc]
        except CmdParseError as error:
            what = plain(error, self.cmdparser.options)
            raise InvalidCommand(f"{self.name}: {what}; `{self.bin_name} help {self.name}` shows them") from None
        except InvalidCommand as error:
            raise self._with_suggestion(error) from None
        except (InvalidDodoFile, InvalidTask):
            raise
        except LarderError as error:
            tell(sys.stderr, f"{error}\n")
            return FAILED if self.is_begun() else workspace.USAGE_ERROR
        except Exception:
            sys.stderr.write(traceback.format_exc())
            return BROKEN
        return status or 0

    def _with_suggestion(self, error: InvalidCommand) -> InvalidCommand:
        """Return `error`, with what a word that is no task may have been meant to be."""
        word = error.not_found
        if word is None and (match := re.fullmatch(r"'(.*)' is not a task\.", str(error))):
            word = match[1]
        tasks = getattr(self, "task_list", ())
        if word is None or not tasks:
            return error
        names = [task.name for task in tasks]
        if workspace.is_open():
            return unknown(word, names)
        return InvalidCommand(f"there is no task {word}{meant(word, names)}")

    def is_begun(self) -> bool:
        """Say whether something was tried: before its tasks were there a command that has tasks did nothing."""
        return hasattr(self, "task_list") or not isinstance(self, DoitCmdBase)

    def asks_for_help(self, in_args: Sequence[str]) -> bool:
        """Say whether the command line asks how the command is used."""
        return not arguments.HELP.isdisjoint(in_args)

    def help(self) -> str:
        """Return how the command is used."""
        return manual.of_command(self)


def plain(error: CmdParseError, options: Iterable[CmdOption]) -> str:
    """Return what is wrong with a command line that may have `options`; doit adds the table of them."""
    return refused(re.sub(r" \(parsing options: .*", "", str(error), flags=re.DOTALL), options)


def require_larder(name: str) -> None:
    """Raise InvalidCommand where the dodo.py that was loaded has nothing of larder's."""
    if not workspace.is_open():
        raise InvalidCommand(
            f"`{name}` is larder's; this dodo.py is not\n"
            "  hint: two lines make it larder's as well: from recipes import tasks, "
            "and DOIT_CONFIG = tasks.use(globals())"
        )
