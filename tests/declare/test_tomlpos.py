from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.declare.tomlpos import Path, Position, Positions, TomlError, dotted, loads

if TYPE_CHECKING:
    import random


def marked(text: str) -> tuple[str, Position]:
    """Take the § out of `text` and tell where it stood."""
    before, after = text.split("§")
    return before + after, Position(before.count("\n") + 1, len(before) - before.rfind("\n"))


KEYS: list[tuple[str, Path]] = [
    ("a = 1\n §b = 2", ("b",)),
    ('§"a b" = 1', ("a b",)),
    ("'a'.§b = 1", ("a", "b")),
    ("§a.b = 1\na.c = 2", ("a",)),
    (r'"\u00e9".§"b\"" = 1', ("é", 'b"')),
    ("[§a]\nb = 1", ("a",)),
    ("[ a . §b ]", ("a", "b")),
    ("[§a.b]\n[a.c]", ("a",)),
    ("[a.b]\n[§a]", ("a",)),
    ('[images."debian-12".§x86_64]', ("images", "debian-12", "x86_64")),
    ("[[§a]]\n[[a]]", ("a",)),
    ("[[a]]\n[[§a]]", ("a", 1)),
    ("[[a]]\n[[a]]\nb = 1\n§c = 2", ("a", 1, "c")),
    ("[[a]]\n[[a.b]]\n[[a]]\n[[a.b]]\n[[a.§b]]", ("a", 1, "b", 1)),
    ("[[a]]\n[a.b]\nc = 1\n[[a]]\n[a.b]\n§c = 1", ("a", 1, "b", "c")),
    ("a = { b = 1, §c = 2 }", ("a", "c")),
    ("a = [1, §2]", ("a", 1)),
    ('a = """\n[b]\n# """\n§b = 2', ("b",)),
    ("a = '''\nb = 1''''\n§b = 2", ("b",)),
    ('a = """x\\""" y"""""\n§b = 2', ("b",)),
    ('a = "#" # b = 1\n§b = 2', ("b",)),
    ("a = [ # ]\n  ']', [\n2] ]\n§b = 2", ("b",)),
    ('"é𝄞" = "é𝄞"\n"é𝄞𝄞".§x = 2', ("é𝄞𝄞", "x")),
    ("a = 1979-05-27 07:32:00\n§b = 2", ("b",)),
    ("a = 1\r\nb = '''\r\n'''\r\n§c = 3\r\n", ("c",)),
]

VALUES: list[tuple[str, Path]] = [
    ("a = §1", ("a",)),
    ("a =§'''\n'''", ("a",)),
    ("a.b = §[[1]]", ("a", "b")),
    ("a = [[1], [2, §[3]]]", ("a", 1, 1)),
    ("a = [\n  1, # one\n\n  §'two',\n]", ("a", 1)),
    ("a = [{b = 1}, {b = [0, §1]}]", ("a", 1, "b", 1)),
    ("a = { b.c = §true }", ("a", "b", "c")),
    ("a = §{ b = 1 }", ("a",)),
    ("[§a]", ("a",)),
    ("[[§a]]", ("a", 0)),
    ("§a = 1", ()),
]


@pytest.mark.parametrize(("text", "path"), KEYS)
def test_keys(text: str, path: Path) -> None:
    text, position = marked(text)
    assert Positions(text).key(path) == position


@pytest.mark.parametrize(("text", "path"), VALUES)
def test_values(text: str, path: Path) -> None:
    text, position = marked(text)
    assert Positions(text).value(path) == position


def test_an_unknown_path_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Positions("a = 1").key(("b",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Twice: tomllib's own position is after the statement.
        ("a = 1\n§a = 2", "a: already defined in line 1"),
        ("a = 1\n§a = '''\n'''\nb = 1", "a: already defined in line 1"),
        ("\r\na = 1\r\n§a = 2\r\n", "a: already defined in line 2"),
        ("\"é\" = 1\n§'é' = 2", '"é": already defined in line 1'),
        ("[a]\n[b]\n[§a]", "a: already defined in line 1"),
        ("[a.b]\nc = 1\n[a]\nd = 1\n[a.§b]\n", "a.b: already defined in line 1"),
        ("[a]\nb.c = 1\n[a.§b]\n", "a.b: already defined in line 2"),
        ("[[a]]\n[§a]\n", "a: already defined in line 1"),
        ("[a]\n[[§a]]\n", "a[0]: a is complete since line 1 and cannot be extended"),
        ("a = []\n[[§a]]", "a[0]: a is complete since line 1 and cannot be extended"),
        ("a = 1\n[a.§b]\nc = 2", "a.b: a is complete since line 1 and cannot be extended"),
        ("a = 1\n\na.b.§c = 3", "a.b.c: a is complete since line 1 and cannot be extended"),
        ("a = { b = 1, §b = 2 }", "a.b: already defined in line 1"),
        ("a = { b = 1, §b = { c = [1] }, d = 1 }", "a.b: already defined in line 1"),
        ("a = [{}, { b.c = 1,\t§b = 2 }]", "a[1].b: already defined in line 1"),
        ("a = { b = {}, b.§c = 2 }", "a.b.c: a.b is complete since line 1 and cannot be extended"),
        # Left open: tomllib's own position is the end of the document or of the line.
        ("a = §'''\nb = 1\n", "the string that begins here is never closed"),
        ('a = §"b\nc = 1\n', "the string that begins here is never closed"),
        ("a = §'b\nc = 1\n", "the string that begins here is never closed"),
        ("a = [§'b", "the string that begins here is never closed"),
        ("a = §[1,\n 2,\n", "the array that begins here is never closed"),
        ("a = §{ b = 1", "the inline table that begins here is never closed"),
        # The rest as tomllib says it.
        ("a = §", "Invalid value"),
        ("a = §nope\n", "Invalid value"),
        ("a = [1 §2]", "Unclosed array"),
        ("a§", "Expected '=' after a key in a key/value pair"),
        ("[a§", "Expected ']' at the end of a table declaration"),
        ("a = 1 §b = 2\n", "Expected newline or end of document after a statement"),
        ('a = "é𝄞" §é\n', "Expected newline or end of document after a statement"),
        ("§= 1", "Invalid statement"),
        (f"a = 1\nb = §{'1' * 5000}", "an integer has more digits than fit"),
        (f"§a = {'[' * 5000}", "nested too deeply"),
    ],
)
def test_errors(text: str, message: str) -> None:
    text, position = marked(text)
    with pytest.raises(TomlError) as caught:
        loads(text)
    assert (caught.value.message, caught.value.position) == (message, position)


def test_what_tomllib_can_nest_has_positions() -> None:
    deepest = 0
    for depth in range(50, 1000, 10):
        text = f"a = {'[' * depth}{']' * depth}"
        try:
            loads(text)
        except TomlError:
            break
        deepest = depth
        assert Positions(text).value(("a", *(0,) * (depth - 1))).column == depth + 4
    assert deepest > 100


def test_dotted_paths() -> None:
    assert dotted(("images", "debian-12", "derive", 1)) == "images.debian-12.derive[1]"
    assert dotted(("images", "ubuntu-24.04", "x86_64")) == 'images."ubuntu-24.04".x86_64'
    assert dotted(("", 'a"b')) == '"".' + r'"a\"b"'


KEY_TEXTS = st.text("ab-_1é𝄞 .\"'\\#[]\t", max_size=3)
SCALARS = st.one_of(
    st.integers(-9, 99), st.booleans(), st.sampled_from([1.5, -2e10]), st.text("ab#=[]{},\"'\\\n é𝄞", max_size=8)
)
STATIC = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY_TEXTS, inner, max_size=3), max_leaves=6
)
# ("static", value) | ("table", entries) | ("tables", [entries, …])
ENTRIES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(KEY_TEXTS, st.tuples(st.just("static"), STATIC), max_size=3),
    lambda inner: st.dictionaries(
        KEY_TEXTS,
        st.tuples(st.just("static"), STATIC)
        | st.tuples(st.just("table"), inner)
        | st.tuples(st.just("tables"), st.lists(inner, min_size=1, max_size=3)),
        max_size=4,
    ),
    max_leaves=6,
)


class Writer:
    """Writes a document in many styles, and notes where it put things."""

    def __init__(self, entries: dict[str, Any], style: random.Random) -> None:
        self.text = ""
        self.keys: dict[Path, Position] = {}
        self.values: dict[Path, Position] = {}
        self._style = style
        self._table((), [], entries)

    def _here(self) -> Position:
        return Position(self.text.count("\n") + 1, len(self.text) - self.text.rfind("\n"))

    def _one_of(self, *texts: str) -> None:
        self.text += self._style.choice(texts)

    def _key(self, key: str) -> None:
        styles = ['"' + "".join(f"\\u{ord(c):04x}" if c in '"\\\t' else c for c in key) + '"']
        if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key):
            styles.append(key)
        if "'" not in key:
            styles.append(f"'{key}'")
        self._one_of(*styles)

    def _pair(self, path: Path, key: str, value: object) -> None:
        while True:
            self.keys[(*path, key)] = self._here()
            self._key(key)
            if not (isinstance(value, dict) and len(value) == 1 and self._style.random() < 0.5):
                break
            self.values[(*path, key)] = self.keys[(*path, key)]
            path = (*path, key)
            ((key, value),) = value.items()
            self._one_of(".", " . ", ".\t")
        self._one_of("=", " = ", "\t=  ")
        self._value((*path, key), value)

    def _value(self, path: Path, value: object) -> None:
        self.values[path] = self._here()
        if isinstance(value, list):
            self._one_of("[", "[\n", "[ # ]\n\t")
            for index, item in enumerate(value):
                self.keys[(*path, index)] = self._here()
                self._value((*path, index), item)
                self._one_of(",", " , ", ", # ',\"\n", "\n,\n  ")
            self._one_of("]", " ]", "# \"'\n]")
        elif isinstance(value, dict):
            self.text += "{"
            for index, (key, item) in enumerate(value.items()):
                self._one_of(*((",", ", ") if index else ("", " ")))
                self._pair(path, key, item)
            self._one_of("}", " }")
        elif isinstance(value, str):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            styles = ['"' + escaped.replace("\n", "\\n") + '"', f'"""\n{escaped}"""']
            if "'" not in value:
                styles.append(f"'''\n{value}'''")
                if "\n" not in value:
                    styles.append(f"'{value}'")
            if not value.startswith("\n") and '"""' not in value and "\\" not in value and value[-1:] != '"':
                styles.append(f'"""{value}"""')
            self._one_of(*styles)
        else:
            self.text += str(value).lower()

    def _table(self, path: Path, names: list[str], entries: dict[str, Any]) -> None:
        for key, (kind, value) in entries.items():
            if kind == "static":
                self._one_of("", "\n", "  ", "# a = 1\n")
                self._pair(path, key, value)
                self._one_of("\n", " \n", " # b = 1\n")
        for key, (kind, value) in entries.items():
            if kind == "table":
                self.keys[(*path, key)] = self.values[(*path, key)] = self._header([*names, key], "[", "]")
                self._table((*path, key), [*names, key], value)
            elif kind == "tables":
                for index, element in enumerate(value):
                    position = self._header([*names, key], "[[", "]]")
                    for written in (self.keys, self.values):
                        written.setdefault((*path, key), position)
                        written[(*path, key, index)] = position
                    self._table((*path, key, index), [*names, key], element)

    def _header(self, names: list[str], opening: str, closing: str) -> Position:
        self._one_of(opening, f"\n  {opening} ")
        for index, name in enumerate(names):
            self._one_of(*((".", " . ") if index else ("",)))
            position = self._here()
            self._key(name)
        self._one_of(f"{closing}\n", f" {closing} # [c]\n")
        return position


def plain(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the document that `entries` are written as."""
    kinds: dict[str, Any] = {
        "static": lambda value: value,
        "table": plain,
        "tables": lambda value: [plain(element) for element in value],
    }
    return {key: kinds[kind](value) for key, (kind, value) in entries.items()}


def paths(value: object, path: Path = ()) -> list[Path]:
    """Return the path of everything in a document."""
    if isinstance(value, dict):
        return [path, *(below for key, item in value.items() for below in paths(item, (*path, key)))]
    if isinstance(value, list):
        return [path, *(below for index, item in enumerate(value) for below in paths(item, (*path, index)))]
    return [path]


@settings(deadline=None, max_examples=300)
@given(ENTRIES, st.randoms(use_true_random=False), st.booleans())
def test_positions_agree_with_tomllib(entries: dict[str, Any], style: random.Random, crlf: bool) -> None:
    writer = Writer(entries, style)
    document = tomllib.loads(writer.text)
    assert document == plain(entries)
    positions = Positions(writer.text.replace("\n", "\r\n") if crlf else writer.text)
    for path in paths(document):
        if path:
            assert positions.key(path) == writer.keys[path]
            assert positions.value(path) == writer.values[path]


@settings(deadline=None, max_examples=300)
@given(ENTRIES, st.randoms(use_true_random=False), st.data())
def test_a_damaged_document_has_an_error_within_it_or_all_positions(
    entries: dict[str, Any], style: random.Random, data: st.DataObject
) -> None:
    text = Writer(entries, style).text
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 5, len(text))))
    text = text[:start] + data.draw(st.text("[]{}\"'=.,#\n\r\\a", max_size=3)) + text[end:]
    try:
        document = loads(text)
    except TomlError as error:
        lines = text.replace("\r\n", "\n").split("\n")
        line, column = error.position
        assert 1 <= column <= len(lines[line - 1]) + 1
    else:
        positions = Positions(text)
        for path in paths(document):
            assert positions.key(path) <= positions.value(path)


@settings(deadline=None)
@given(ENTRIES.filter(bool), st.randoms(use_true_random=False))
def test_a_statement_that_is_repeated_is_found_where_it_is_repeated(
    entries: dict[str, Any], style: random.Random
) -> None:
    writer = Writer({"first": ("static", 1), **entries}, style)
    key = style.choice(sorted(entries))
    whole = Writer({key: ("table", {})}, style).text.lstrip()
    text = f"{writer.text}{whole}"
    with pytest.raises(TomlError) as caught:
        loads(text)
    assert caught.value.position.line == writer.text.count("\n") + 1
    assert f"already defined in line {writer.keys[(key,)].line}" in caught.value.message
