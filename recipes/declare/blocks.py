"""The tables of one image in the text of images.toml: taken out, put in, copied; nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import DeclarationError

from . import tomlpos

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tomlpos import Path, Section


class Block(NamedTuple):
    """Whole lines of a text that belong together: offsets, the end exclusive."""

    start: int
    end: int


def of(text: str, name: str) -> str:
    """Return the tables of the image `name` with their comments; raise KeyError where there are none."""
    found = [text[block.start : block.end] for block in _blocks(text, ("images", name))]
    if not found:
        raise KeyError(name)
    return "".join(found)


def without(text: str, name: str) -> str:
    """Return `text` without the tables of the image `name`, their comments, and the blank lines after them.

    Raise DeclarationError where they are written in another way than as tables of their own.
    """
    wanted = tomlpos.loads(text)
    wanted["images"].pop(name)
    after = text
    for block in reversed(list(_blocks(text, ("images", name)))):
        before, rest = after[: block.start], after[block.end :]
        following = rest.lstrip(" \t\r\n")
        if following:
            # Blank lines before the next table: those that stood before this one are enough.
            rest = rest[_blank_lines(rest) :]
        else:
            kept = before.rstrip(" \t\r\n")
            before, rest = before[: len(kept) + _line_end(before[len(kept) :])], ""
        after = before + rest
    if _images(after) != wanted["images"]:
        raise DeclarationError(
            f"{name} is not declared by tables of its own, such as [{tomlpos.dotted(('images', name))}]",
            hint="take it out by hand",
        )
    return after


def added(text: str, block: str, name: str) -> str:
    """Return `text` with the tables `block` of the image `name`: after those that it has, else at the end.

    `block` has ``\\n`` at the end of each line; the text's own line ends are used.
    """
    line_end = "\r\n" if "\r\n" in text else "\n"
    block = block.rstrip("\n").replace("\n", line_end) + line_end
    present = list(_blocks(text, ("images", name)))
    at = present[-1].end if present else len(text)
    before, rest = text[:at], text[at:]
    if before and not before.endswith("\n"):
        before += line_end
    if before and not present:
        before += "" if before.endswith(line_end * 2) else line_end
    return before + block + rest


def _images(text: str) -> object:
    return tomlpos.loads(text).get("images", {})


def _blocks(text: str, path: Path) -> Iterator[Block]:
    """Yield the runs of tables at and below `path`, with the comments that stand directly before and after them."""
    run: list[Section] = []
    for section in [*tomlpos.sections(text), None]:
        if section is not None and section.path[: len(path)] == path:
            run.append(section)
        elif run:
            yield Block(_with_comments(text, run[0].start), _to_blank_line(text, run[-1].end))
            run = []


def _with_comments(text: str, start: int) -> int:
    """Return where the comments begin that stand directly before the line at `start`."""
    start = text.rfind("\n", 0, start) + 1
    while start:
        line = text.rfind("\n", 0, start - 1) + 1
        if not text[line:start].lstrip().startswith("#"):
            break
        start = line
    # What stands at the top of a file is about the file.
    return start if start or not text.lstrip().startswith("#") else _first_header(text)


def _first_header(text: str) -> int:
    return text.rfind("\n", 0, tomlpos.sections(text)[0].start) + 1


def _to_blank_line(text: str, end: int) -> int:
    """Return where the lines end that follow `end` and are not blank: the rest of its own, and comments."""
    at = _next_line(text, end)
    while text[at : _next_line(text, at)].lstrip(" \t").startswith("#"):
        at = _next_line(text, at)
    return at


def _next_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _blank_lines(text: str) -> int:
    """Return the length of the blank lines that `text` begins with."""
    at = 0
    while at < len(text) and not text[at : _next_line(text, at)].strip():
        at = _next_line(text, at)
    return at


def _line_end(text: str) -> int:
    return _next_line(text, 0) if text else 0
