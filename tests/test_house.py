"""The house: imports point downwards, and doit is known in its own rooms only."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent
RECIPES = TESTS.parent / "recipes"

#: The floors from the ground up. A room may import from its own floor if it is the same room, and from every floor
#: below; two rooms on one floor know nothing of each other. Rooms are packages and single modules.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "recipes",
        "recipes.errors",
        "recipes.jsontext",
        "recipes.names",
        "recipes.redact",
        "recipes.resources",
        "recipes.rootplace",
        "recipes.units",
        "recipes.wording",
    ),
    ("recipes.model", "recipes.progress"),
    ("recipes.console", "recipes.kinds", "recipes.reference", "recipes.settings"),
    ("recipes.interruption",),
    ("recipes.formats",),
    ("recipes.formats.io",),
    ("recipes.formats.codec",),
    ("recipes.formats.disk",),
    ("recipes.formats.tree",),
    ("recipes.formats.boot",),
    ("recipes.formats.fs",),
    ("recipes.formats.tar",),
    ("recipes.formats.oci",),
    ("recipes.formats.wrapper",),
    ("recipes.formats.root_check",),
    ("recipes.formats.rootfs", "recipes.formats.wsl"),
    ("recipes.formats.machine",),
    ("recipes.declare", "recipes.cache"),
    ("recipes.sources",),
    ("recipes.derive",),
    ("recipes.export", "recipes.exchange"),
    ("recipes.project",),
    ("recipes.graph",),
    ("recipes.__main__", "recipes.tasks"),
)


def room(module: str) -> str:
    """Return the room that `module` is, or is in."""
    rooms = [each for floor in FLOORS for each in floor if module == each or module.startswith(f"{each}.")]
    return max(rooms, key=len)


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


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
    here = name_of(path)
    ours = [module for module in imports(path) if module.split(".")[0] == "recipes"]
    upwards = [each for each in ours if room(each) != room(here) and floor(each) >= floor(here)]
    assert not upwards


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_doit_is_known_in_the_graph_only(path: Path) -> None:
    if not path.is_relative_to(RECIPES / "graph"):
        assert not [module for module in imports(path) if module.split(".")[0] == "doit"]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_package_is_imported_by_a_dot_from_within_and_by_its_name_from_elsewhere(path: Path) -> None:
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    if package == "recipes":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert node.level < 2, f"line {node.lineno}"
            assert node.level or not f"{module}.".startswith(f"{package}."), f"line {node.lineno}"


MOST_ARGUMENTS = 6


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_travels_together_is_one_value(path: Path) -> None:
    """No public function takes more than six arguments: callers could not tell them apart."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in found if name not in ("self", "cls")])
            assert count <= MOST_ARGUMENTS, f"line {node.lineno}: {node.name} takes {count}"


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_no_test_module_imports_another(path: Path) -> None:
    """What tests share is in tests/kit/."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert "test_" not in (node.module or ""), f"line {node.lineno}"


#: What has no test module of its own, and why that will do.
WITHOUT_TESTS = {
    "formats/disk/image": "a protocol, and a tuple without methods",
    "formats/fs/filesystem": "a protocol",
    "progress": "protocols, and what nobody watches",
    "sources/access": "a tuple without methods",
}


def mirrored(path: Path) -> Path:
    """Return where the tests of the module at `path` are."""
    return TESTS / path.relative_to(RECIPES).with_name(f"test_{path.stem.strip('_')}.py")


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=name_of)
def test_each_module_has_its_test_module(path: Path) -> None:
    module = path.relative_to(RECIPES).with_suffix("").as_posix()
    wanted = mirrored(path).relative_to(TESTS.parent)
    if module in WITHOUT_TESTS:
        assert not mirrored(path).exists(), f"{wanted} is there: take {module} out of WITHOUT_TESTS"
    else:
        assert mirrored(path).exists(), (
            f"recipes/{module}.py has no test module: write {wanted}, which tests what the module itself promises (its "
            "bounds, its errors). Only what holds no logic at all goes into WITHOUT_TESTS, with the reason"
        )


def test_what_has_no_test_module_is_there() -> None:
    assert not [module for module in WITHOUT_TESTS if not (RECIPES / f"{module}.py").exists()]


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_a_test_module_is_not_empty(path: Path) -> None:
    tree = ast.walk(ast.parse(path.read_text()))
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree)
