"""A document against a JSON schema, and what is wrong with it in words."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, NamedTuple

from recipes import resources
from recipes.wording import either, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import ValidationError

    from . import tomlpos

_TYPES = {
    "string": "a string",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


class Problem(NamedTuple):
    """Something that is wrong with a document."""

    path: tomlpos.Path
    message: str
    #: It is about the key (or the element as a whole), not about its value.
    key: bool = False
    #: The schema's keyword that found it, where a schema did.
    keyword: str = ""


def schema(name: str) -> bytes:
    """Return the text of ``schema/NAME.schema.json``."""
    return resources.find(f"schema/{name}.schema.json").read_bytes()


def problems(document: object, schema: bytes) -> Iterator[Problem]:
    """Find what is wrong with `document` by a draft-07 `schema`."""
    # 0.2 s of imports; most runs need none of it.
    from jsonschema import Draft7Validator

    for error in Draft7Validator(json.loads(schema)).iter_errors(document):
        yield from _in_words(error)


def quoted(value: object) -> str:
    """Return `value` as a person would point at it: scalars as TOML writes them, cut when long."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, (date, datetime, time)):
        return f"the date or time {value}"
    # json writes true, false, numbers and strings as TOML does.
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:96]} …"


def _in_words(error: ValidationError) -> Iterator[Problem]:
    path = tuple(error.absolute_path)
    keyword = str(error.validator)
    value: Any = error.validator_value
    if keyword == "additionalProperties":
        yield from _unknown_keys(error, path)
    elif keyword == "type":
        types = [value] if isinstance(value, str) else value
        expected = either(_TYPES[name] for name in types)
        yield Problem(path, f"expected {expected}, got {quoted(error.instance)}", keyword=keyword)
    elif keyword == "enum" and not any(isinstance(error.instance, type(choice)) for choice in value):
        return  # its type is wrong, which the keyword `type` says
    elif keyword == "enum":
        meant = nearest(error.instance, value)
        hint = f"; did you mean {quoted(meant)}?" if meant else ""
        expected = either(quoted(choice) for choice in value)
        yield Problem(path, f"expected {expected}, got {quoted(error.instance)}{hint}", keyword=keyword)
    else:
        yield Problem(path, error.message, keyword=keyword)


def _unknown_keys(error: ValidationError, path: tomlpos.Path) -> Iterator[Problem]:
    assert isinstance(error.schema, dict)
    assert isinstance(error.instance, dict)
    known = error.schema.get("properties", {})
    patterns = error.schema.get("patternProperties", {})
    for key in error.instance:
        if key in known or any(re.search(pattern, key) for pattern in patterns):
            continue
        hint = ""
        if meant := nearest(key, known):
            hint = f"; did you mean {meant}?"
        elif known:
            hint = f"; expected {either(known)}"
        yield Problem((*path, key), f"unknown key{hint}", key=True, keyword="additionalProperties")
