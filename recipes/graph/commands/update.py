"""`doit update`: pins in images.toml, brought to what upstream serves."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from recipes import declare
from recipes.console import console
from recipes.declare import tomledit, tomlpos
from recipes.errors import DeclarationError, LarderError
from recipes.reference import SCHEME, Reference, is_layout
from recipes.sources import repin
from recipes.sources.lists import ListRef
from recipes.sources.urls import with_mirrors

from .command import FAILED, CacheCommand, show

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from recipes.console import Console
    from recipes.declare.declaration import Declaration
    from recipes.model import Image, Source
    from recipes.project.workspace import Workspace

    Changes = dict[tomlpos.Path, str | int | None]

#: Lists that are asked for at once; most of the time of each is waiting.
_LISTS_AT_ONCE = 8
_CHECK = {
    "name": "check",
    "long": "check",
    "type": bool,
    "default": False,
    "help": "write nothing; exit with 1 where something is outdated",
}


class Update(CacheCommand):
    """`doit update`."""

    doc_purpose = "re-pin images to what upstream serves now"
    doc_usage = "[IMAGE ...]"
    doc_description = """Asks the checksum list of each pinned image what upstream serves now, for all architectures,
and puts url, digest and size into images.toml; nothing else in it changes. The diff goes to standard output.

An image in a registry follows the tag in its url, as in oci://HOST/NAME:TAG@sha256:HEX.

Fails where a list cannot be had or trusted; the other images are updated all the same.
"""
    cmd_options = (_CHECK,)

    def _execute(self, check: bool, pos_args: list[str]) -> int:
        space = self.space()
        # Not the workspace's: what is edited must be the text that was read.
        before = space.settings.images.read_bytes()
        declaration = declare.loads(before, space.settings.images)
        for name in pos_args:
            if name not in declaration.images:
                raise InvalidCommand(f"{name!r} is not declared in {space.settings.images.name}")
        if space.settings.offline:
            raise InvalidCommand("`doit update` asks upstream, and LARDER_OFFLINE is set: unset it")
        names = dict.fromkeys(pos_args or declaration.images)
        images = [image for name in names for image in declaration.images[name].values()]
        progress = console(sys.stderr, space.stop)
        try:
            latest, failed = _latest(space, images, progress)
            after = _edited(before, latest)
            _require(declaration, latest, after, space.settings.images)
            show(_diff(before.decode(), after.decode(), str(declare.shown(space.settings.images))))
            if after != before and not check:
                _replace(space.settings.images, before, after)
        except LarderError as error:
            progress.write(f"{error}\n")
            return FAILED
        finally:
            progress.close()
        return FAILED if failed or (check and after != before) else 0


def _latest(space: Workspace, images: Collection[Image], progress: Console) -> tuple[dict[Image, Source], bool]:
    """Return the sources of the images that upstream serves anew, and whether one could not be found out."""
    latest: dict[Image, Source] = {}
    failed = False
    followed = [image for image in images if image.source.digest and _is_followed(image)]
    refused = _refresh(space, followed, progress)
    for image in images:
        label = f"{image.name} ({image.arch})"
        if not _is_followed(image):
            what = "no tag is" if image.source.urls[0].startswith(SCHEME) else "no `checksums` are"
            progress.write(f"{label}: skipped, {what} declared to follow\n")
        elif image.source.digest is None:
            what = "list" if image.source.checksums else "tag"
            progress.write(f"{label}: skipped, it is not pinned and follows its {what} already\n")
        else:
            try:
                if image in refused:
                    raise refused[image]
                source = _repinned(space, image)
            except LarderError as error:
                failed = True
                progress.write(f"{label}: {error}\n")
            else:
                if source != image.source:
                    latest[image] = source
    return latest, failed


def _is_followed(image: Image) -> bool:
    """Say whether the declaration names a list or a tag, without a look at the keyring."""
    source = image.source
    url = source.urls[0]
    tagged = url.startswith(SCHEME) and Reference.parse(url).tag is not None
    return source.checksums is not None or tagged or is_layout(url)


def _refresh(space: Workspace, images: Collection[Image], progress: Console) -> dict[Image, LarderError]:
    """Ask for the lists of `images`; return the images whose list cannot be had, with the reason."""
    refused: dict[Image, LarderError] = {}
    users: dict[ListRef, list[Image]] = {}
    for image in images:
        try:
            ref = ListRef.declared(image.source)
        except LarderError as error:
            refused[image] = error
        else:
            assert ref is not None, "these images have lists"
            users.setdefault(ref, []).append(image)

    def refresh(ref: ListRef) -> None:
        try:
            # An old copy would pin what upstream served then.
            space.lists.refresh(ref, mirrors=space.declaration.mirrors, offline=False, strict=True, progress=progress)
        except LarderError as error:
            refused.update(dict.fromkeys(users[ref], error))

    with ThreadPoolExecutor(_LISTS_AT_ONCE) as pool:
        try:
            for _ in pool.map(refresh, users):
                pass
        except KeyboardInterrupt:
            space.stop.set()
            raise
    return refused


def _repinned(space: Workspace, image: Image) -> Source:
    """Return what `image` is to be pinned to; a url that moved was asked whether it is there."""
    source = image.source
    ref = ListRef.declared(source)
    assert ref is not None, "only images with a list come here"
    latest = repin.repinned(source, image.arch, space.lists.read(ref))
    if ref.is_tag:
        # The registry served what the new urls name.
        return latest
    lost_size = source.size is not None and latest.size is None
    if latest.urls != source.urls or lost_size:
        size = repin.announced(with_mirrors(latest.urls, space.declaration.mirrors), label="the new image")
        if lost_size:
            latest = latest._replace(size=size)
    return latest


def _edited(before: bytes, latest: dict[Image, Source]) -> bytes:
    """Return the text of images.toml with the sources `latest`."""
    text = before.decode("utf-8-sig")
    document = tomlpos.loads(text)
    changes: Changes = {}
    for image, source in latest.items():
        table = document["images"][image.name][image.arch]
        changes.update(_changes(("images", image.name, image.arch), table, image.source, source))
    return before.removesuffix(text.encode()) + tomledit.edit(text, changes).encode()


def _changes(path: tomlpos.Path, table: dict[str, Any], old: Source, new: Source) -> Changes:
    changes: Changes = {}
    for index, (before, after) in enumerate(zip(old.urls, new.urls, strict=True)):
        if before != after:
            changes[(*path, "url", index) if isinstance(table["url"], list) else (*path, "url")] = after
    # The pin of an image in a registry may be in its url alone.
    if old.digest != new.digest and "digest" in table:
        changes[*path, "digest"] = str(new.digest)
    if old.size != new.size:
        changes[*path, "size"] = new.size
    return changes


def _require(declaration: Declaration, latest: dict[Image, Source], after: bytes, path: Path) -> None:
    """Raise DeclarationError unless `after` declares the sources `latest`, and the others as they were."""
    try:
        declared = declare.loads(after, path)
    except DeclarationError as error:
        raise DeclarationError(f"what upstream lists cannot be declared:\n{error.message}") from error
    for name, by_arch in declaration.images.items():
        for arch, image in by_arch.items():
            wanted = latest.get(image, image.source)
            assert declared.images[name][arch].source == wanted, "the edit changed something else"


def _diff(before: str, after: str, name: str) -> str:
    """Return a unified diff that `patch` applies."""
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))
    lines = difflib.unified_diff(old, new, fromfile=name, tofile=name)
    whole = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return "".join(whole).removesuffix("\n")


def _replace(path: Path, before: bytes, after: bytes) -> None:
    """Replace the file at `path`, which held `before` when it was read, as a whole."""
    # A symbolic link stays one.
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with draft.open("xb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, draft)
        if path.read_bytes() != before:
            raise LarderError(f"{declare.shown(path)} was changed meanwhile", hint="run `doit update` again")
        draft.replace(path)
    except OSError as error:
        raise LarderError(f"cannot write {declare.shown(path)}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
