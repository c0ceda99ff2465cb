"""The house: imports point downwards, and doit is known in its own rooms only."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPES = Path(__file__).parents[1] / "recipes"

#: Each floor may import from its own and from the ones above it in this list.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"recipes", "errors", "model", "progress", "units"}),
    frozenset(
        {
            "console",
            "jsontext",
            "names",
            "prune",
            "receipt",
            "reference",
            "roots",
            "settings",
            "tomledit",
            "tomlpos",
            "validate",
        }
    ),
    frozenset({"formats"}),
    frozenset({"declare", "store"}),
    frozenset({"sources"}),
    frozenset({"derive", "export"}),
    frozenset({"graph", "__main__"}),
)


def floor(module: str) -> int:
    room = [*module.split("."), "recipes"][1]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def name_of(path: Path) -> str:
    parts = path.relative_to(RECIPES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from recipes import store` imports a module, `from recipes import __version__` a name.
            if module == "recipes":
                yield from (f"recipes.{each.name}" if each.name[0] != "_" else "recipes" for each in node.names)
            else:
                yield module


MODULES = sorted(RECIPES.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    here = floor(name_of(path))
    upwards = [module for module in imports(path) if module.split(".")[0] == "recipes" and floor(module) > here]
    assert not upwards


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_doit_is_known_in_the_graph_only(path: Path) -> None:
    if path.parent.name != "graph":
        assert not [module for module in imports(path) if module.split(".")[0] == "doit"]
