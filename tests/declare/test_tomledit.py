"""Edits of a document: what changes, and that nothing else does."""

from __future__ import annotations

import copy
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.declare.tomledit import edit

if TYPE_CHECKING:
    from recipes.declare.tomlpos import Path

REPLACED: list[tuple[str, Path, str | int, str]] = [
    ('url = "a"  # why\n', ("url",), "b", 'url = "b"  # why\n'),
    ("url = 'a'", ("url",), "b", "url = 'b'"),
    ("url = 'a'", ("url",), "it's", 'url = "it\'s"'),
    ("url = 'a'", ("url",), "tab\t", 'url = "tab\\t"'),
    ('url = "a"', ("url",), 'say "b" \\ \x7f\n', 'url = "say \\"b\\" \\\\ \\u007f\\n"'),
    ('url = """\na\n"""\nsize = 1', ("url",), "b", 'url = "b"\nsize = 1'),
    ("url = '''a'''", ("url",), "b", 'url = "b"'),
    ("size=12_345#why", ("size",), 7, "size=7#why"),
    ("size = 0xff \t# why", ("size",), 7, "size = 7 \t# why"),
    ("size = 1   ", ("size",), 12, "size = 12   "),
    ('"url"\t=\t"a"', ("url",), "b", '"url"\t=\t"b"'),
    ('a . "b c".url = "a"', ("a", "b c", "url"), "b", 'a . "b c".url = "b"'),
    ("url = [\"a\", # one\n  'b',\n]", ("url", 1), "c", "url = [\"a\", # one\n  'c',\n]"),
    ('a = { url = "a", size = 1 }', ("a", "url"), "b", 'a = { url = "b", size = 1 }'),
    ('a = [{ url = ["x", "y"] }]', ("a", 0, "url", 1), "b", 'a = [{ url = ["x", "b"] }]'),
    ("[[a]]\nsize = 1\n[[a]]\nsize = 2", ("a", 1, "size"), 3, "[[a]]\nsize = 1\n[[a]]\nsize = 3"),
    ('# é𝄞\r\nurl = "é𝄞" # é\r\n', ("url",), "ü", '# é𝄞\r\nurl = "ü" # é\r\n'),
    ('a = """\r\n\r\n"""\nurl = "a"\r\n', ("url",), "b", 'a = """\r\n\r\n"""\nurl = "b"\r\n'),
]

REMOVED = [
    ('a = 1\n  size = 1 # why\n\nurl = "a"', 'a = 1\n\nurl = "a"'),
    ("size = 1", ""),
    ("a = 1\r\nsize = 1\r\nb = 2\r\n", "a = 1\r\nb = 2\r\n"),
    ('a = """\n"""\nsize = 1\n', 'a = """\n"""\n'),
]

REMOVED_INLINE = [
    ("t = { a = 1, size = 1, b = 2 }", "t = { a = 1, b = 2 }"),
    ("t = { a = 1, size = 1 }", "t = { a = 1 }"),
    ("t = { size = 1, b = 2 }", "t = { b = 2 }"),
    ("t = {size=1}", "t = {}"),
    ("t={a=1,size=1}", "t={a=1}"),
    ('t = { a = ",size", size = 1 } # size', 't = { a = ",size" } # size'),
]


@pytest.mark.parametrize(("text", "path", "value", "expected"), REPLACED)
def test_a_value_is_replaced(text: str, path: Path, value: str | int, expected: str) -> None:
    assert edit(text, {path: value}) == expected


@pytest.mark.parametrize(("text", "expected"), REMOVED)
def test_a_line_is_removed(text: str, expected: str) -> None:
    assert edit(text, {("size",): None}) == expected


@pytest.mark.parametrize(("text", "expected"), REMOVED_INLINE)
def test_a_pair_of_an_inline_table_is_removed(text: str, expected: str) -> None:
    assert edit(text, {("t", "size"): None}) == expected


def test_several_at_once_in_any_order() -> None:
    text = 'url = ["a", "b"]\ndigest = "c"\nsize = 1\n'
    changes: dict[Path, str | int | None] = {("size",): None, ("url", 1): "longer", ("digest",): "d", ("url", 0): ""}
    assert edit(text, changes) == 'url = ["", "longer"]\ndigest = "d"\n'


def test_nothing_to_change() -> None:
    assert edit("a = 1 \r\n#", {}) == "a = 1 \r\n#"


def test_no_such_value() -> None:
    with pytest.raises(KeyError):
        edit("[a.b]\nc = 1", {("a", "d"): 1})
    with pytest.raises(KeyError):
        edit("[a.b]\nc = 1", {("a",): 1})


_COMMENT = st.sampled_from(["", " # size = 1", "\t#", " # ]}\"'", "   "])
_KEY = st.sampled_from(["url", "size", '"a b"', "'c.d'", "e.f", 'g . "h"'])
_STRING = st.text(st.characters(codec="utf-8"), max_size=8)
_WRITTEN = st.one_of(
    st.integers(0, 10**6).map(lambda number: f"{number:_}"),
    _STRING.map(lambda text: json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")),
    st.sampled_from(["'it'", '"""\n# size = 2\n"""', "'''\r\n[x]'''", "''", '""']),
)
_VALUE = st.one_of(
    _WRITTEN,
    st.lists(_WRITTEN, min_size=1, max_size=3).map(lambda items: f"[ # [\n {' , '.join(items)},\n]"),
    st.lists(_WRITTEN, min_size=1, max_size=3).map(
        lambda items: f"{{ {', '.join(f'k{index} = {item}' for index, item in enumerate(items))} }}"
    ),
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = ["# first"]
    for number in range(draw(st.integers(1, 3))):
        lines.append(draw(st.sampled_from([f"[t{number}]", f'[ t{number} . "x.y" ]', f"[[t.a{number}]]"])))
        for key in draw(st.lists(_KEY, unique=True, max_size=4)):
            lines.append(f"{draw(st.sampled_from(['', '  ']))}{key} ={draw(_VALUE)}{draw(_COMMENT)}")
    return end.join(lines) + draw(st.sampled_from(["", end]))


def scalars(value: Any, path: Path = ()) -> list[Path]:
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in scalars(item, (*path, key))]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in scalars(item, (*path, index))]
    return [path]


@settings(max_examples=60, deadline=None)
@given(documents(), st.data())
def test_only_what_is_named_changes(text: str, data: st.DataObject) -> None:
    document = tomllib.loads(text)
    paths = scalars(document)
    changes: dict[Path, str | int | None] = {}
    for path in data.draw(st.lists(st.sampled_from(paths), unique=True, max_size=3)) if paths else []:
        removable = [st.none()] if isinstance(path[-1], str) else []
        changes[path] = data.draw(st.one_of(_STRING, st.integers(0, 99), *removable))
    result = edit(text, changes)
    expected = copy.deepcopy(document)
    for path, value in changes.items():
        change(expected, path, value)
    assert without_empty(tomllib.loads(result)) == without_empty(expected)
    if not changes:
        assert result == text
    assert result.count("\r\n") == result.count("\r")
    assert result.startswith("# first")


def change(document: Any, path: Path, value: str | int | None) -> None:
    for part in path[:-1]:
        document = document[part]
    if value is None:
        del document[path[-1]]
    else:
        document[path[-1]] = value


def without_empty(value: Any) -> Any:
    """Leave out the tables that only a dotted key makes, and that are not there without it."""
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := without_empty(item)) != {}}
    return [without_empty(item) for item in value] if isinstance(value, list) else value
