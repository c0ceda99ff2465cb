"""`larder add`: an image more in images.toml, from the catalogue or from a url alone."""

from __future__ import annotations

import sys
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import quote

from doit import get_initial_workdir
from doit.exceptions import InvalidCommand

from recipes.console import console
from recipes.declare.images import wrong_with
from recipes.declare.urls import is_relative
from recipes.errors import LarderError
from recipes.model import Digest
from recipes.project import find
from recipes.project.edit import Edit
from recipes.project.find import Wish

from .command import JSON, CacheCommand
from .editing import DRY_RUN, editable, finish, require_known

_DIGEST = {
    "name": "digest",
    "long": "digest",
    "default": "",
    "metavar": "sha256:HEX",
    "help": "what the download has to be, where it is known from elsewhere",
}
_FIRST_USE = {
    "name": "first_use",
    "long": "trust-first-use",
    "type": bool,
    "default": False,
    "help": "where no list names the image: download it now, and pin what came",
}
_KEYRING = {
    "name": "keyring",
    "long": "keyring",
    "default": "",
    "metavar": "FILE",
    "help": "the OpenPGP keys that may have signed the list; it is verified, now and whenever it is asked for",
}


class Add(CacheCommand):
    """`larder add`."""

    doc_purpose = "declare an image: from the catalogue, or from its url"
    doc_usage = "NAME ... | NAME URL ..."
    doc_description = """NAME alone is copied from the catalogue, for all architectures.

Of a URL the digest is looked for in the lists beside the image (SHA256SUMS, SHA512SUMS, CHECKSUM, FILE.sha256,
manifests and their like), and pinned with the list, so that `larder update` follows it; of an oci:// url it is what
the tag has. What kind of image it is, and for which machines, its name tells, or its first bytes. URL may be a file.
Several are those of several architectures.

Where no list names the image nothing says what it has to be: --digest does, or --trust-first-use."""
    cmd_options = (_DIGEST, _FIRST_USE, _KEYRING, DRY_RUN, JSON)

    def _execute(
        self, digest: str, first_use: bool, keyring: str, dry_run: bool, json: bool, pos_args: list[str]
    ) -> int:
        space = self.space()
        if not pos_args:
            raise InvalidCommand("expected the NAME of an image; `larder search` shows those of the catalogue")
        path = editable(space)
        edit = Edit.of(path)
        name, *others = pos_args
        if not others or not all(map(_is_url, others)):
            require_known(pos_args)
            for each in dict.fromkeys(pos_args):
                edit.copy(each)
            facts: dict[str, Any] = {"added": list(dict.fromkeys(pos_args)), "found": [], "notes": []}
            return finish(edit, facts, json=json, dry_run=dry_run, said=[_made(pos_args[0])])
        if problem := wrong_with(name):
            raise InvalidCommand(f"{name}: {problem}")
        urls = [_url(each, path.parent) for each in others]
        wish = Wish(_digest(digest), FilePath(get_initial_workdir()) / keyring if keyring else None, first_use)
        if digest and len(others) > 1:
            raise InvalidCommand("--digest is that of one URL")
        progress = console(sys.stderr, space.stop)
        try:
            images = [find.declarable(space, name, url, wish, progress) for url in urls]
        finally:
            progress.close()
        for found in images:
            edit.add(name, found, _from(wish.keyring, path.parent))
        notes = list(dict.fromkeys(note for found in images for note in found.notes))
        facts = {"added": [name], "found": [found.to_json() for found in images], "notes": notes}
        arches = [arch for found in images for arch in found.arches]
        other = "" if space.settings.arch in arches else f"--arch {arches[0]} "
        return finish(edit, facts, json=json, dry_run=dry_run, said=[*notes, _made(f"{other}{name}")])


def _is_url(word: str) -> bool:
    return "://" in word or is_relative(word) or word.startswith("/") or FilePath(get_initial_workdir(), word).exists()


def _url(word: str, folder: FilePath) -> str:
    """Return the url that `word` is; of a file that is below `folder`, from there."""
    if "://" in word:
        return word
    file = FilePath(get_initial_workdir(), word).absolute()
    if not file.exists():
        raise LarderError(f"{word}: no such file")
    slash = "/" if file.is_dir() else ""
    if file.is_relative_to(folder):
        return f"./{quote(str(file.relative_to(folder)))}{slash}"
    return f"{file.as_uri()}{slash}"


def _from(keyring: FilePath | None, folder: FilePath) -> str | None:
    """Return the path of the keyring as images.toml has it: from its folder where it is below that."""
    if keyring is None:
        return None
    return str(keyring.relative_to(folder) if keyring.is_relative_to(folder) else keyring)


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except ValueError as error:
        raise InvalidCommand(f"--digest: {error}") from None


def _made(words: str) -> str:
    return f"`larder {words}` makes what it says"
