"""An image: ``[images.NAME]`` with the tables of its architectures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from recipes.kinds import DERIVABLE
from recipes.model import (
    DEFAULT_COMPRESSION,
    DEFAULT_EXT4_SIZE,
    DEFAULT_QCOW2_COMPRESSION,
    DEFAULT_VHDX_SIZE,
    Image,
)
from recipes.rootplace import ANYWHERE, RootPlace
from recipes.settings import ARCH_ALIASES
from recipes.units import format_size
from recipes.wording import either, nearest

from . import tomlpos
from .findings import table
from .sources import SOURCE_KEYS, SourceReader
from .urls import OCI, certain_kind, looks, urls
from .validate import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from recipes.model import Arch, Kind

    from .findings import Findings

#: What is derived of an image that does not say.
DEFAULT_DERIVE: Mapping[Kind, tuple[str, ...]] = {"disk": ("raw",), "rootfs": ("rootfs",), "oci": ("rootfs",)}
#: The words that doit reads as a command where a task or an image could stand: its own and those of larder.
COMMANDS = frozenset(
    ("auto", "clean", "dumpdb", "forget", "help", "ignore", "info", "list", "reset-dep", "run", "strace")
) | frozenset(
    [
        "add",
        "clone",
        "completion",
        "convert",
        "init",
        "keys",
        "path",
        "plan",
        "prune",
        "remove",
        "search",
        "status",
        "tabcompletion",
        "update",
        "verify",
    ]
)

_ARCHES = ("x86_64", "aarch64")
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
#: Bytes that a VHDX needs at the least, for a journal and some files, and a bare ext4, which may be without.
_VHDX_LEAST, _EXT4_LEAST = 64 << 20, 16 << 20
#: Bytes that ext4 with 32-bit block numbers can have, in whole MiB.
_EXT4_MOST = (16 << 40) - (1 << 20)


def wrong_with(name: str) -> str | None:
    """Say why an image cannot be called `name`; None where it can.

    >>> wrong_with("Debian"), wrong_with("debian-12")
    ('expected a name in lower case: debian', None)
    """
    if _NAME.fullmatch(name.lower()) and name != name.lower():
        return f"expected a name in lower case: {name.lower()}"
    if not _NAME.fullmatch(name):
        return "expected a name of letters a-z, digits and . _ + -, beginning with a letter or a digit"
    return f"doit has a command called {name}; choose another name" if name in COMMANDS else None


def _unquoted(name: object, key: str, value: dict[str, Any]) -> str | None:
    """Return the name that was meant by ``[images.ubuntu-24.04.x86_64]``: `value` is what is at ``images.NAME.KEY``."""
    while key not in ARCH_ALIASES and any(isinstance(each, dict) for each in value.values()):
        arch = next(each for each, inner in value.items() if isinstance(inner, dict))
        if arch in ARCH_ALIASES:
            return f"{name}.{key}"
        name, key, value = f"{name}.{key}", arch, value[arch]
    return None


class ImageReader:
    """Reads images; files that they name are below `folder`."""

    def __init__(self, findings: Findings, folder: Path) -> None:
        self._findings = findings
        self._wrong = findings.wrong
        self._folder = folder
        self._source = SourceReader(findings, folder).read

    def names(self, images: dict[str, Any]) -> None:
        """Hold the names of `images` against each other and against what doit takes for something else."""
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
            elif problem := wrong_with(name):
                self._wrong(path, problem, key=True)

    def read(self, name: str, value: object) -> dict[Arch, Image]:
        """Read the table `value` of the image `name`."""
        path = ("images", name)
        entries = table(value)
        for key in entries.keys() - set(_ARCHES):
            self._stray(path, key, entries[key])
        if not any(key in _ARCHES or isinstance(item, dict) for key, item in entries.items()) and value == entries:
            example = tomlpos.dotted((*path, _ARCHES[0]))
            self._wrong(path, f"has no architecture; expected a table such as [{example}]", key=True)
        sources = {arch: self._source((*path, arch), entries[arch]) for arch in entries if arch in _ARCHES}
        kind = self._kind(path, entries)
        for arch, source in sources.items():
            if source.strip and kind != "rootfs":
                self._wrong(
                    (*path, arch, "strip"), f'is for a tarball, kind = "rootfs"; this is kind = "{kind}"', key=True
                )
            if source.member and kind != "disk":
                self._wrong(
                    (*path, arch, "member"),
                    f'is for a disk in an archive, kind = "disk"; this is kind = "{kind}"',
                    key=True,
                )
            if source.disktype and not (kind == "disk" and source.urls and source.urls[0].startswith(OCI)):
                self._wrong((*path, arch, "disktype"), 'is for kind = "disk" with an oci:// url', key=True)
        derive = self._derive(path, entries, kind)
        root = self._root((*path, "root"), entries.get("root"), kind)
        vhdx_size = self._ext4_size((*path, "vhdx-size"), entries.get("vhdx-size", DEFAULT_VHDX_SIZE), _VHDX_LEAST)
        ext4_size = self._ext4_size((*path, "ext4-size"), entries.get("ext4-size", DEFAULT_EXT4_SIZE), _EXT4_LEAST)
        return {
            cast("Arch", arch): Image(
                name=name,
                arch=cast("Arch", arch),
                kind=kind,
                source=source,
                title=entries.get("title", ""),
                derive=derive,
                prewarm=entries.get("prewarm", False),
                root=root,
                vhdx_size=vhdx_size,
                ext4_size=ext4_size,
                ext4_journal=entries.get("ext4-journal", True),
                compression=entries.get("oci-compression", DEFAULT_COMPRESSION),
                qcow2_compression=entries.get("qcow2-compression", DEFAULT_QCOW2_COMPRESSION),
            )
            for arch, source in sources.items()
        }

    def _stray(self, path: tomlpos.Path, key: str, value: object) -> None:
        """Say what is better than "unknown key" about a key of an image."""
        where = (*path, key)
        if isinstance(value, dict) and (dotted := _unquoted(path[-1], key, value)):
            self._wrong(where, f'quote the name: [images."{dotted}".ARCH]; a dot begins another table', key=True)
        elif isinstance(value, dict):
            alias = ARCH_ALIASES.get(key.lower()) or nearest(key.lower(), _ARCHES)
            hint = f"write {alias}" if alias else f"expected {either(_ARCHES)}"
            self._wrong(where, f"unknown architecture; {hint}", key=True)
        elif key in SOURCE_KEYS:
            example = tomlpos.dotted((*path, _ARCHES[0]))
            self._wrong(where, f"belongs in the table of an architecture, such as [{example}]", key=True)

    def _kind(self, path: tomlpos.Path, entries: dict[str, Any]) -> Kind:
        certain = [
            (where, url, kind)
            for arch in entries
            if arch in _ARCHES
            for where, url in urls((*path, arch, "url"), table(entries[arch]).get("url"), self._folder)
            if (kind := certain_kind(url))
        ]
        declared = entries.get("kind")
        if isinstance(declared, str) and declared in DERIVABLE:
            for _, url, kind in certain:
                # A name is a default, not a fact: a disk may be in a tarball, image archives are called .tar. Only what
                # is asked for by digest, in a registry or a layout, can be nothing else.
                # Registries have disks as well.
                fitting = declared == "disk" and url.startswith(OCI)
                if (
                    kind != declared
                    and not fitting
                    and "oci" in (kind, declared)
                    and (declared, kind) != ("oci", "rootfs")
                ):
                    self._wrong((*path, "kind"), f"contradicts {quoted(url)}, which {looks(url, kind)}")
                    break
            return cast("Kind", declared)
        if not certain:
            return "disk"
        _, first, inferred = certain[0]
        for where, url, kind in certain:
            if kind != inferred:
                self._wrong(where, f"{looks(url, kind)}, and {quoted(first)} {looks(first, inferred)}")
        return inferred

    def _derive(self, path: tomlpos.Path, entries: dict[str, Any], kind: Kind) -> tuple[str, ...]:
        if "derive" not in entries:
            return DEFAULT_DERIVE[kind]
        where = (*path, "derive")
        derive = tuple(self._findings.distinct(where, entries["derive"]))
        for element, artifact in derive:
            if artifact in DERIVABLE["disk"] and artifact not in DERIVABLE[kind]:
                possible = either(quoted(one) for one in DERIVABLE[kind])
                self._wrong(element, f"an image of kind {kind} has no {quoted(artifact)}; expected {possible}")
        return tuple(artifact for _, artifact in derive)

    def _root(self, path: tomlpos.Path, value: object, kind: Kind) -> RootPlace:
        if not isinstance(value, str):
            return ANYWHERE
        if kind != "disk":
            self._wrong(path, f'is for a disk; this is kind = "{kind}"', key=True)
        try:
            return RootPlace.parse(value)
        except ValueError as error:
            self._wrong(path, str(error))
            return ANYWHERE

    def _ext4_size(self, path: tomlpos.Path, value: object, least: int) -> int:
        size = self._findings.size(path, value, units=True) or 0
        if size and (not least <= size <= _EXT4_MOST or size % (1 << 20)):
            self._wrong(
                path, f"expected whole MiB from {format_size(least)} up to and without 16 TiB, got {quoted(value)}"
            )
        return size
