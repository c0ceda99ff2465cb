"""What commands print with ``--json``: each has a schema, which says all that there is and nothing else.

`tests/kit/schemas.py` holds whatever a test lets a command print against it.
"""

from __future__ import annotations

import importlib
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import schemas
from tests.kit.project import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]["doit.COMMAND"]


def speaking() -> list[str]:
    """Return the commands that have ``--json``."""
    found = []
    for name, place in COMMANDS.items():
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if any(option["long"] == "json" for option in command.cmd_options):
            found.append(name)
    return sorted(found)


def test_which_commands_speak_json() -> None:
    expected = {"add", "init", "keys", "list", "plan", "prune", "remove", "search", "status", "update", "verify"}
    assert expected <= set(speaking())


def objects(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema of an object, with where it is."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield where, schema
        for key, value in schema.items():
            yield from objects(value, f"{where}/{key}")


@pytest.mark.parametrize("command", speaking())
def test_a_schema_says_all_that_there_is(command: str) -> None:
    schema = json.loads(schemas.path_of(command).read_text())
    assert command in schema["title"]
    assert schema["$id"].startswith("urn:larder:schema:")
    for where, each in objects(schema):
        if "properties" not in each:
            # Any name, and all mean the same.
            assert isinstance(each["additionalProperties"], dict), where
            continue
        assert each["additionalProperties"] is False, f"{where}: a key that is misspelt would pass"
        assert set(each.get("required", ())) <= set(each["properties"]), where
        for name, property_ in each["properties"].items():
            assert "$ref" in property_ or property_["description"].endswith((".", ")")), f"{where}: {name}"


def test_each_schema_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "json.md").read_text()
    for command in speaking():
        assert f"`larder {command} --json`" in page
        assert f"`{schemas.path_of(command).name}`" in page


def test_what_is_no_schemas_is_refused() -> None:
    """The check itself."""
    good = '{"images": []}'
    schemas.hold(["search", "--json"], good)
    schemas.hold(["search"], "no JSON")
    for words, printed in ((["search", "--json"], '{"images": [], "more": 1}'), (["path", "--json"], "{}")):
        with pytest.raises(Exception, match=r"more|has no schema"):
            schemas.hold(words, printed)
