from __future__ import annotations

import pytest

from recipes.declare.findings import Findings, strings, table
from recipes.declare.validate import Problem
from recipes.units import MAX_SIZE


def test_problems_keep_their_order() -> None:
    findings = Findings()
    findings.wrong(("b",), "second key", key=True)
    findings.wrong(("a", 0), "value")
    assert findings.problems == [Problem(("b",), "second key", key=True), Problem(("a", 0), "value")]


class TestSizes:
    @pytest.mark.parametrize("value", [1, 512, MAX_SIZE])
    def test_bytes(self, value: int) -> None:
        findings = Findings()
        assert findings.size(("size",), value) == value
        assert findings.problems == []

    @pytest.mark.parametrize("value", [0, -1, MAX_SIZE + 1])
    def test_out_of_range(self, value: int) -> None:
        findings = Findings()
        findings.size(("size",), value)
        (problem,) = findings.problems
        assert problem.message == f"expected a number of bytes from 1 to {MAX_SIZE}, got {value}"

    @pytest.mark.parametrize("value", ["8 GiB", "8GiB", 8 << 30])
    def test_with_units(self, value: object) -> None:
        assert Findings().size(("size",), value, units=True) == 8 << 30

    def test_units_that_are_none(self) -> None:
        findings = Findings()
        assert findings.size(("size",), "8 XB", units=True) is None
        assert len(findings.problems) == 1

    @pytest.mark.parametrize("value", ["8 GiB", None, True, False, [], {}, 1.5])
    def test_what_the_schema_refuses_is_passed_over(self, value: object) -> None:
        findings = Findings()
        assert findings.size(("size",), value) is None
        assert findings.problems == []

    def test_what_the_schema_takes_and_is_none(self) -> None:
        """A JSON schema takes 1.0 for a whole number."""
        findings = Findings()
        assert findings.size(("size",), 1.0) is None
        assert [problem.message for problem in findings.problems] == ["expected a whole number of bytes, got 1.0"]


def test_each_string_once() -> None:
    findings = Findings()
    assert list(findings.distinct(("x",), ["a", "b", "a", 5, "a"])) == [(("x", 0), "a"), (("x", 1), "b")]
    assert [problem.path for problem in findings.problems] == [("x", 2), ("x", 4)]
    assert findings.problems[0].message == '"a" is listed twice'


@pytest.mark.parametrize("value", [None, 5, "text", [], {}])
def test_what_is_no_list_has_no_strings(value: object) -> None:
    assert list(strings(("x",), value)) == []


def test_a_table_or_nothing() -> None:
    assert table({"a": 1}) == {"a": 1}
    others: tuple[object, ...] = (None, [], "a", 5)
    assert [table(value) for value in others] == [{}] * 4
