"""The lists that images follow, and the pins that they lead to: the facts behind `larder update`."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from recipes import declare
from recipes.declare import tomledit, tomlpos
from recipes.declare.urls import is_relative, resolved
from recipes.errors import DeclarationError, LarderError
from recipes.formats.io import files
from recipes.names import tail, with_tail
from recipes.redact import shown
from recipes.reference import SCHEME, Reference, is_layout
from recipes.sources import repin
from recipes.sources.lists import ListRef
from recipes.sources.urls import with_mirrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from recipes.declare.declaration import Declaration
    from recipes.model import Image, Source
    from recipes.progress import Progress

    from .workspace import Workspace

    Changes = dict[tomlpos.Path, str | int | None]

T = TypeVar("T")

#: Lists and images that are asked for at once: each is a few round trips and next to no bytes.
PROBES = 8


def each_at_once(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Call `function` with each of `items`, `PROBES` at once."""
    left = deque(items)
    bugs: list[BaseException] = []

    def work() -> None:
        while True:
            try:
                item = left.popleft()
            except IndexError:
                return
            try:
                function(item)
            except BaseException as error:
                bugs.append(error)

    # Not an executor's threads: Python waits for those before it exits, and a server that hangs would hold Ctrl-C up.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(PROBES, len(left)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if bugs:
        raise bugs[0]


def refresh(
    space: Workspace, images: Iterable[Image], progress: Progress, *, pinned: bool = False
) -> dict[Image, LarderError]:
    """Bring the lists of `images` up to date, as `_sums` would; return the images that have none to use.

    Of those that are `pinned` too, for which the last good copy is not good enough: it would pin what upstream served
    then.
    """
    refused: dict[Image, LarderError] = {}
    users: dict[ListRef, list[Image]] = {}
    for image in images:
        try:
            ref = ListRef.declared(image.source) if pinned else ListRef.of(image.source)
        except LarderError as error:
            refused[image] = error
        else:
            if ref and (pinned or not space.lists.is_fresh(ref)):
                users.setdefault(ref, []).append(image)

    def ask(ref: ListRef) -> None:
        try:
            space.refresh(ref, progress, strict=pinned)
        except LarderError as error:
            refused.update(dict.fromkeys(users[ref], error))

    each_at_once(ask, users)
    return refused


def is_followed(image: Image) -> bool:
    """Say whether the declaration names a list or a tag, without a look at the keyring."""
    source = image.source
    url = source.urls[0]
    tagged = url.startswith(SCHEME) and Reference.parse(url).tag is not None
    return source.checksums is not None or tagged or is_layout(url)


def is_outdated(space: Workspace, image: Image) -> bool:
    """Say whether `image` is pinned and its list, as last seen, lists other bytes."""
    if image.source.digest is None:
        return False
    try:
        ref = ListRef.declared(image.source)
        if ref is None:
            return False
        return _wanted(space, image, ref).digest != image.source.digest
    except LarderError:
        # The list was never asked for, or does not name the image: `larder update` says so.
        return False


def _wanted(space: Workspace, image: Image, ref: ListRef) -> Source:
    return repin.repinned(image.source, image.arch, space.lists.read(ref), is_disk=image.kind == "disk")


def repinned(space: Workspace, image: Image) -> Source:
    """Return what `image` is to be pinned to; a url that moved was asked whether it is there."""
    source = image.source
    ref = ListRef.declared(source)
    assert ref is not None, "only images with a list come here"
    latest = _wanted(space, image, ref)
    if ref.is_tag:
        # The registry served what the new urls name.
        return latest
    lost_size = source.size is not None and latest.size is None
    if latest.urls != source.urls or lost_size:
        size = repin.announced(with_mirrors(latest.urls, space.declaration.mirrors), label="the new image")
        if lost_size:
            latest = latest._replace(size=size)
    return latest


def edited(before: bytes, declaration: Declaration, latest: dict[Image, Source], path: Path) -> bytes:
    """Return the text of images.toml, which says `declaration`, with the sources `latest`; nothing else changes.

    Raise DeclarationError where the new text would not declare them.
    """
    text = before.decode("utf-8-sig")
    document = tomlpos.loads(text)
    changes: Changes = {}
    for image, source in latest.items():
        table = document["images"][image.name][image.arch]
        changes.update(_changes(("images", image.name, image.arch), table, image.source, source, path.parent))
    after = before.removesuffix(text.encode()) + tomledit.edit(text, changes).encode()
    _require(declaration, latest, after, path)
    return after


def _as_written(before: str, after: str, folder: Path) -> str:
    """Return the url `after` in place of `before`: from the folder of images.toml where that one is."""
    if is_relative(before):
        names = [segment for segment in before.split("/") if segment not in (".", "..")]
        shorter = with_tail(before, tail(after, len(names)))
        if resolved(shorter, folder) == after:
            return shorter
    return after


def _changes(path: tomlpos.Path, table: dict[str, Any], old: Source, new: Source, folder: Path) -> Changes:
    changes: Changes = {}
    for index, (before, after) in enumerate(zip(old.urls, new.urls, strict=True)):
        if before != after:
            several = isinstance(table["url"], list)
            written = table["url"][index] if several else table["url"]
            changes[(*path, "url", index) if several else (*path, "url")] = _as_written(written, after, folder)
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


def diff(before: str, after: str, name: str) -> str:
    """Return a unified diff that `patch` applies, unless a url in it has secrets, which are left out."""
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))
    lines = difflib.unified_diff(old, new, fromfile=name, tofile=name)
    whole = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return shown("".join(whole).removesuffix("\n"))


def replace(path: Path, before: bytes, after: bytes) -> None:
    """Replace the file at `path`, which held `before` when it was read, as a whole."""
    # A symbolic link stays one.
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        files.write(draft, after)
        shutil.copymode(path, draft)
        if path.read_bytes() != before:
            raise LarderError(f"{declare.shown(path)} was changed meanwhile", hint="run the command again")
        draft.replace(path)
    except OSError as error:
        raise LarderError(f"cannot write {declare.shown(path)}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
