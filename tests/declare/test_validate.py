from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from recipes.declare.validate import Problem, problems, quoted, schema

SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "size": {"type": "integer"},
        "kind": {"enum": ["disk", "rootfs"]},
        "url": {"type": ["string", "array"]},
        "table": {"type": "object", "additionalProperties": False, "patternProperties": {"^x": {}}},
    },
}


def found(document: object, **changes: Any) -> list[Problem]:
    return list(problems(document, json.dumps({**SCHEMA, **changes}).encode()))


def said(document: object) -> str:
    (problem,) = found(document)
    return problem.message


def test_nothing_is_wrong() -> None:
    assert found({"size": 5, "kind": "disk", "url": [], "table": {"xyz": 1}}) == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"size": "5"}, 'expected a whole number, got "5"'),
        ({"size": True}, "expected a whole number, got true"),
        ({"url": 5}, "expected a string or a list, got 5"),
        ({"table": []}, "expected a table, got a list"),
        ({"kind": "dsk"}, 'expected "disk" or "rootfs", got "dsk"; did you mean "disk"?'),
        ({"kind": "tape"}, 'expected "disk" or "rootfs", got "tape"'),
        ({"sise": 5}, "unknown key; did you mean size?"),
        ({"zzz": 5}, "unknown key; expected size, kind, url or table"),
        ({"table": {"abc": 5}}, "unknown key"),
    ],
)
def test_what_is_wrong_in_words(document: object, message: str) -> None:
    assert said(document) == message


def test_a_word_of_the_wrong_type_is_wrong_once() -> None:
    """By its type, which another keyword says."""
    assert found({"kind": 5}) == []


def test_where_it_is_and_what_found_it() -> None:
    assert found({"table": {"abc": 5}}) == [
        Problem(("table", "abc"), "unknown key", key=True, keyword="additionalProperties")
    ]
    assert found({"size": "x"})[0] == Problem(("size",), 'expected a whole number, got "x"', keyword="type")


def test_other_keywords_speak_for_themselves() -> None:
    (problem,) = found({}, required=["size"])
    assert (problem.message, problem.keyword) == ("'size' is a required property", "required")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", '"a"'),
        ('a"b', '"a\\"b"'),
        (True, "true"),
        (1.5, "1.5"),
        ({}, "a table"),
        ([1], "a list"),
        (date(2026, 1, 2), "the date or time 2026-01-02"),
        ("ü", '"ü"'),
    ],
)
def test_values_as_a_person_points_at_them(value: object, shown: str) -> None:
    assert quoted(value) == shown


def test_long_values_are_cut() -> None:
    assert quoted("x" * 98) == f'"{"x" * 98}"'
    assert quoted("x" * 99) == f'"{"x" * 95} …'


@pytest.mark.parametrize("name", ["images", "receipt"])
def test_schemas_come_with_larder(name: str) -> None:
    assert json.loads(schema(name))["$schema"].startswith("http://json-schema.org/draft-07/")
