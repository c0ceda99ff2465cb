"""The images.toml that comes with larder, to search in and to copy from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from recipes import declare, resources, settings
from recipes.declare import blocks, tomlpos
from recipes.declare.urls import is_relative

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from recipes.declare.declaration import Declaration
    from recipes.model import Arch, Image

#: The file that editors check images.toml with, as it is called in a project.
SCHEMA = "images.schema.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of the catalogue, for whoever looks for one."""

    name: str
    title: str
    kind: str
    arches: tuple[str, ...]
    urls: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the entry for scripts."""
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "arches": list(self.arches),
            "urls": list(self.urls),
        }


@cache
def _declaration() -> Declaration:
    return declare.load(settings.catalogue())


def images() -> Mapping[str, Mapping[Arch, Image]]:
    """Return the images of the catalogue, by name and architecture."""
    return _declaration().images


def search(words: tuple[str, ...]) -> Iterator[Entry]:
    """Yield the images that have each of `words` in their name, title, kind or urls, whatever its case."""
    for name, by_arch in images().items():
        some = next(iter(by_arch.values()))
        urls = tuple(url for image in by_arch.values() for url in image.source.urls)
        text = " ".join((name, some.title, some.kind, *urls)).lower()
        if all(word.lower() in text for word in words):
            yield Entry(name, some.title, some.kind, tuple(by_arch), urls)


def block(name: str) -> str:
    """Return the text that declares the image `name`; raise KeyError where there is none."""
    return blocks.of(_text(), name)


def files(name: str) -> dict[str, Path]:
    """Return the files that the image `name` is declared with, by their paths from the folder of images.toml."""
    folder = settings.catalogue().parent
    found = {}
    for by_arch in tomlpos.loads(_text())["images"][name].values():
        for key in ("url", "checksums", "signature", "keyring") if isinstance(by_arch, dict) else ():
            values = by_arch.get(key, [])
            for value in [values] if isinstance(values, str) else values:
                if key == "keyring" or is_relative(value):
                    path = unquote(value) if is_relative(value) else value
                    found[path.removeprefix("./")] = folder / path
    return found


def head() -> str:
    """Return what the catalogue says of images.toml itself."""
    lines = _text().split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("# [images.NAME]"))
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("#"))
    return "\n".join(lines[start:end])


def schema() -> Path:
    """Return the file that editors check images.toml with."""
    return resources.find(f"schema/{SCHEMA}")


@cache
def _text() -> str:
    return settings.catalogue().read_text(encoding="utf-8")
