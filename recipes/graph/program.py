"""`larder`: doit with larder's tasks and commands, wherever one is.

In a folder with a dodo.py it is what doit is there. Elsewhere the nearest images.toml upwards decides which images
there are, and where there is none the catalogue that comes with larder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit import loader, version
from doit.cmd_base import DodoTaskLoader, opt_dodo
from doit.doit_cmd import DoitMain

from recipes import __version__
from recipes.errors import SettingsError
from recipes.project import workspace
from recipes.settings import IMAGES, expand, nearest, require_own

from .commands.spoken import PROGRAM
from .tasks import everything

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from doit.cmd_base import Command
    from doit.task import Task

#: Each option, and the variable of the environment that it stands for.
_VARIABLES: Mapping[str, str] = {
    "arch": "LARDER_ARCH",
    "cache": "LARDER_CACHE",
    "images": "LARDER_IMAGES",
    "offline": "LARDER_OFFLINE",
}


def _option(name: str, metavar: str, text: str) -> dict[str, Any]:
    return {"section": PROGRAM, "name": name, "long": name, "default": "", "metavar": metavar, "help": text}


_OPTIONS: tuple[dict[str, Any], ...] = (
    _option("arch", "ARCH", "images of this architecture (default: LARDER_ARCH, else this machine's)"),
    _option("cache", "DIR", "the cache (default: LARDER_CACHE, else larder in the platform's folder for caches)"),
    _option("images", "FILE", "the declarations (default: LARDER_IMAGES, else the nearest images.toml upwards, else "
                              "the catalogue)"),
    {
        "section": PROGRAM,
        "name": "offline",
        "long": "offline",
        "type": bool,
        "default": False,
        "help": "no network at all (default: LARDER_OFFLINE)",
    },
)  # fmt: skip


class Loader(DodoTaskLoader):  # type: ignore[misc]
    """Loads a dodo.py where there is one, and else larder's own tasks."""

    cmd_options = (*DodoTaskLoader.cmd_options, *_OPTIONS)

    def setup(self, opt_values: Mapping[str, Any]) -> None:
        """Take the options of larder, and find the tasks."""
        here = Path.cwd()
        for name, variable in _VARIABLES.items():
            if value := opt_values.get(name):
                os.environ[variable] = "1" if value is True else value if name == "arch" else str(here / expand(value))
        if self._names_file(opt_values) or (here / opt_dodo["default"]).is_file():
            super().setup(opt_values)
        elif dodo := self._of_project(here):
            super().setup({**opt_values, "dodoFile": str(dodo)})
        else:
            # What doit.get_initial_workdir() returns; doit sets it where it loads a file.
            loader.initial_workdir = str(here)
            self.namespace = everything.load(here)

    def load_tasks(self, cmd: Command, pos_args: Sequence[str]) -> list[Task]:
        """Load the tasks that `pos_args` can need, or all."""
        if cmd.execute_tasks and workspace.is_open():
            self.namespace = everything.narrowed(self.namespace, pos_args)
        tasks: list[Task] = super().load_tasks(cmd, pos_args)
        return tasks

    def _names_file(self, opt_values: Mapping[str, Any]) -> bool:
        return opt_values["dodoFile"] != opt_dodo["default"] or bool(opt_values["cwdPath"] or opt_values["seek_file"])

    def _of_project(self, here: Path) -> Path | None:
        """Return the dodo.py of the project that this folder is in: tasks of its own count in its folders, too."""
        if os.environ.get("LARDER_IMAGES"):
            return None
        images = nearest(IMAGES, here)
        dodo = images and images.with_name(opt_dodo["default"])
        if dodo is None or not dodo.is_file():
            return None
        # It is run, which is worse than to be believed.
        require_own(dodo)
        return dodo


class Program(DoitMain):  # type: ignore[misc]
    """doit, with larder's loader and larder's help."""

    BIN_NAME = PROGRAM

    def __init__(self) -> None:
        super().__init__(task_loader=Loader())

    @staticmethod
    def print_version() -> None:
        """Print which larder this is, and on what."""
        python = ".".join(map(str, sys.version_info[:3]))
        sys.stdout.write(f"larder {__version__} (doit {'.'.join(map(str, version.VERSION))}, Python {python})\n")

    def run(self, all_args: Sequence[str]) -> int:
        """Do what the words of a command line say; return the exit status."""
        words = ["help", *all_args[1:]] if all_args[:1] in (["-h"], ["--help"]) else list(all_args)
        try:
            status: int | None = super().run(words or self._without_words())
        except SettingsError as error:
            sys.stderr.write(f"{error}\n")
            return 3
        return status or 0

    def process_args(self, cmd_args: list[str]) -> list[str]:
        """Take variables, NAME=VALUE, out of a command line; what Tab asks about may look like one, and be empty."""
        if cmd_args[:1] == ["completion"]:
            return cmd_args
        if "" in cmd_args:
            raise SettingsError("expected words, got an empty one", hint="is a variable of the shell unset?")
        args: list[str] = super().process_args(cmd_args)
        return args

    def _without_words(self) -> list[str]:
        """Return what to do where nothing is said: in a project what that wants ahead, elsewhere to help."""
        here = Path.cwd()
        named = os.environ.get("LARDER_IMAGES") or os.environ.get(opt_dodo["env_var"])
        in_project = named or (here / opt_dodo["default"]).is_file() or nearest(IMAGES, here)
        return [] if in_project else ["help"]


def main() -> int:
    """Run `larder`."""
    if sys.stdout is None:
        # Closed (``>&-``): whoever does that wants to see nothing.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return Program().run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
