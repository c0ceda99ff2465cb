"""larder(1) and images.toml(5)."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
import tomllib
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from recipes import __version__
from recipes.graph.commands import manual
from recipes.graph.program import Loader, Program
from recipes.kinds import DERIVABLE, IMAGES, KINDS

from . import roff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[1]
_PROGRAM = Program.BIN_NAME
#: What whoever reads the page may look for next.
_SEE_ALSO = "doit(1), qemu-img(1), qemu-system-x86_64(1), limactl(1), podman-load(1), skopeo-copy(1), gpgv(1)"


def pages() -> dict[str, str]:
    """Return the pages, by their names below share/man."""
    return {"man1/larder.1": _larder(), "man5/images.toml.5": _images_toml()}


def write(folder: Path) -> dict[Path, str]:
    """Write the pages into `folder`; return where each is, and its name below share/man."""
    written = {}
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
        written[path] = name
    return written


@cache
def _page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def _head(title: str, section: int, purpose: str) -> list[str]:
    # Who builds the same twice says when: https://reproducible-builds.org/specs/source-date-epoch/
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))
    name = title.lower()
    return [
        f'.TH "{title}" "{section}" "{day}" "larder {__version__}"',
        roff.heading("name"),
        f"{roff.escaped(name)} \\- {roff.escaped(purpose)}",
    ]


# larder(1) -----------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Return a command of each name that pyproject.toml declares, the most wanted first.

    Not those that are installed: where the wheel is built larder is not.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, Any] = {}
    # What `help` asks for is the commands, which it does not need for its own page.
    nothing = SimpleNamespace(to_dict=dict)
    for name, place in project["entry-points"]["doit.COMMAND"].items():
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        found[name] = command(task_loader=Loader(), config={}, bin_name=_PROGRAM, cmds=nothing)
    return {name: found[name] for name in manual.ordered(found)}


def _larder() -> str:
    lines = [
        *_head("LARDER", 1, "disk images for virtual machines and containers, converted once, cached, cloned"),
        roff.heading("synopsis"),
        *_synopsis(),
        roff.heading("description"),
        *roff.markdown(roff.body(_page("index")).split("\n## ")[0]),
        ".PP",
        "Which images there are is said by",
        *roff.markdown(_numbered(_page("project"))),
        roff.heading("kinds"),
        *_kinds(),
        roff.heading("tasks"),
        *_acts(),
        roff.heading("commands"),
    ]
    found = commands()
    for name, command in found.items():
        lines += [] if name in manual.OF_DOIT else _command(name, command)
    also = ", ".join(roff.bold(name) for name in manual.OF_DOIT)
    lines += [".PP", f"doit's own {also} work as well, for whoever writes a dodo.py."]
    lines += [roff.heading("options")]
    for title, options in manual.sections(found["run"].cmdparser.options, mine="run").items():
        lines += [f".SS {'Options of a run' if title == 'Options' else title}", *_options(options)]
    lines += [
        roff.heading("environment"),
        *roff.markdown(roff.section(_page("commands"), "Environment")),
        roff.heading("files"),
        *roff.definition(roff.bold("images.toml"), f"what a project declares; see {roff.bold('images.toml')}(5)"),
        *roff.definition(roff.bold("dodo.py"), "tasks of a project's own, beside it"),
        *roff.definition("the cache", "as LARDER_CACHE says, else larder in the platform's folder for caches:"),
        *roff.markdown(roff.body(_page("cache")).split("\n## ")[0]),
        roff.heading("exit status"),
        *roff.markdown(roff.body(_page("exit-statuses"))),
        roff.heading("examples"),
        *_examples(),
        roff.heading("see also"),
        f"{roff.bold('images.toml')}(5), {roff.escaped(_SEE_ALSO)}",
    ]
    return roff.finished(lines)


def _synopsis() -> Iterator[str]:
    for number, usage in enumerate(
        ("[OPTION ...] [KIND:IMAGE | IMAGE | KIND | TASK ...]", "COMMAND [OPTION ...] [WORD ...]")
    ):
        yield from [".br"] if number else []
        yield f"{roff.bold(_PROGRAM)} {roff.escaped(usage)}"


def _numbered(page: str) -> str:
    """Return the first numbered list of a page."""
    match = re.search(r"(?m)^1\. (?:.+\n)+", page)
    assert match, "docs/project.md says which images.toml counts"
    return match[0]


def _kinds() -> Iterator[str]:
    yield from (
        ".PP",
        f"{roff.bold(f'{_PROGRAM} KIND:IMAGE')} makes one, {roff.bold(f'{_PROGRAM} KIND')} that of every image,",
    )
    yield f"{roff.bold(f'{_PROGRAM} IMAGE')} what images.toml says of it."
    for kind, row in KINDS.items():
        yield from roff.definition(roff.bold(f"{kind}:IMAGE"), roff.escaped(f"{row.group} {_origin(kind)}"))


def _origin(kind: str) -> str:
    """Say what a kind is made from, in as few words as tell the kinds of images apart."""
    images: dict[str | None, list[str]] = {}
    for image, made_from in DERIVABLE.items():
        if kind in made_from:
            images.setdefault(made_from[kind], []).append(f"a {IMAGES[image]}")
    if None in images:
        return ""
    of_all = len(images) == 1 and sum(map(len, images.values())) == len(DERIVABLE)
    parts = (f"its {made_from}" + ("" if of_all else f" of {' or '.join(some)}") for made_from, some in images.items())
    return f"Made from {', '.join(parts)}."


def _acts() -> Iterator[str]:
    for act in manual.acts().values():
        yield f".SS {roff.escaped(f'{_PROGRAM} {act.usage}')}"
        yield from (".PP", roff.inline(f"{act.purpose[:1].upper()}{act.purpose[1:]}. {act.text}"))
        yield from _options(manual.act_options(act))


def _command(name: str, command: Any) -> Iterator[str]:
    usage = " ".join(filter(None, (_PROGRAM, name, command.doc_usage)))
    yield f".SS {roff.escaped(usage)}"
    purpose = command.doc_purpose
    yield from (".PP", roff.inline(f"{purpose[:1].upper()}{purpose[1:].removesuffix('.')}."))
    yield from _paragraphs(command.doc_description or "")
    own = manual.sections(command.cmdparser.options, mine=name)["Options"]
    if name == "run":
        yield from (".PP", "Its options are below.")
    else:
        yield from _options(own)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a description as help has it; what is indented stays as it is."""
    for paragraph in filter(None, text.strip("\n").split("\n\n")):
        lines = paragraph.split("\n")
        if any(line.startswith(" ") for line in lines):
            yield from roff.verbatim(lines)
        else:
            yield from (".PP", roff.inline(" ".join(lines)))


def _options(options: Iterable[Any]) -> Iterator[str]:
    for option in options:
        names, text = manual.explained(option)
        yield from roff.definition(roff.bold(names), roff.inline(text))


def _examples() -> Iterator[str]:
    for text, command in manual.EXAMPLES:
        yield from (".PP", f"{roff.escaped(text)}:", *roff.verbatim([f"{_PROGRAM} {command}"])[1:])


# images.toml(5) ------------------------------------------------------------------------------------------------------


def _images_toml() -> str:
    schema = json.loads((ROOT / "schema" / "images.schema.json").read_text(encoding="utf-8"))
    tables = schema["properties"]
    image = tables["images"]["patternProperties"]["."]
    page, upstream = _page("images-toml"), _page("upstream")
    lines = [
        *_head("IMAGES.TOML", 5, "the disk images that a project uses, where they come from, and what is made of them"),
        roff.heading("description"),
        ".PP",
        f"{roff.escaped(schema['description'])} It is TOML, and read by {roff.bold('larder')}(1).",
        *roff.markdown(_after_tables(page)),
        roff.heading("example"),
        *roff.markdown(_block(page)),
        roff.heading("keys"),
        ".SS [cache]",
        *_keys(tables["cache"], schema),
        ".SS [mirrors]",
        *(".PP", roff.inline(tables["mirrors"]["description"])),
        ".SS [images.NAME]",
        *(".PP", roff.inline(image["description"])),
        *_keys(image, schema),
        ".SS [images.NAME.ARCH]",
        *(".PP", roff.inline(schema["definitions"]["source"]["description"])),
        *_keys(schema["definitions"]["source"], schema),
        roff.heading("following upstream"),
        *roff.markdown(roff.body(upstream)),
        roff.heading("see also"),
        f"{roff.bold('larder')}(1)",
    ]
    return roff.finished(lines)


def _block(page: str) -> str:
    match = re.search(r"(?ms)^```toml\n.*?^```$", page)
    assert match, "docs/images-toml.md begins with an example"
    return match[0]


def _after_tables(page: str) -> str:
    """Return what a page says below its table of keys."""
    return page.rpartition("\n| ")[2].partition("\n")[2]


def _keys(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    arches = []
    for key, value in schema["properties"].items():
        if "$ref" in value:
            arches.append(key)
            continue
        more = []
        if values := value.get("enum") or value.get("items", {}).get("enum"):
            more.append(f"One of {', '.join(values)}." if value["type"] != "array" else f"Of {', '.join(values)}.")
        if examples := value.get("examples"):
            more.append("Such as " + ", ".join(f"`{json.dumps(each)}`" for each in examples) + ".")
        yield from roff.definition(roff.bold(key), *map(roff.inline, (value["description"], *more)))
    if arches:
        source = whole["definitions"]["source"]["title"].lower()
        yield from roff.definition(
            ", ".join(map(roff.bold, arches)), f"The {source} for that machine, a table of its own."
        )
