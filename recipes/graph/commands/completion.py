"""`larder completion`: words for the Tab key of bash, zsh and fish.

The scripts know nothing: at each Tab they ask this program, which reads the images that count where it is asked. Where
it has nothing to offer the shell offers files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.cmd_base import Command
from doit.cmdparse import CmdOption
from doit.exceptions import InvalidCommand

from recipes.errors import LarderError
from recipes.kinds import DERIVABLE, KINDS
from recipes.settings import IMAGES, nearest
from recipes.wording import either, meant

from . import manual
from .command import show
from .spoken import Spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from recipes.model import Image, Kind

#: bash splits words at colons and equals signs, so what is before the last one of them must not come again.
_BASH = """\
_larder() {
    local line="${COMP_LINE:0:COMP_POINT}" current words
    current="${line##*[[:space:]]}"
    read -r -a words <<< "${line%"$current"}"
    local IFS=$'\\n'
    COMPREPLY=($(larder completion words -- "$current" "${words[@]:1}" 2>/dev/null))
    local kept="${current%"${current##*[:=]}"}"
    [ -z "$kept" ] || COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    [[ "${COMPREPLY[0]}" != *[:=] ]] || compopt -o nospace
}
complete -o default -F _larder larder
"""
_ZSH = """\
#compdef larder
_larder() {
    local -a found open
    found=("${(@f)$(larder completion words -- "${words[CURRENT]}" "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
    found=("${(@)found:#}")
    if (( ! $#found )); then _files; return; fi
    open=("${(@M)found:#*[:=]}")
    found=("${(@)found:#*[:=]}")
    (( ! $#open )) || compadd -S '' -- $open
    (( ! $#found )) || compadd -- $found
}
compdef _larder larder
"""
_FISH = """\
function __larder
    set -l found (larder completion words -- (commandline -ct) (commandline -opc)[2..] 2>/dev/null)
    if test -n "$found"
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c larder -f -a '(__larder)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
#: What the scripts ask with.
_WORDS = "words"
#: Commands, and what they take names of: images, artifacts, both, images of the catalogue, what there is help for.
_IMAGES, _ARTIFACTS = frozenset({"remove", "update"}), frozenset({"clean", "forget", "ignore", "path", "reset-dep"})
_BOTH = frozenset({"info", "keys", "list", "plan", "prune", "run", "status", "verify"})
_OF_CATALOGUE = frozenset({"add", "init"})


class Completion(Spoken, Command):  # type: ignore[misc]
    """`larder completion`."""

    doc_purpose = "print what makes the Tab key of a shell know larder"
    doc_usage = "bash | zsh | fish"
    doc_description = """Completes commands, options, kinds and the names of images. For bash, in ~/.bashrc:
eval "$(larder completion bash)". For zsh, in ~/.zshrc and behind compinit: eval "$(larder completion zsh)". For fish,
in ~/.config/fish/config.fish: larder completion fish | source"""
    cmd_options = ()

    def __init__(self, cmds: Any = None, **more: Any) -> None:
        super().__init__(cmds=cmds, **more)
        self._known = cmds
        self._more = {**more, "cmds": cmds}

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Print a script, or the words that may stand where the cursor is."""
        if pos_args[:1] == [_WORDS] and len(pos_args) > 1:
            show("\n".join(sorted(self._words(pos_args[1], pos_args[2:]))))
            return 0
        if len(pos_args) != 1 or pos_args[0] not in _SCRIPTS:
            got = " ".join(pos_args)
            raise InvalidCommand(
                f"completion: expected {either(_SCRIPTS)}, got {got or 'nothing'}{meant(got, _SCRIPTS) if got else ''}"
            )
        show(_SCRIPTS[pos_args[0]].rstrip())
        return 0

    def _words(self, current: str, before: list[str]) -> set[str]:
        """Return what `current` may become, behind the words `before`."""
        commands = self._known.to_dict()
        said = [word for word in before if not word.startswith("-")]
        command = next((word for word in said if word in commands or ":" in word), None)
        options = self._options(command, commands)
        if before and before[-1].startswith("-") and "=" not in before[-1]:
            taking = next((each for each in options if before[-1] in (f"--{each.long}", f"-{each.short}")), None)
            if taking is not None and taking.type is not bool:
                return _beginning(current, _choices(taking))
        if current.startswith("--") and "=" in current:
            name = current.partition("=")[0]
            some = [each for each in options if f"--{each.long}" == name]
            return _beginning(current, (f"{name}={choice}" for each in some for choice in _choices(each)))
        if current.startswith("-"):
            return _beginning(current, _written(options))
        return _beginning(current, self._names(command, commands, current))

    def _options(self, command: str | None, commands: Mapping[str, Any]) -> list[CmdOption]:
        """Return the options that may stand behind `command`: that of a name, or a task's, or none yet."""
        found: list[CmdOption] = []
        if command is not None and ":" in command:
            act = manual.acts().get(command.partition(":")[0])
            found += [CmdOption(dict(each)) for each in (act.params if act else ())]
        name = command if command is not None and command in commands else "run"
        found += commands[name](**self._more).cmdparser.options
        return found

    def _names(self, command: str | None, commands: Mapping[str, Any], current: str) -> Iterator[str]:
        images = _images()
        if command is None:
            yield from (name for name in commands if name not in manual.OF_DOIT)
            yield from images
        if command == "completion":
            yield from _SCRIPTS
        elif command in _OF_CATALOGUE:
            yield from _catalogue()
        elif command == "help":
            yield from commands
        if command in _IMAGES | _BOTH:
            yield from images
        if command is None or ":" in command or command in _ARTIFACTS | _BOTH | {"help"}:
            kind, colon, _ = current.partition(":")
            for each in (*KINDS, *manual.acts()):
                if not colon:
                    yield f"{each}:"
                elif each == kind:
                    yield from (f"{each}:{name}" for name, image in images.items() if _fits(each, image))


def _fits(kind: str, of: Kind) -> bool:
    return kind not in KINDS or kind in DERIVABLE[of]


def _beginning(current: str, words: Iterable[str]) -> set[str]:
    return {word for word in words if word.startswith(current)}


def _choices(option: CmdOption) -> list[str]:
    """Return what an option takes, if it says so; clone's formats are those of its help."""
    return [str(each) for each in option.choices]


def _written(options: Iterable[CmdOption]) -> Iterator[str]:
    for option in options:
        if option.long:
            yield f"--{option.long}" if option.type is bool or not option.choices else f"--{option.long}="


def _images() -> dict[str, Kind]:
    """Return the kinds of the images that count here, by name; nothing of a file that has something wrong in it."""
    from recipes import declare, settings

    try:
        said = os.environ.get("LARDER_IMAGES")
        path = settings.expand(said) if said else nearest(IMAGES, Path.cwd()) or settings.catalogue()
        return _kinds(declare.load(path).images)
    except (LarderError, OSError):
        return {}


def _catalogue() -> list[str]:
    from recipes.project import catalogue

    return list(catalogue.images())


def _kinds(images: Mapping[str, Mapping[Any, Image]]) -> dict[str, Kind]:
    return {name: next(iter(by_arch.values())).kind for name, by_arch in images.items()}
