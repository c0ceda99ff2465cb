"""images.toml with an image more, or less: what it would be, held against what it was, and written as a whole."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recipes import declare
from recipes.declare import blocks, tomlpos
from recipes.declare.urls import certain_kind, resolved
from recipes.errors import DeclarationError, LarderError
from recipes.formats.io import files
from recipes.kinds import IMAGES

from . import catalogue, pins

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from .find import Found


#: What a first images.toml begins with, before the catalogue's own table of keys.
_HEAD = """\
# The images that this project uses. `larder list` shows what can be made of them, `larder search` what can be added.
#"""


@dataclass(slots=True)
class Edit:
    """A change of the images.toml at `path`; nothing is written before `apply`."""

    path: Path
    before: bytes
    after: bytes
    #: What is put beside it: paths, and what they are copies of.
    files: dict[Path, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Edit:
        """Begin with what is there, which has to be a declaration. Raise DeclarationError where it is none."""
        try:
            before = path.read_bytes()
        except OSError as error:
            raise LarderError(f"{declare.shown(path)} cannot be read: {error.strerror}") from error
        declare.loads(before, path)
        return cls(path, before, before)

    @property
    def text(self) -> str:
        """Return the text as it would be."""
        return self.after.decode("utf-8-sig")

    def diff(self) -> str:
        """Return the change as `patch` takes it."""
        return pins.diff(self.before.decode(), self.after.decode(), str(declare.shown(self.path)))

    def copy(self, name: str) -> None:
        """Put in the image `name` of the catalogue, with the files that it is declared with."""
        self._require_free(name, ())
        self._become(blocks.added(self.text, catalogue.block(name), name), {name})
        self.copy_files(name)

    def copy_files(self, name: str) -> None:
        """Have the files put beside it that the image `name` of the catalogue is declared with."""
        for path, source in catalogue.files(name).items():
            self.files[self.path.parent / path] = source

    def add(self, name: str, found: Found, keyring: str | None) -> None:
        """Put in the image `name` as it was found; `keyring` is the file of the keys that its list is signed with."""
        self._require_free(name, found.arches)
        present = declare.loads(self.after, self.path).images.get(name, {})
        told = certain_kind(resolved(found.url, self.path.parent)) or "disk"
        text = declared(name, found, keyring, kind=not present and told != found.kind)
        self._become(blocks.added(self.text, text, name), {name})
        kinds = {image.kind for image in declare.loads(self.after, self.path).images[name].values()}
        if kinds != {found.kind}:
            words = " and a ".join(IMAGES[kind] for kind in sorted(kinds))
            raise LarderError(f"{name} is a {words}, and {found.url} is a {IMAGES[found.kind]}")

    def remove(self, name: str) -> None:
        """Take out the image `name`, for all architectures."""
        images = declare.loads(self.after, self.path).images
        if len(images) == 1:
            raise LarderError(
                f"{name} is the only image in {declare.shown(self.path)}, which has to declare one",
                hint="add another one first, or delete the file",
            )
        self._become(blocks.without(self.text, name), {name})

    def apply(self) -> None:
        """Write it, and what goes beside it. A file that is there already has to be the same."""
        for path, source in self.files.items():
            _copy(source, path)
        if self.before:
            pins.replace(self.path, self.before, self.after)
            return
        try:
            with self.path.open("xb") as file:
                file.write(self.after)
        except OSError as error:
            raise LarderError(f"cannot write {declare.shown(self.path)}: {error.strerror}") from error

    def _require_free(self, name: str, arches: Collection[str]) -> None:
        present = declare.loads(self.after, self.path).images.get(name, {})
        if taken := [arch for arch in present if not arches or arch in arches]:
            raise LarderError(
                f"{name} is declared in {declare.shown(self.path)} already, for {' and '.join(taken)}",
                hint=f"`larder update {name}` re-pins it, `larder remove {name}` takes it out",
            )

    def _become(self, text: str, changed: Collection[str]) -> None:
        """Take `text`, in which only the images `changed` may be declared otherwise."""
        mark = self.after[: len(self.after) - len(self.text.encode())]
        after = mark + text.encode()
        was, now = (declare.loads(each, self.path) for each in (self.after, after))
        others = [{name: image for name, image in each.images.items() if name not in changed} for each in (was, now)]
        if others[0] != others[1] or (was.mirrors, was.registry) != (now.mirrors, now.registry):
            raise DeclarationError(
                f"{declare.shown(self.path)} would say something else of other images", hint="edit it by hand"
            )
        self.after = after


def declared(name: str, found: Found, keyring: str | None, *, kind: bool) -> str:
    """Return the tables that declare what was found; with the `kind`, where its url does not tell."""
    lines = [f"[{tomlpos.dotted(('images', name))}]", f"kind = {_quoted(found.kind)}"] if kind else []
    for arch in found.arches:
        lines += [f"[{tomlpos.dotted(('images', name, arch))}]", f"url = {_quoted(found.url)}"]
        # That of an image in a registry is in its url.
        if found.digest is not None:
            lines.append(f"digest = {_quoted(str(found.digest))}")
        if found.size is not None:
            lines.append(f"size = {found.size}")
        if found.checksums is not None:
            lines.append(f"checksums = {_quoted(found.checksums)}")
            # To be used once there is a keyring.
            mark = "" if keyring else "# "
            if found.signature is not None:
                lines.append(f"{mark}signature = {_quoted(found.signature)}")
            if keyring or found.signature is not None:
                lines.append(f"{mark}keyring = {_quoted(keyring or 'keys/FILE.gpg')}")
    return "\n".join(lines) + "\n"


def begin(path: Path, names: Collection[str]) -> Edit:
    """Return a first images.toml at `path` with the images `names` of the catalogue.

    Raise LarderError where there is one.
    """
    if os.path.lexists(path):
        raise LarderError(
            f"{declare.shown(path)} is there already, and is not overwritten",
            hint="`larder add NAME` adds an image to it",
        )
    made = Edit(path, b"", b"", {path.with_name(catalogue.SCHEMA): catalogue.schema()})
    text = f"#:schema ./{catalogue.SCHEMA}\n\n{_HEAD}\n{catalogue.head()}\n"
    for name in names:
        text = blocks.added(text, catalogue.block(name), name)
        made.copy_files(name)
    made.after = text.encode()
    return made


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL (TOML 1.0.0, "String").
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _copy(source: Path, path: Path) -> None:
    try:
        data = source.read_bytes()
        if path.exists():
            if path.read_bytes() != data:
                raise LarderError(f"{declare.shown(path)} is another file than the one that would be put there")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, data)
    except OSError as error:
        raise LarderError(f"cannot write {declare.shown(path)}: {error.strerror}") from error
