"""The examples in docstrings: what they show is what happens."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"
EXAMPLES = [path for path in sorted(RECIPES.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_examples(path: Path) -> None:
    name = ".".join(path.relative_to(RECIPES.parent).with_suffix("").parts)
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed


def test_the_pure_modules_have_examples() -> None:
    pure = {"names.py", "units.py", "reference.py", "model.py", "sources/checksums.py", "sources/urls.py"}
    assert pure <= {path.relative_to(RECIPES).as_posix() for path in EXAMPLES}
