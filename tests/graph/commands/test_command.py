from __future__ import annotations

import pytest

from recipes.graph.commands.command import aligned, show


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    table = [("name", "size", ""), ("a", "5 B", "x"), ("longer", "12 KiB", "")]
    assert aligned(table, right={1}) == [
        "name      size",
        "a          5 B  x",
        "longer  12 KiB",
    ]


def test_no_line_ends_with_blanks() -> None:
    assert all(line == line.rstrip() for line in aligned([("a", ""), ("bbb", "")], right=set()))


def test_no_rows() -> None:
    assert aligned([], right={0}) == []


def test_rows_of_different_lengths_are_a_bug() -> None:
    with pytest.raises(ValueError, match="zip"):
        aligned([("a",), ("b", "c")], right=set())


@pytest.mark.parametrize(("text", "out"), [("", ""), ("a", "a\n"), ("a\nb", "a\nb\n")])
def test_nothing_is_shown_as_nothing(text: str, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(text)
    assert capsys.readouterr().out == out
