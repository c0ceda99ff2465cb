"""What an OVF descriptor and its manifest say of the files beside them.

Specification: DMTF DSP0243 2.1.1 (Open Virtualization Format): 7.1 (References), 9.1 (DiskSection), 6.2 (manifest).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from recipes.errors import CorruptImage, UnsupportedFeature

#: Bytes of a descriptor or a manifest.
LIMIT = 1 << 20
#: A line of a manifest.
_SUM = re.compile(r"(SHA1|SHA256|SHA512) ?\((.*)\) ?= ?([0-9A-Fa-f]+)")


class Sum(NamedTuple):
    """What a manifest says of a file."""

    #: As hashlib calls it.
    algorithm: str
    name: str
    hex: str


def disks(data: bytes, name: str) -> list[str]:
    """Return the names of the files that are the disks of the descriptor `data`, which errors call `name`.

    Errors: `CorruptImage` for what is no descriptor, or names a file that is not beside it; `UnsupportedFeature`.
    """
    # Entities and what else a document type declares: expansions without end, and files of others.
    if b"<!DOCTYPE" in data.upper() or b"\0" in data:
        raise UnsupportedFeature(f"{name}: a descriptor with a document type, or not in UTF-8, is not supported")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CorruptImage(f"{name}: expected the XML of a descriptor: {error}") from None
    files = {_attribute(each, "id"): each for each in root.iter() if _tag(each) == "File"}
    found: dict[str, None] = {}
    for disk in (each for each in root.iter() if _tag(each) == "Disk"):
        if (reference := _attribute(disk, "fileRef")) is None:
            # An empty disk, which is made where the machine is.
            continue
        if _attribute(disk, "parentRef"):
            raise UnsupportedFeature(f"{name}: a disk with a parent is not supported")
        file = files.get(reference)
        if file is None:
            raise CorruptImage(f"{name}: a disk is in the file {reference!r}, which the descriptor does not have")
        if _attribute(file, "chunkSize"):
            raise UnsupportedFeature(f"{name}: a disk in several files is not supported")
        found[_beside(_attribute(file, "href") or "", name)] = None
    return list(found)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _attribute(element: ElementTree.Element, key: str) -> str | None:
    """Return an attribute, whatever its namespace: versions of the specification differ in nothing else here."""
    return next((value for name, value in element.attrib.items() if name.rpartition("}")[2] == key), None)


def _beside(href: str, name: str) -> str:
    """Return the file that a relative reference names (RFC 3986); raise CorruptImage for any other."""
    path = unquote(href)
    if not path or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", href) or path.startswith("/") or ".." in path.split("/"):
        raise CorruptImage(f"{name}: expected a file beside the descriptor, found a reference to {href!r}")
    return path.removeprefix("./")


def sums(data: bytes, name: str) -> list[Sum]:
    """Return what the manifest `data` says, which errors call `name`; CorruptImage for a line that says nothing."""
    found: list[Sum] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        match = _SUM.fullmatch(line.strip())
        if not match:
            raise CorruptImage(f"{name}:{number}: expected SHA256(FILE)= HEX, found {line[:60]!r}")
        found.append(Sum(match[1].lower(), match[2], match[3].lower()))
    return found
