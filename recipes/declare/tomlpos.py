"""TOML with line and column.

tomllib reads the document; this module says where things stand in it. tomllib gives positions for syntax errors only,
and for a key or table that is defined twice it gives the position after it, often "end of document". The scanner below
knows just enough of the grammar (TOML 1.0.0: keys, strings, comments, brackets) to follow a document that tomllib has
read, or the part of it that tomllib read before it stopped. It costs more than tomllib itself, so it is for documents
about which there is something to say.

Lines and columns count from 1, columns in characters.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: Characters of the longest document, and parts of the longest dotted key in it.
MAX_SIZE = 1 << 20
MAX_PARTS = 1000

#: Keys and, in arrays, indexes from the top of the document; an array of tables counts as an array.
Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_KEY_PART = re.compile(rf"{_BARE_KEY.pattern}|{_BASIC_STRING}|'[^']*'")
_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
# A multi-line string may end in up to five quotes, of which three delimit and the others belong to it. The possessive
# quantifiers keep a string that never ends from being tried again from every character of it.
_STRINGS = {
    '"""': re.compile(r'"""(?:[^"\\]++|\\.|"(?!""))*+"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']++|'(?!''))*+'{3,5}"),
    '"': re.compile(_BASIC_STRING),
    "'": re.compile(r"'[^']*'"),
}
_SCALAR = re.compile(r"[^,\]}#\n]*[^\s,\]}#]")
_OPENING = {"[": "array", "{": "inline table", '"': "string", "'": "string"}
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
# What tomllib says where a key or table is defined twice, or extended where it may not be.
_TWICE = re.compile(r"Cannot (?:overwrite|declare|redefine|mutate)|Duplicate inline table key")


class Position(NamedTuple):
    """A place in a document; sorts in reading order."""

    line: int
    column: int


class TomlError(ValueError):
    """The document is not TOML."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message


class Positions:
    """Where every key and value of a document stands; raises KeyError for a path that is not in it.

    A table that a header opens stands at the last part of its name there, as key and as value; one that is opened only
    on the way to another stands where it is named first.
    """

    def __init__(self, text: str) -> None:
        text = _unix(text)
        self._nodes = _Scanner(text).nodes
        self._lines = _line_starts(text)

    def key(self, path: Path) -> Position:
        """Return where the key of `path` stands; of an array's element, where the element itself does."""
        return _position(self._lines, self._nodes[path].key)

    def value(self, path: Path) -> Position:
        """Return where the value of `path` begins."""
        return _position(self._lines, self._nodes[path].value)


class Span(NamedTuple):
    """Where a key/value pair, or an element of an array, stands: offsets in the text, the ends exclusive."""

    #: The first part of the key, where it is dotted; of an element, the element itself.
    start: int
    value: int
    end: int


def spans(text: str) -> dict[Path, Span]:
    """Return where each key/value pair and each element of an array stands in a document that `loads` reads."""
    original = _original(text)
    nodes = _Scanner(_unix(text)).nodes
    return {path: Span(*map(original, node.span)) for path, node in nodes.items() if node.span}


class Section(NamedTuple):
    """A header and the pairs under it: offsets in the text."""

    path: Path
    #: The bracket of the header.
    start: int
    #: Where the header, or the last pair under it, ends.
    end: int


def sections(text: str) -> list[Section]:
    """Return the headers of a document that `loads` reads, in their order."""
    original = _original(text)
    scanner = _Scanner(_unix(text))
    return [Section(path, original(start), original(end)) for path, start, end in scanner.sections]


def _original(text: str) -> Callable[[int], int]:
    """Return what makes an offset in `text` of one that the scanner has: as tomllib, it counts no CR of a CRLF."""
    returns = [match.start() - index for index, match in enumerate(re.finditer("\r\n", text))]
    return lambda offset: offset + bisect_left(returns, offset)


def loads(text: str) -> dict[str, Any]:
    """Read a document as tomllib does; raise `TomlError` with the right position where it is not TOML.

    Also where it is larger than `MAX_SIZE`, or has keys of more than `MAX_PARTS` parts: tomllib takes the square of
    that in time, and `Positions` in memory.
    """
    if len(text) > MAX_SIZE:
        raise TomlError(Position(1, 1), f"the document has {len(text)} characters, and {MAX_SIZE} are allowed")
    for number, line in enumerate(text.split("\n"), 1):
        # Between two equals signs stands all of a key, and a string with as many dots is none that anybody wrote.
        if line.count(".") > MAX_PARTS and any(part.count(".") > MAX_PARTS for part in line.split("=")):
            raise TomlError(Position(number, 1), f"a key has at most {MAX_PARTS} parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _explain(_unix(text), str(error)) from None
    except RecursionError:
        raise TomlError(Position(1, 1), "nested too deeply") from None
    except ValueError:
        # Python reads no integer of more than 4300 digits (sys.set_int_max_str_digits).
        text = _unix(text)
        digits = re.search(r"[0-9_]{4300,}", text)
        where = _position(_line_starts(text), digits.start() if digits else 0)
        raise TomlError(where, "an integer has more digits than fit") from None


def dotted(path: Path) -> str:
    """Return `path` as TOML writes it: ``images."ubuntu-24.04".derive[1]``, quoted where a bare key could not be."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _unix(text: str) -> str:
    # As tomllib does before it counts; a lone CR is an error to it.
    return text.replace("\r\n", "\n")


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _position(lines: list[int], offset: int) -> Position:
    line = bisect_right(lines, offset)
    return Position(line, offset - lines[line - 1] + 1)


def _explain(text: str, said: str) -> TomlError:
    """Turn what tomllib `said` of `text` into an error that stands where its cause is."""
    lines = _line_starts(text)
    where = _WHERE.search(said)
    message = _WHERE.sub("", said)
    offset = len(text)
    if where and where[1]:
        offset = lines[int(where[1]) - 1] + int(where[2]) - 1
    # tomllib stops right after what it objects to, so in the text up to there that is what stands last.
    scanner = _Scanner(text[:offset])
    if _TWICE.match(message) and scanner.last:
        return TomlError(_position(lines, scanner.last.key), _twice(scanner, lines))
    ends_early = offset == len(text) or message.endswith(repr("\n"))
    if ends_early and scanner.open and (opened := _OPENING.get(text[scanner.open[-1] :][:1])):
        return TomlError(_position(lines, scanner.open[-1]), f"the {opened} that begins here is never closed")
    return TomlError(_position(lines, offset), message)


def _twice(scanner: _Scanner, lines: list[int]) -> str:
    assert scanner.last
    path, start, _, earlier = scanner.last
    if earlier is not None:
        return f"{dotted(path)}: already defined in line {_position(lines, earlier).line}"
    above = next(
        path[:end]
        for end in range(len(path) - 1, 0, -1)
        if path[:end] in scanner.nodes and scanner.nodes[path[:end]].key < start
    )
    line = _position(lines, scanner.nodes[above].key).line
    return f"{dotted(path)}: {dotted(above)} is complete since line {line} and cannot be extended"


class _Node(NamedTuple):
    """Offsets of a key and its value."""

    key: int
    value: int
    #: None of a table that is not a value.
    span: Span | None = None


class _Definition(NamedTuple):
    path: Path
    #: Offset of the key's first part, where the key is dotted.
    start: int
    #: Offset of the key's last part.
    key: int
    #: Offset of the key where the same path was defined before.
    earlier: int | None


class _End(Exception):
    """The text ends within a statement."""


class _Scanner:
    """One walk over a text of which tomllib read every statement, the last one perhaps in part."""

    def __init__(self, text: str) -> None:
        self.nodes: dict[Path, _Node] = {(): _Node(0, 0)}
        #: The header or key/value pair that was complete last.
        self.last: _Definition | None = None
        #: Offsets of the values within which the text ends, outermost first.
        self.open: list[int] = []
        #: The headers, each with the offset of its bracket, and that after the last pair under it.
        self.sections: list[tuple[Path, int, int]] = []
        self._text = text
        self._at = 0
        #: Array of tables -> index of its last element.
        self._arrays: dict[Path, int] = {}
        self._explicit: set[Path] = set()
        self._walk()

    def _walk(self) -> None:
        table: Path = ()
        try:
            while True:
                self._skip(_BLANK_LINES)
                if self._at == len(self._text):
                    return
                start = self._at
                if self._text.startswith("[", self._at):
                    table = self._header()
                    self.sections.append((table, start, self._at))
                else:
                    self._pair(table)
                    if self.sections:
                        self.sections[-1] = (*self.sections[-1][:2], self._at)
        except _End:
            return

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        if not match:
            raise _End
        self._at = match.end()
        return match.start()

    def _take(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _key(self) -> list[tuple[str, int]]:
        """Read a key, perhaps dotted: its parts, each with its offset."""
        parts = []
        while True:
            self._skip(_BLANK)
            start = self._skip(_KEY_PART)
            part = self._text[start : self._at]
            if part[0] == "'" or (part[0] == '"' and "\\" not in part):
                part = part[1:-1]
            elif part[0] == '"':
                part = tomllib.loads(f"key = {part}")["key"]
            parts.append((part, start))
            self._skip(_BLANK)
            if not self._take("."):
                return parts

    def _header(self) -> Path:
        element = self._take("[[")
        if not element:
            self._take("[")
        parts = self._key()
        path: Path = ()
        for part, offset in parts[:-1]:
            path += (part,)
            self.nodes.setdefault(path, _Node(offset, offset))
            if path in self._arrays:
                path += (self._arrays[path],)
        part, offset = parts[-1]
        path += (part,)
        if element:
            self.nodes.setdefault(path, _Node(offset, offset))
            self._arrays[path] = self._arrays.get(path, -1) + 1
            path += (self._arrays[path],)
        self._define(path, parts, offset)
        self._take("]")
        self._take("]")
        return path

    def _pair(self, table: Path) -> None:
        parts = self._key()
        if not self._take("="):
            raise _End
        self._skip(_BLANK)
        path = table
        for part, offset in parts[:-1]:
            path += (part,)
            self.nodes.setdefault(path, _Node(offset, offset))
        part, offset = parts[-1]
        path += (part,)
        value = self._at
        # A duplicate inside the value must not hide behind this pair, so it is defined once the value is read.
        self._value(path)
        self._define(path, parts, value, Span(parts[0][1], value, self._at))

    def _define(self, path: Path, parts: list[tuple[str, int]], value: int, span: Span | None = None) -> None:
        key = parts[-1][1]
        earlier = self.nodes.get(path)
        self.last = _Definition(path, parts[0][1], key, earlier.key if earlier else None)
        if path not in self._explicit:
            self.nodes[path] = _Node(key, value, span)
            self._explicit.add(path)

    def _value(self, path: Path) -> None:
        # One frame a level: tomllib takes two, so what it could read does not exhaust the stack here.
        self.open.append(self._at)
        if self._take("["):
            index = 0
            while not self._closed("]"):
                element = (*path, index)
                start = self._at
                # Known before its value is read, in which the text may end.
                node = self.nodes.setdefault(element, _Node(start, start))
                self._value(element)
                if node.key == start:
                    self.nodes[element] = node._replace(span=Span(start, start, self._at))
                index += 1
        elif self._take("{"):
            while not self._closed("}"):
                self._pair(path)
        else:
            self._skip(next((p for quote, p in _STRINGS.items() if self._text.startswith(quote, self._at)), _SCALAR))
        self.open.pop()

    def _closed(self, bracket: str) -> bool:
        self._skip(_BLANK_LINES)
        if self._take(","):
            self._skip(_BLANK_LINES)
        if self._at == len(self._text):
            raise _End
        return self._take(bracket)
