"""The schemas of what commands print with ``--json``, and the check of all that the tests let them print."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonschema.protocols import Validator

FOLDER = Path(__file__).parents[2] / "schema"
#: Commands whose schema is not called as they are.
_SHARED = {"add": "edit", "convert": "receipt", "init": "edit", "remove": "edit"}


def path_of(command: str) -> Path:
    """Return where the schema of a command is to be."""
    return FOLDER / f"{_SHARED.get(command, command)}.schema.json"


@cache
def _validator(path: Path) -> Validator:
    import jsonschema

    schema: Any = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def hold(words: Sequence[str], printed: str) -> None:
    """Hold what a command line printed against the command's schema, if it is JSON; assert that there is one."""
    if "--json" not in words or not printed:
        return
    path = next((path for word in words if (path := path_of(word)).is_file()), None)
    assert path, f"`{' '.join(words)}` has no schema in {FOLDER}"
    _validator(path).validate(json.loads(printed))
