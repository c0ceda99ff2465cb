"""What `larder help` prints: the screen with everything on it, and a page for each command, kind and act."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from doit.cmdparse import CmdOption

from recipes.kinds import DERIVABLE, IMAGES, KINDS
from recipes.wording import either

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from recipes.model import Image, Kind

_WIDTH = 79
#: Columns of what stands before an explanation, on the screen and in a table of options.
_NAME, _OPTION = 10, 24

#: What doit's options do, where its own words say less, or have another default; those of one command with its name.
_OF_DOIT: Mapping[str, str] = {
    "always": "make it again, whatever the cache holds",
    "backend": "what keeps doit's records (default: larder)",
    "clean.cleanall": "of every task",
    "clean.cleandep": "what it is made from, too",
    "clean.cleanforget": "forget what is recorded of it, too",
    "continue": "go on with what does not depend on a failure",
    "dep_file": "where doit's records are (default: doit.db in the cache)",
    "auto_delayed_regex": "take every target for one of any task that is created later",
    "check_file_uptodate": "how files of your own tasks are compared: md5 or timestamp (default: md5)",
    "cwdPath": "go to this folder for dodo.py's tasks (default: the folder that it is in)",
    "clean.dryrun": "delete nothing, say what would be done",
    "dodoFile": "tasks of this file (default: dodo.py, where there is one)",
    "forget.forget_all": "of every task",
    "forget.forget_disable_default": "without a name, nothing: not what images.toml has with prewarm = true",
    "forget.forget_sub": "of what it depends on, too",
    "info.hide_status": "leave out why it would run",
    "list.list_deps": "with the files that each task depends on",
    "failure_verbosity": "show again what failed tasks of your own printed: 1 their errors, 2 all (default: 0)",
    "num_process": "so many images at once (default: 0, one after the other)",
    "outfile": "write what the run says into this file",
    "pdb": "open Python's debugger where something fails",
    "seek_file": "look for dodo.py in the folders above too",
    "single": "only what is named, not what it depends on",
    "par_type": "how tasks run at once (default: thread)",
    "list.private": "tasks whose name begins with an underscore, too",
    "list.quiet": "names only",
    "reporter": "what the run says: console, json and zero are doit's (default: larder's)",
    "list.sort": "the order of tasks (default: name)",
    "list.status": "which tasks would run (R), are up to date (U) or ignored (I)",
    "list.subtasks": "a line for each task",
    "list.template": "how a line of a task is written: '{name} {doc}'",
    "verbosity": "what tasks of your own may print: 0 nothing, 1 errors, 2 all (default: 2)",
}
#: What the value of an option of doit's is, where that says no more than ARG.
_VALUES: Mapping[str, str] = {
    "backend": "NAME",
    "check_file_uptodate": "HOW",
    "cwdPath": "DIR",
    "dep_file": "FILE",
    "dodoFile": "FILE",
    "failure_verbosity": "LEVEL",
    "num_process": "N",
    "outfile": "FILE",
    "par_type": "HOW",
    "reporter": "NAME",
    "shell": "SHELL",
    "sort": "ORDER",
    "template": "TEXT",
    "verbosity": "LEVEL",
}
#: Sections of options that every command has, in the order that they are shown in.
_SECTIONS: Mapping[str, str] = {
    "": "Options",
    "larder": "Options of larder",
    "task loader": "Options of doit",
    "DB backend": "Options of doit",
    "doit core": "Options of doit",
}


class Act(NamedTuple):
    """Something that is done with artifacts of an image, by a task of its name."""

    name: str
    purpose: str
    usage: str
    text: str
    params: tuple[dict[str, Any], ...] = ()
    examples: tuple[str, ...] = ()


def acts() -> dict[str, Act]:
    """Return what there is besides kinds that takes an image, by name."""
    from recipes.graph.tasks import clone, lima, registry

    found = (
        Act(
            "clone",
            "an instance's own copy of an artifact",
            "clone:IMAGE --to PATH [OPTION ...]",
            "Makes the artifact where it is not there, and then the copy: by a reflink where the file system has them, "
            "else by a copy that keeps the holes. The cached file stays as it is.",
            clone.PARAMS,
            (
                "clone:ubuntu-24.04 --to vm/disk.raw --size 40G",
                "clone:ubuntu-24.04 --to vm/disk.qcow2 --format qcow2",
            ),
        ),
        Act(
            "lima",
            "the image in Lima's own download cache",
            "lima:IMAGE [OPTION ...]",
            "Puts the image where limactl looks for downloads, under every url of the declaration.",
            lima.PARAMS,
            ("lima:ubuntu-24.04", "lima:ubuntu-24.04 --template"),
        ),
        Act(
            "push",
            "artifacts to the registry that images.toml names",
            "push:IMAGE [OPTION ...]",
            'Shares artifacts through the OCI registry of [cache], registry = "HOST/PATH". Credentials are docker\'s.',
            registry.PARAMS,
            ("push:ubuntu-24.04 --kind raw",),
        ),
        Act(
            "pull",
            "what that registry has, in place of making it",
            "pull:IMAGE",
            "Every run pulls by itself what it lacks; this asks for what `derive` lists.",
        ),
        Act(
            "resolve",
            "what upstream serves of an image now: url, digest, size",
            "resolve:IMAGE",
            "Every run does it for what it makes. Upstream's list is asked for at most once an hour, unless --fresh.",
        ),
    )
    return {act.name: act for act in found}


# The screen ---------------------------------------------------------------------------------------------------------

_HEAD = """\
larder {version}: disk images for virtual machines and containers, converted once, cached, cloned.

  larder KIND:IMAGE ...   make an artifact and keep it      larder IMAGE   what images.toml says of it
  larder COMMAND ...      look at the cache, tidy it        larder         all with prewarm = true
"""
#: What each does, and the words behind `larder`; the screen has room for the words only.
EXAMPLES = (
    ("A disk that comes along, as a sparse RAW disk", "raw:demo"),
    ("A disk of its own for a virtual machine", "clone:ubuntu-24.04 --to vm/disk.raw --size 40G"),
    ("A project with two images of the catalogue", "init ubuntu-24.04 debian-13"),
)
_TAIL = """\
Options: --arch ARCH, --cache DIR, --images FILE, --offline; of a run: -n 4 at once, -c go on, -a anew.
Examples
{examples}
`larder help WORD` says all about a kind or a command, `larder help KIND:IMAGE` what to do with an artifact."""
#: The commands, the most wanted first; others follow by name.
_FIRST = (
    "list",
    "init",
    "add",
    "remove",
    "search",
    "status",
    "plan",
    "path",
    "verify",
    "prune",
    "update",
    "keys",
    "convert",
)

#: Those of doit's that work, and are for whoever writes a dodo.py.
OF_DOIT = ("dumpdb", "reset-dep", "strace", "tabcompletion")
#: Those, and what is on the screen otherwise.
_UNSEEN = (*OF_DOIT, "completion", "help", "run")


def screen(commands: Mapping[str, Any], version: str) -> str:
    """Return larder's own help, which fits on one screen; `commands` are classes by name."""
    lines = [_HEAD.format(version=version), "Kinds"]
    lines += [_row(kind, _small(row.group)) for kind, row in KINDS.items()]
    lines += [_row(act.name, act.purpose) for act in acts().values() if act.name in ("clone", "lima", "push")]
    lines += ["", "Commands"]
    lines += [_row(name, commands[name].doc_purpose) for name in ordered(commands) if name not in _UNSEEN]
    examples = "\n".join(f"  larder {words}" for _, words in EXAMPLES)
    return "\n".join([*lines, "", _TAIL.format(examples=examples)])


def ordered(commands: Iterable[str]) -> list[str]:
    """Return the names of commands, the most wanted first."""
    names = set(commands)
    first = [name for name in _FIRST if name in names]
    return [*first, *sorted(names - set(first))]


def _row(name: str, text: str) -> str:
    return f"  {name:<{_NAME}} {text}"


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].removesuffix(".")


# Pages --------------------------------------------------------------------------------------------------------------


def of_command(command: Any) -> str:
    """Return the page of a command."""
    usage = " ".join(filter(None, (command.bin_name, command.name, command.doc_usage)))
    lines = [usage, "", *_wrapped(_sentence(command.doc_purpose))]
    if command.doc_description:
        lines += ["", *_paragraphs(command.doc_description)]
    return "\n".join([*lines, *options(command.cmdparser.options, mine=command.name)])


def of_word(word: str, program: str) -> str | None:
    """Return the page of a kind or an act; None where `word` is neither."""
    if word in KINDS:
        return of_kind(word, program)
    act = acts().get(word)
    return of_act(act, program) if act else None


def of_kind(kind: str, program: str) -> str:
    """Return the page of a kind of artifact."""
    row = KINDS[kind]
    lines = [f"{program} {kind}:IMAGE ...", "", *_wrapped(row.group)]
    lines += [f"  of a {IMAGES[image]}: {_origin(made)}" for image, made in _made_from(kind)]
    lines += ["", *row.clients.format(path="PATH", image="IMAGE", reference="localhost/IMAGE").strip("\n").split("\n")]
    lines += ["", f"PATH is what `{program} path {kind}:IMAGE` prints. `{program} {kind}` makes it of every image."]
    lines += [f"`{program} help run` has the options of a run."]
    return "\n".join(lines)


def _made_from(kind: str) -> Iterator[tuple[Kind, str | None]]:
    for image, kinds in DERIVABLE.items():
        if kind in kinds:
            yield image, kinds[kind]


def _origin(made_from: str | None) -> str:
    return f"made from its {made_from}" if made_from else "what is downloaded"


def of_image(image: Image, program: str) -> str:
    """Return the page of an image."""
    kinds = list(DERIVABLE[image.kind])
    lines = [f"{program} {image.name}", ""]
    lines += [f"{image.title or image.name}, a {IMAGES[image.kind]} for {image.arch}."]
    asked = " ".join(f"{kind}:{image.name}" for kind in image.derive)
    lines += [f"Makes {asked}, as images.toml says." if asked else "images.toml asks for nothing of it."]
    lines += ["", "What can be made of it", *_wrapped("  " + " ".join(f"{kind}:{image.name}" for kind in kinds))]
    return "\n".join(lines)


def of_act(act: Act, program: str) -> str:
    """Return the page of an act."""
    lines = [f"{program} {act.usage}", "", *_wrapped(_sentence(act.purpose)), "", *_wrapped(act.text)]
    lines += options(act_options(act), mine=act.name)
    if act.examples:
        lines += ["", "Examples", *(f"  {program} {each}" for each in act.examples)]
    return "\n".join(lines)


def act_options(act: Act) -> list[CmdOption]:
    """Return the options of an act."""
    return [CmdOption(param) for param in act.params]


def options(found: Iterable[CmdOption], mine: str) -> list[str]:
    """Return the table of options, those of the command `mine` first."""
    tables = sections(found, mine)
    return [
        line
        for title, some in tables.items()
        if some
        for line in ("", title, *(line for option in some for line in _option(option)))
    ]


def sections(found: Iterable[CmdOption], mine: str) -> dict[str, list[CmdOption]]:
    """Return the options that can be typed, by the title of their section, those of the command `mine` first."""
    tables: dict[str, list[CmdOption]] = {title: [] for title in _SECTIONS.values()}
    for option in found:
        if option.short or option.long:
            section = "" if option.section == mine else option.section
            tables[_SECTIONS.get(section, "Options of doit")].append(option)
    return tables


def explained(option: CmdOption) -> tuple[str, str]:
    """Return how an option is written, and what it does, with its choices and its default."""
    text = (
        _OF_DOIT.get(f"{option.section}.{option.name}")
        or _OF_DOIT.get(option.name)
        or " ".join((option.help % {"default": option.default}).split())
    )
    if option.choices and not all(name in text for name in map(str, option.choices)):
        text += f": {either(map(str, option.choices))}"
    if isinstance(option.default, (str, int)) and option.default not in ("", False) and "default" not in text:
        text += f" (default: {option.default})"
    return option.help_param().replace("ARG", _VALUES.get(option.name, "ARG")), text


def _option(option: CmdOption) -> list[str]:
    names, text = explained(option)
    lines = textwrap.wrap(text, _WIDTH - _OPTION - 4)
    if len(names) > _OPTION:
        return [f"  {names}", *(f"  {'':<{_OPTION}}  {line}" for line in lines)]
    first, *rest = lines or [""]
    return [f"  {names:<{_OPTION}}  {first}".rstrip(), *(f"  {'':<{_OPTION}}  {line}" for line in rest)]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH)


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of `text`, each wrapped; lines that are indented stay as they are."""
    lines: list[str] = []
    for paragraph in text.strip("\n").split("\n\n"):
        own = paragraph.split("\n")
        lines += own if any(line.startswith(" ") for line in own) else _wrapped(" ".join(own))
        lines.append("")
    return lines[:-1]
