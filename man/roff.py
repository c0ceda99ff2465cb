r"""Markdown, as docs/ has it, and plain text as man(7) of groff and mandoc.

Of Markdown there is what the pages use: headings, paragraphs, bullets, numbered items, tables, fenced blocks, and in a
line code, emphasis and links. What else there is would stand on the page as it is written.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDTH = 79

#: What groff shows as something else than it is (groff_char(7), "Fundamental character set").
_CHARACTERS = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
#: In a paragraph a hyphen may stay one: a line may break there.
_PROSE = _CHARACTERS | {"-": "-", "'": "'"}

_INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|(?<![\w*/-])\*(?P<emphasis>[^*`\s][^*`]*)\*"
    r"|\[(?P<text>(?:[^\[\]]|`[^`]*`)+)\]\((?P<url>[^)\s]+)\)"
)
_FENCE = re.compile(r"^```")
_ITEM = re.compile(r"^(?:\* |(\d+)\. )")


def escaped(text: str, characters: dict[str, str] = _PROSE) -> str:
    """Return `text` as roff shows it within a line."""
    return "".join(characters.get(each, each) if ord(each) < 128 else f"\\[u{ord(each):04X}]" for each in text)


def _begun(line: str) -> str:
    """Return a line of text that is no request, whatever it begins with."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def bold(text: str) -> str:
    """Return `text`, which is typed as it stands, in bold."""
    return f"\\fB{escaped(text, _CHARACTERS)}\\fR"


def inline(text: str) -> str:
    """Return a line of Markdown."""
    parts, end = [], 0
    for match in _INLINE.finditer(text):
        parts.append(escaped(text[end : match.start()]))
        end = match.end()
        if match["code"]:
            parts.append(bold(match["code"]))
        elif match["strong"]:
            parts.append(f"\\fB{inline(match['strong'])}\\fR")
        elif match["emphasis"]:
            parts.append(f"\\fI{inline(match['emphasis'])}\\fR")
        else:
            parts.append(inline(match["text"]))
            # Another page is no address for who reads this one.
            parts.append(f" ({escaped(match['url'])})" if "://" in match["url"] else "")
    return _begun("".join([*parts, escaped(text[end:])]))


def verbatim(lines: Iterable[str]) -> list[str]:
    """Return lines that stay as they are, indented."""
    shown = [_begun(escaped(line, _CHARACTERS)) for line in lines]
    while shown and not shown[-1]:
        shown.pop()
    # What separates lines in such a block is a line with nothing that is seen: empty ones are frowned on.
    return [".PP", ".RS 4", ".nf", *(line or "\\&" for line in shown), ".fi", ".RE"]


def definition(term: str, *explained: str) -> list[str]:
    """Return a term, which is roff, and the paragraphs, which are roff too, that explain it."""
    first, *more = explained or ("",)
    lines = [".TP", term, first or "\\&"]
    for each in more:
        lines += [".IP", each]
    return lines


def heading(text: str) -> str:
    """Return the heading of a section."""
    return f'.SH "{escaped(text.upper())}"'


def finished(lines: Iterable[str]) -> str:
    """Return lines as a page: no text longer than `_WIDTH`, and no paragraph where a heading begins one."""
    found: list[str] = []
    filled = True
    for line in lines:
        filled = {".nf": False, ".fi": True}.get(line, filled)
        if line == ".PP" and found and found[-1].startswith((".SH", ".SS")):
            continue
        if filled and not line.startswith("."):
            found += _wrapped(line)
        else:
            found.append(line)
    return "\n".join(found) + "\n"


def _wrapped(line: str) -> list[str]:
    """Return a line of text as several, each sentence on its own, as man-pages(7) wants it."""
    wrapped: list[str] = []
    for sentence in re.split(r"(?<=[a-z)][.!?]) (?=\S)", line):
        wrapped += textwrap.wrap(sentence, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [_begun(each) for each in wrapped]


def markdown(text: str) -> list[str]:
    """Return a page of Markdown, or a part of one; its headings are those of subsections."""
    lines: list[str] = []
    left = re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL).strip("\n").split("\n")
    while left:
        line = left.pop(0)
        if _FENCE.match(line):
            lines += verbatim(_taken(left, until=_FENCE))
            del left[:1]
        elif line.startswith("#"):
            lines.append(f'.SS "{inline(line.lstrip("# "))}"')
        elif line.startswith("|"):
            lines += _table([line, *_taken(left, until=re.compile(r"^(?!\|)"))])
        elif item := _ITEM.match(line):
            whole = " ".join([line[item.end() :], *(each.strip() for each in _taken(left, until=_NO_MORE))])
            mark = f"{item[1]}." if item[1] else "\\(bu"
            lines += [f".IP {mark} 4", inline(whole)]
        elif line.strip():
            whole = " ".join([line, *_taken(left, until=_PARAGRAPH)])
            lines += [".PP", inline(whole)]
    return lines


#: Where an item ends: at the next one, at an empty line, or where nothing is indented any more.
_NO_MORE = re.compile(r"^(?! +\S)")
_PARAGRAPH = re.compile(r"^(?:\s*$|```|\||#|\* |\d+\. )")


def _taken(left: list[str], until: re.Pattern[str]) -> list[str]:
    """Take lines off `left` up to the one that `until` matches, and return them."""
    found = []
    while left and not until.match(left[0]):
        found.append(left.pop(0))
    return found


def rows(table: Sequence[str]) -> list[list[str]]:
    """Return the cells of a table of Markdown, without its head; ``\\|`` is no border."""
    cells = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table[2:]]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in cells]


def _table(table: Sequence[str]) -> list[str]:
    """Return a table as definitions of what its first column has: a terminal has no room for columns."""
    lines = []
    for first, *rest in rows(table):
        lines += definition(inline(first), *[inline(cell) for cell in rest if cell])
    return lines


def section(text: str, title: str) -> str:
    """Return what a page of Markdown has below the heading `title`, up to the next one of its level or above."""
    match = re.search(rf"(?ms)^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text)
    if not match:
        raise LookupError(f"there is no heading {title!r}")
    return match[2]


def body(text: str) -> str:
    """Return a page of Markdown without its own heading."""
    return re.sub(r"\A# .*\n", "", text)
