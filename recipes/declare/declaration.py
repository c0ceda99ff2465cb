"""images.toml: what is declared, and everything that is wrong with it.

`load` reads the file in three steps, and collects the problems of the last two before it reports any: syntax (tomllib),
form (schema/images.schema.json, which editors use as well) and meaning, which is all that a schema cannot say. Meaning
is read from documents of any form, so its functions pass over values of the wrong type: the form says that already.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes import __version__
from recipes.errors import DeclarationError
from recipes.model import DEFAULT_MAX_VIRTUAL_SIZE
from recipes.reference import Namespace

from . import tomlpos, validate
from .findings import Findings, strings, table
from .images import ImageReader
from .urls import check_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from recipes.model import Arch, Image

    from .validate import Problem


@dataclass(frozen=True, slots=True)
class Declaration:
    """What images.toml says."""

    #: Name -> architecture -> image, in the order of the file.
    images: Mapping[str, Mapping[Arch, Image]]
    #: Prefix of urls -> the prefixes to try in its place.
    mirrors: Mapping[str, tuple[str, ...]]
    #: Bytes of the largest virtual disk that is accepted.
    max_virtual_size: int
    #: Where artifacts are shared.
    registry: Namespace | None = None


def load(path: Path, *, validated: Path | None = None) -> Declaration:
    """Read images.toml; raise `DeclarationError` with all its problems, ``FILE:LINE:COLUMN: path: what is wrong``.

    `validated` is a folder of stamps: a file with the same bytes as one that was found right is not held against the
    schema again. The folder need neither exist nor be writable.
    """
    return loads(_bytes_of(path), path, validated=validated)


def loads(data: bytes, path: Path, *, validated: Path | None = None) -> Declaration:
    """Read `data` as `load` reads what is at `path`."""
    name = shown(path)
    try:
        text = data.decode("utf-8-sig")
        document = tomlpos.loads(text)
    except UnicodeDecodeError as error:
        # Not a part of `data`: the codec counts from after the mark.
        before = error.object[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise DeclarationError(f"{name}:{line}:{column}: not UTF-8", hint="save the file as UTF-8") from None
    except tomlpos.TomlError as error:
        raise DeclarationError("{}:{}:{}: {}".format(name, *error.position, error.message)) from None

    findings = Findings()
    declaration = _read(findings, path.parent, document)
    found = findings.problems
    schema = validate.schema("images")
    stamp = validated / _key(data, schema) if validated else None
    if not _is_stamped(stamp):
        found += _form(document, schema, found)
    if found:
        raise DeclarationError("\n".join(_lines(name, text, found)))
    if stamp:
        # An empty file is whole as soon as it is there, so it needs no temporary name; without it the next run
        # validates again.
        with contextlib.suppress(OSError):
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    return declaration


def shown(path: Path) -> Path:
    """Return `path` as messages have it: from the current folder where it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DeclarationError(
            f"{shown(path)}: expected the declarations of the images here, found no such file",
            hint="LARDER_IMAGES names it; without that the nearest images.toml upwards counts, else the catalogue",
        ) from None
    except OSError as error:
        raise DeclarationError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def _key(data: bytes, schema: bytes) -> str:
    digest = hashlib.sha256()
    for part in (__version__.encode(), schema, data):
        # Lengths keep the parts apart.
        digest.update(b"%d:%b" % (len(part), part))
    return digest.hexdigest()


def _is_stamped(stamp: Path | None) -> bool:
    # exists() raises where the cache is another user's.
    with contextlib.suppress(OSError):
        return stamp is not None and stamp.exists()
    return False


def _form(document: object, schema: bytes, meaning: list[Problem]) -> list[Problem]:
    """Return what the schema has to add to the problems of `meaning`, which say the same in better words."""
    told = {problem.path for problem in meaning}
    rest = []
    found = []
    for problem in validate.problems(document, schema):
        if problem.keyword in ("type", "enum"):
            found.append(problem)
        elif problem.keyword != "additionalProperties":
            rest.append(problem)
        elif problem.path not in told:
            found.append(problem)
    return found if found or meaning else rest


def _lines(name: Path, text: str, found: list[Problem]) -> Iterator[str]:
    positions = tomlpos.Positions(text)
    placed = {
        (positions.key(problem.path) if problem.key else positions.value(problem.path), problem) for problem in found
    }
    for (line, column), problem in sorted(placed, key=lambda one: (one[0], one[1].message)):
        where = f"{tomlpos.dotted(problem.path)}: " if problem.path else ""
        yield f"{name}:{line}:{column}: {where}{problem.message}"


def _read(findings: Findings, folder: Path, document: dict[str, Any]) -> Declaration:
    """Read meaning; what is returned can be used only if it found no problem."""
    cache = table(document.get("cache"))
    images = document.get("images", {})
    if images == {}:
        path: tomlpos.Path = ("images",) if "images" in document else ()
        findings.wrong(path, "no image is declared; expected a table such as [images.debian]", key=True)
    reader = ImageReader(findings, folder)
    reader.names(table(images))
    most = cache.get("max-virtual-size", DEFAULT_MAX_VIRTUAL_SIZE)
    return Declaration(
        images={name: reader.read(name, value) for name, value in table(images).items()},
        mirrors={prefix: _mirrors(findings, prefix, value) for prefix, value in table(document.get("mirrors")).items()},
        max_virtual_size=findings.size(("cache", "max-virtual-size"), most, units=True) or 0,
        registry=_namespace(findings, ("cache", "registry"), cache.get("registry")),
    )


def _namespace(findings: Findings, path: tomlpos.Path, value: object) -> Namespace | None:
    if not isinstance(value, str):
        return None
    try:
        return Namespace.parse(value)
    except ValueError as error:
        findings.wrong(path, str(error))
        return None


def _mirrors(findings: Findings, prefix: str, value: object) -> tuple[str, ...]:
    path = ("mirrors", prefix)
    check_prefix(findings, path, prefix, key=True)
    if value == []:
        findings.wrong(path, "expected at least one prefix")
    for where, mirror in findings.distinct(path, value):
        check_prefix(findings, where, mirror)
    return tuple(mirror for _, mirror in strings(path, value))
