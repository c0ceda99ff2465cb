"""SECURITY.md names what keeps each promise and what tests it: all of it has to be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: A file or a folder in backquotes.
NAMED = re.compile(r"`([\w./-]+\.py|(?:formats|tests|graph|derive|sources)/[\w./-]+)`")


def promises() -> list[str]:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("|") and NAMED.search(line)]


@pytest.mark.parametrize("line", promises(), ids=lambda line: line[2:50])
def test_what_a_promise_names_is_there(line: str) -> None:
    there = [
        "dodo.py",
        *(str(path.relative_to(ROOT)) for top in ("recipes", "tests") for path in (ROOT / top).rglob("*")),
    ]
    for name in NAMED.findall(line):
        assert any(path == name or path.endswith(f"/{name}") for path in there), name


def test_the_promises_are_found() -> None:
    assert len(promises()) > 15
