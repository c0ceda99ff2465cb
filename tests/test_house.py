"""The house: imports point downwards, doit is known in its own rooms only, and tests mirror the modules.

A rule is one test, which names every place where it is broken: one for each of some hundred files would be a quarter of
all tests.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

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
    ("recipes.formats.archive",),
    ("recipes.formats.wrapper",),
    ("recipes.formats.root_check",),
    ("recipes.formats.rootfs", "recipes.formats.wsl", "recipes.formats.microvm"),
    ("recipes.formats.machine",),
    ("recipes.declare", "recipes.cache"),
    ("recipes.sources",),
    ("recipes.derive",),
    ("recipes.export", "recipes.exchange"),
    ("recipes.project", "recipes.steps"),
    ("recipes.graph",),
    ("recipes.__main__", "recipes.tasks"),
)


@cache
def room(module: str) -> str:
    """Return the room that `module` is, or is in."""
    rooms = [each for floor in FLOORS for each in floor if module == each or module.startswith(f"{each}.")]
    return max(rooms, key=len)


@cache
def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def name_of(path: Path) -> str:
    parts = path.relative_to(RECIPES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(path: Path) -> str:
    return name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    package = package_of(path)
    for node in nodes(path):
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
TEST_MODULES = sorted(TESTS.rglob("test_*.py"))


def test_imports_point_downwards() -> None:
    upwards = [
        f"{name_of(path)} imports {each}"
        for path in MODULES
        for each in imports(path)
        if each.split(".")[0] == "recipes" and room(each) != room(name_of(path)) and floor(each) >= floor(name_of(path))
    ]
    assert not upwards, "\n".join(upwards)


def test_doit_is_known_in_the_graph_only() -> None:
    elsewhere = [path for path in MODULES if not path.is_relative_to(RECIPES / "graph")]
    assert not [name_of(path) for path in elsewhere if "doit" in {each.split(".")[0] for each in imports(path)}]


def test_a_package_is_imported_by_a_dot_from_within_and_by_its_name_from_elsewhere() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom)
        and (package := package_of(path)) != "recipes"
        and (node.level > 1 or (not node.level and f"{node.module or ''}.".startswith(f"{package}.")))
    ]
    assert not wrong, "\n".join(wrong)


MOST_ARGUMENTS = 6


def test_what_travels_together_is_one_value() -> None:
    """No public function takes more than six arguments: callers could not tell them apart."""
    wrong = []
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len([name for name in found if name not in ("self", "cls")])
                if count > MOST_ARGUMENTS:
                    wrong.append(f"{path}:{node.lineno}: {node.name} takes {count}")
    assert not wrong, "\n".join(wrong)


def test_no_test_module_imports_another() -> None:
    """What tests share is in tests/kit/."""
    imports_one = re.compile(r"^\s*(?:from|import) \S*\btest_\w+(?: import|$)", re.MULTILINE)
    assert not [path for path in TEST_MODULES if imports_one.search(path.read_text())]


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


def test_each_module_has_its_test_module() -> None:
    wrong = []
    for path in MODULES:
        module = path.relative_to(RECIPES).with_suffix("").as_posix()
        wanted = mirrored(path).relative_to(TESTS.parent)
        if path.name == "__init__.py":
            continue
        if mirrored(path).exists() and module in WITHOUT_TESTS:
            wrong.append(f"{wanted} is there: take {module} out of WITHOUT_TESTS")
        elif not mirrored(path).exists() and module not in WITHOUT_TESTS:
            wrong.append(
                f"recipes/{module}.py has no test module: write {wanted}, which tests what the module itself promises "
                "(its bounds, its errors). Only what holds no logic at all goes into WITHOUT_TESTS, with the reason"
            )
    assert not wrong, "\n".join(wrong)


def test_what_has_no_test_module_is_there() -> None:
    assert not [module for module in WITHOUT_TESTS if not (RECIPES / f"{module}.py").exists()]


def test_a_test_module_is_not_empty() -> None:
    a_test = re.compile(r"^\s*def test_", re.MULTILINE)
    assert not [path for path in TEST_MODULES if not a_test.search(path.read_text())]
