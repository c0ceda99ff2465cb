"""images.toml: what is declared, and everything that is wrong with it.

`load` reads the file in three steps, and collects the problems of the last two before it reports any: syntax (tomllib),
form (schema/images.schema.json, which editors use as well) and meaning, which is all that a schema cannot say. Meaning
is read from documents of any form, so its functions pass over values of the wrong type: the form says that already.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from recipes import __version__
from recipes.errors import DeclarationError
from recipes.kinds import DERIVABLE
from recipes.model import DEFAULT_COMPRESSION, DEFAULT_MAX_VIRTUAL_SIZE, DEFAULT_VHDX_SIZE, Digest, Image, Source
from recipes.names import ends_with
from recipes.reference import Namespace, Reference, is_layout, serves_by_digest
from recipes.settings import ARCH_ALIASES
from recipes.units import MAX_SIZE, format_size, parse_size

from . import tomlpos, validate
from .validate import Problem, either, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from recipes.model import Arch, Kind

#: What is derived of an image that does not say.
DEFAULT_DERIVE: Mapping[Kind, tuple[str, ...]] = {"disk": ("raw",), "rootfs": ("rootfs",), "oci": ("rootfs",)}
#: The words that doit reads as a command where a task or an image could stand: its own and those of larder.
COMMANDS = frozenset(
    ("auto", "clean", "dumpdb", "forget", "help", "ignore", "info", "list", "reset-dep", "run", "strace")
) | {"tabcompletion", "clone", "keys", "path", "plan", "prune", "status", "update", "verify"}

_ARCHES = ("x86_64", "aarch64")
_SOURCE_KEYS = ("url", "digest", "size", "checksums", "pattern", "signature", "keyring", "strip")
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_HOST = r"(?:https?://[^\s/?#*]+|file://(?:localhost)?)/"
_OCI = "oci://"
_URL = re.compile(rf"({_HOST}(?:[^\s?#]*/)?)([^\s/?#]*)(\?[^\s#]*)?")
_PREFIX = re.compile(rf"(?:{_HOST}|oci://[^\s/?#*]+/)(?:[^\s?#*]*/)?")
# A name that ends otherwise may be either: only its content tells.
_CERTAIN: Mapping[Kind, re.Pattern[str]] = {
    "disk": re.compile(r"\.(qcow2|raw|img|iso|vmdk|vdi|vhdx?)(\.(gz|xz|bz2|zst))?$", re.IGNORECASE),
    "rootfs": re.compile(r"\.(tar(\.(gz|xz|bz2|zst))?|tgz|txz|wsl)$", re.IGNORECASE),
}
_LOOKS: Mapping[Kind, str] = {
    "disk": "ends like a disk",
    "rootfs": "ends like a rootfs",
    "oci": "is an image in a registry",
}
#: Bytes that a VHDX may be given: room for a journal and some files, and what ext4 with 32-bit block numbers can have.
_VHDX_SIZES = (64 << 20, (16 << 40) - (1 << 20))


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
    return loads(_read(path), path, validated=validated)


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

    reader = _Reader(path.parent)
    declaration = reader.declaration(document)
    found = reader.problems
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DeclarationError(
            f"{shown(path)}: expected the declarations of the images here, found no such file",
            hint="images.toml stands beside dodo.py; LARDER_IMAGES names another file",
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


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(path: tomlpos.Path, value: object) -> Iterator[tuple[tomlpos.Path, str]]:
    """Yield the strings of a list, each with its path."""
    for index, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, str):
            yield (*path, index), item


def _certain_kind(url: str) -> Kind | None:
    if serves_by_digest(url):
        return "oci"
    match = _URL.fullmatch(url)
    return next((kind for kind, ending in _CERTAIN.items() if match and ending.search(match[2])), None)


def _looks(url: str, kind: Kind) -> str:
    return "is an image layout" if is_layout(url) else _LOOKS[kind]


class _Reader:
    """Reads meaning; what it returns can be used only where it found no problem."""

    def __init__(self, folder: Path) -> None:
        self.problems: list[Problem] = []
        self._folder = folder

    def _wrong(self, path: tomlpos.Path, message: str, *, key: bool = False) -> None:
        self.problems.append(Problem(path, message, key))

    def declaration(self, document: dict[str, Any]) -> Declaration:
        cache = _table(document.get("cache"))
        mirrors = _table(document.get("mirrors"))
        images = document.get("images", {})
        if images == {}:
            path: tomlpos.Path = ("images",) if "images" in document else ()
            self._wrong(path, "no image is declared; expected a table such as [images.debian]", key=True)
        images = _table(images)
        self._names(images)
        return Declaration(
            images={name: self._image(name, table) for name, table in images.items()},
            mirrors={prefix: self._mirrors(prefix, value) for prefix, value in mirrors.items()},
            max_virtual_size=self._bytes(
                ("cache", "max-virtual-size"), cache.get("max-virtual-size", DEFAULT_MAX_VIRTUAL_SIZE)
            )
            or 0,
            registry=self._namespace(("cache", "registry"), cache.get("registry")),
        )

    def _namespace(self, path: tomlpos.Path, value: object) -> Namespace | None:
        if not isinstance(value, str):
            return None
        try:
            return Namespace.parse(value)
        except ValueError as error:
            self._wrong(path, str(error))
            return None

    def _mirrors(self, prefix: str, value: object) -> tuple[str, ...]:
        path = ("mirrors", prefix)
        expected = "expected the beginning of http, https or file urls, up to and with a slash"
        if not _PREFIX.fullmatch(prefix):
            self._wrong(path, expected, key=True)
        if value == []:
            self._wrong(path, "expected at least one prefix")
        for where, mirror in self._distinct(path, value):
            if not _PREFIX.fullmatch(mirror):
                self._wrong(where, f"{expected}, got {quoted(mirror)}")
        return tuple(mirror for _, mirror in _strings(path, value))

    def _distinct(self, path: tomlpos.Path, value: object) -> Iterator[tuple[tomlpos.Path, str]]:
        seen = set()
        for where, text in _strings(path, value):
            if text in seen:
                self._wrong(where, f"{quoted(text)} is listed twice")
            else:
                seen.add(text)
                yield where, text

    def _names(self, images: dict[str, Any]) -> None:
        spellings: dict[str, str] = {}
        for name in images:
            path = ("images", name)
            other = spellings.setdefault(name.lower(), name)
            if other != name:
                self._wrong(
                    path,
                    f"differs from {other} only in case, and the two would share a folder where case is ignored",
                    key=True,
                )
            elif _NAME.fullmatch(name.lower()) and name != name.lower():
                self._wrong(path, f"expected a name in lower case: {name.lower()}", key=True)
            elif not _NAME.fullmatch(name):
                self._wrong(
                    path,
                    "expected a name of letters a-z, digits and . _ + -, beginning with a letter or a digit",
                    key=True,
                )
            elif name in COMMANDS:
                self._wrong(path, f"doit has a command called {name}; choose another name", key=True)

    def _image(self, name: str, value: object) -> dict[Arch, Image]:
        path = ("images", name)
        table = _table(value)
        for key in table.keys() - set(_ARCHES):
            self._stray(path, key, table[key])
        if not any(key in _ARCHES or isinstance(item, dict) for key, item in table.items()) and value == table:
            example = tomlpos.dotted((*path, _ARCHES[0]))
            self._wrong(path, f"has no architecture; expected a table such as [{example}]", key=True)
        sources = {arch: self._source((*path, arch), table[arch]) for arch in table if arch in _ARCHES}
        kind = self._kind(path, table)
        for arch, source in sources.items():
            if source.strip and kind != "rootfs":
                self._wrong(
                    (*path, arch, "strip"), f'is for a tarball, kind = "rootfs"; this is kind = "{kind}"', key=True
                )
        derive = self._derive(path, table, kind)
        vhdx_size = self._vhdx_size((*path, "vhdx-size"), table.get("vhdx-size", DEFAULT_VHDX_SIZE))
        return {
            cast("Arch", arch): Image(
                name=name,
                arch=cast("Arch", arch),
                kind=kind,
                source=source,
                title=table.get("title", ""),
                derive=derive,
                prewarm=table.get("prewarm", False),
                vhdx_size=vhdx_size,
                compression=table.get("oci-compression", DEFAULT_COMPRESSION),
            )
            for arch, source in sources.items()
        }

    def _stray(self, path: tomlpos.Path, key: str, value: object) -> None:
        """Say what is better than "unknown key" about a key of an image."""
        where = (*path, key)
        if isinstance(value, dict):
            alias = ARCH_ALIASES.get(key.lower()) or validate.nearest(key.lower(), _ARCHES)
            hint = f"write {alias}" if alias else f"expected {either(_ARCHES)}"
            self._wrong(where, f"unknown architecture; {hint}", key=True)
        elif key in _SOURCE_KEYS:
            example = tomlpos.dotted((*path, _ARCHES[0]))
            self._wrong(where, f"belongs in the table of an architecture, such as [{example}]", key=True)

    def _kind(self, path: tomlpos.Path, table: dict[str, Any]) -> Kind:
        certain = [
            (where, url, kind)
            for arch in table
            if arch in _ARCHES
            for where, url in self._urls((*path, arch, "url"), _table(table[arch]).get("url"))
            if (kind := _certain_kind(url))
        ]
        declared = table.get("kind")
        if isinstance(declared, str) and declared in DERIVABLE:
            for _, url, kind in certain:
                # A name is a default, not a fact: a disk may be in a tarball, image archives are called .tar. Only what
                # is asked for by digest, in a registry or a layout, can be nothing else.
                if kind != declared and "oci" in (kind, declared) and (declared, kind) != ("oci", "rootfs"):
                    self._wrong((*path, "kind"), f"contradicts {quoted(url)}, which {_looks(url, kind)}")
                    break
            return cast("Kind", declared)
        if not certain:
            return "disk"
        _, first, inferred = certain[0]
        for where, url, kind in certain:
            if kind != inferred:
                self._wrong(where, f"{_looks(url, kind)}, and {quoted(first)} {_looks(first, inferred)}")
        return inferred

    def _derive(self, path: tomlpos.Path, table: dict[str, Any], kind: Kind) -> tuple[str, ...]:
        if "derive" not in table:
            return DEFAULT_DERIVE[kind]
        where = (*path, "derive")
        derive = tuple(self._distinct(where, table["derive"]))
        for element, artifact in derive:
            if artifact in DERIVABLE["disk"] and artifact not in DERIVABLE[kind]:
                possible = either(quoted(one) for one in DERIVABLE[kind])
                self._wrong(element, f"an image of kind {kind} has no {quoted(artifact)}; expected {possible}")
        return tuple(artifact for _, artifact in derive)

    def _urls(self, path: tomlpos.Path, value: object) -> Iterator[tuple[tomlpos.Path, str]]:
        if isinstance(value, str):
            yield path, value
        else:
            yield from _strings(path, value)

    def _source(self, path: tomlpos.Path, value: object) -> Source:
        table = _table(value)
        if isinstance(value, dict):
            self._requirements(path, table)
        urls = tuple(self._urls((*path, "url"), table.get("url")))
        for where, url in urls:
            if not url.startswith(_OCI):
                self._url(where, url, moving="checksums" in table and "digest" not in table)
        for _ in self._distinct((*path, "url"), table.get("url")):
            pass
        digest = None
        if isinstance(table.get("digest"), str):
            try:
                digest = Digest.parse(table["digest"])
            except ValueError as error:
                self._wrong((*path, "digest"), str(error))
        digest = self._registry(path, table, urls, digest)
        for key in ("checksums", "signature"):
            if isinstance(table.get(key), str):
                self._url((*path, key), table[key], moving=None)
        return Source(
            urls=tuple(url for _, url in urls),
            digest=digest,
            size=self._bytes((*path, "size"), table["size"]) if "size" in table else None,
            checksums=table.get("checksums"),
            pattern=self._pattern((*path, "pattern"), table.get("pattern"), tuple(url for _, url in urls)),
            signature=table.get("signature"),
            keyring=self._keyring((*path, "keyring"), table.get("keyring")),
            strip=self._strip((*path, "strip"), table.get("strip")),
        )

    def _strip(self, path: tomlpos.Path, value: object) -> str:
        if not isinstance(value, str):
            return ""
        parts = value.removesuffix("/").split("/")
        if not all(parts) or not {".", ".."}.isdisjoint(parts):
            self._wrong(
                path, f"expected the folder in the tarball that is the root, such as root.x86_64, got {quoted(value)}"
            )
        return "/".join(parts)

    def _requirements(self, path: tomlpos.Path, table: dict[str, Any]) -> None:
        if "url" not in table:
            self._wrong(path, "needs a url", key=True)
        elif table["url"] == []:
            self._wrong((*path, "url"), "expected at least one url")
        from_registry = any(serves_by_digest(url) for _, url in self._urls(path, table.get("url")))
        if "digest" not in table and "checksums" not in table and not from_registry:
            self._wrong(
                path,
                'needs digest or checksums, since nothing is accepted unverified: copy digest = "sha256:HEX" from '
                "upstream's list, or give the url of the list as checksums",
                key=True,
            )
        for key in ("pattern", "signature", "keyring"):
            if key in table and "checksums" not in table:
                self._wrong((*path, key), "is for a checksum list; expected checksums beside it", key=True)
        if "signature" in table and "keyring" not in table:
            self._wrong((*path, "signature"), "needs keyring, the file with the keys that may have made it", key=True)

    def _registry(
        self,
        path: tomlpos.Path,
        table: dict[str, Any],
        urls: tuple[tuple[tomlpos.Path, str], ...],
        digest: Digest | None,
    ) -> Digest | None:
        """Check those of `urls` that serve by digest; return what pins the image, `digest` or the one in a url."""
        found = digest
        references = [(where, url) for where, url in urls if url.startswith(_OCI)]
        for where, url in references:
            try:
                pinned = Reference.parse(url).digest
            except ValueError as error:
                self._wrong(where, str(error))
                continue
            if found is not None and pinned is not None and found != pinned:
                self._wrong(where, f"is pinned to other bytes than {found}")
            found = found or pinned
        served = references or [(where, url) for where, url in urls if is_layout(url)]
        if not served:
            return found
        what, place, places = ("oci:// urls", "registry", "registries")
        if not references:
            what, place, places = ("image layouts", "layout", "layouts")
        for key, why in (
            ("checksums", "what a tag is" if references else "what it holds"),
            ("size", "how large an image is"),
        ):
            if key in table:
                self._wrong((*path, key), f"is not for {what}: the {place} itself says {why}", key=True)
        if len(served) < len(urls):
            other = next(each for each in urls if each not in served)
            self._wrong(other[0], f"expected {what} only, as the others are: what a {place} serves is no file")
        if digest is not None and digest.algorithm != "sha256":
            self._wrong((*path, "digest"), f"expected the sha256 of a manifest, which is what {places} serve by")
        return found

    def _url(self, path: tomlpos.Path, url: str, *, moving: bool | None) -> None:
        """Check one url; `moving` is whether its name may hold a ``*`` here, None where none ever may."""
        match = _URL.fullmatch(url)
        if not match:
            expected = (
                "https://, http://, file:/// or oci://" if moving is not None else "https://, http:// or file:///"
            )
            if re.search(r"\s", url.strip()) and _URL.fullmatch(re.sub(r"\s", "%20", url)):
                self._wrong(path, f"a url has no spaces; write %20 for each, got {quoted(url)}")
            else:
                self._wrong(path, f"expected a url that begins with {expected}, got {quoted(url)}")
            return
        try:
            _ = urlsplit(url).port
        except ValueError as error:
            self._wrong(path, f"{quoted(url)} is not a url: {error}")
            return
        folder, name, query = match.groups(default="")
        if not name and is_layout(url) and moving is not None:
            if "*" in folder:
                self._wrong(path, f"* may stand in the file name of an image only, got {quoted(url)}")
        elif not name:
            self._wrong(path, f"expected the url of a file, got {quoted(url)}, a folder's")
        elif "*" in folder + query or ("*" in name and moving is None):
            self._wrong(path, f"* may stand in the file name of an image only, got {quoted(url)}")
        elif "*" in name and not moving:
            needed = "checksums, the list that says what it stands for, and no digest"
            self._wrong(path, f"* in {quoted(name)} needs {needed}")

    def _pattern(self, path: tomlpos.Path, value: object, urls: tuple[str, ...]) -> str | None:
        if not isinstance(value, str):
            return None
        if not all(value.split("/")):
            self._wrong(path, f"expected a file name, or the end of a path such as release-*/NAME, got {quoted(value)}")
            return value
        for url in urls:
            # What the list names takes the place of the url's end, which must have been found in the same way. What is
            # wrong with the url itself is told already.
            with contextlib.suppress(ValueError):
                if not ends_with(url, value):
                    self._wrong(path, f"{quoted(value)} is not what {quoted(url)} ends with")
        return value

    def _vhdx_size(self, path: tomlpos.Path, value: object) -> int:
        size = self._bytes(path, value) or 0
        least, most = _VHDX_SIZES
        if size and (not least <= size <= most or size % (1 << 20)):
            self._wrong(
                path, f"expected whole MiB from {format_size(least)} up to and without 16 TiB, got {quoted(value)}"
            )
        return size

    def _bytes(self, path: tomlpos.Path, value: object) -> int | None:
        if isinstance(value, str) and path[-1] in ("max-virtual-size", "vhdx-size"):
            try:
                value = parse_size(value)
            except ValueError as error:
                self._wrong(path, str(error))
                return None
        # JSON schema takes 1.0 for a whole number.
        if isinstance(value, float) and value.is_integer():
            self._wrong(path, f"expected a whole number of bytes, got {quoted(value)}")
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        if not 1 <= value <= MAX_SIZE:
            self._wrong(path, f"expected a number of bytes from 1 to {MAX_SIZE}, got {value}")
        return value

    def _keyring(self, path: tomlpos.Path, value: object) -> Path | None:
        if not isinstance(value, str):
            return None
        file = self._folder / value
        try:
            found = file.is_file() and os.access(file, os.R_OK)
        except OSError:
            found = False
        if not found:
            self._wrong(path, f"expected a file of OpenPGP keys at {file}, found none that can be read")
        return file
