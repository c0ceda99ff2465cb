"""Words on a command line that name nothing, and what they may have been meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doit.exceptions import InvalidCommand

from recipes.declare.images import COMMANDS
from recipes.kinds import IMAGES, KINDS
from recipes.project import catalogue, workspace
from recipes.wording import either, meant, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.project.workspace import Workspace

#: The groups of tasks, beside those of kinds, that are for an image each.
_ACTS = ("clone", "lima", "pull", "push", "resolve")
_REGISTRY = ("pull", "push")


def unknown(word: str, tasks: Iterable[str] = ()) -> InvalidCommand:
    """Return what to say of `word`, which is neither a task nor an image; `tasks` are those there are."""
    space = workspace.current()
    kind, colon, name = word.partition(":")
    if kind in _REGISTRY and space.remote is None:
        return InvalidCommand(
            f'{kind} takes a registry, and images.toml declares none: [cache], registry = "HOST/PATH"'
        )
    if not colon:
        return InvalidCommand(_bare(word, space, tasks))
    if kind not in KINDS and kind not in _ACTS:
        near = nearest(kind, (*KINDS, *_ACTS))
        similar = [f"{near}:{name}"] if near else tasks
        return InvalidCommand(f"{word}: there is no kind {kind}{meant(word, similar) or f'; there are {_kinds()}'}")
    if name in space.images:
        return InvalidCommand(f"{name} is a {IMAGES[space.images[name].kind]}: {kind} cannot be derived from it")
    if elsewhere := _of_another_arch(name, space):
        return InvalidCommand(elsewhere)
    return InvalidCommand(f"{word}: {undeclared(name, space, kind)}")


def undeclared(name: str, space: Workspace, kind: str = "") -> str:
    """Say that no image `name` is declared, and which may have been meant; for `kind` as a task."""
    if name in catalogue.images():
        return f"{space.settings.images.name} declares no image {name!r}; the catalogue has it: `larder add {name}`"
    near = nearest(name, space.declaration.images)
    hint = f"; did you mean {kind}:{near}?" if kind and near else f"; did you mean {near}?" if near else ""
    return f"{space.settings.images.name} declares no image {name!r}{hint}"


def _bare(word: str, space: Workspace, tasks: Iterable[str]) -> str:
    if elsewhere := _of_another_arch(word, space):
        return elsewhere
    if word in catalogue.images():
        return undeclared(word, space)
    known = {*COMMANDS, *KINDS, *space.declaration.images, *(each for each in tasks if ":" not in each)}
    hint = meant(word, known) or "; `larder list` shows what there is"
    return f"{word}: there is no such command, kind, image or task{hint}"


def _of_another_arch(name: str, space: Workspace) -> str | None:
    if name in space.images or name not in space.declaration.images:
        return None
    others = " and ".join(space.declaration.images[name])
    return f"{name} is not declared for {space.settings.arch}, only for {others}; LARDER_ARCH chooses"


def _kinds() -> str:
    return either(KINDS)
