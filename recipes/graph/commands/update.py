"""`larder update`: pins in images.toml, brought to what upstream serves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from doit.exceptions import InvalidCommand

from recipes import declare
from recipes.console import console
from recipes.errors import LarderError
from recipes.graph.missing import undeclared
from recipes.project import pins
from recipes.reference import SCHEME

from .command import CacheCommand, show
from .spoken import FAILED

if TYPE_CHECKING:
    from collections.abc import Collection

    from recipes.console import Console
    from recipes.model import Image, Source
    from recipes.project.workspace import Workspace


_CHECK = {
    "name": "check",
    "long": "check",
    "type": bool,
    "default": False,
    "help": "write nothing; exit with 1 where something is outdated",
}


class Update(CacheCommand):
    """`larder update`."""

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
                raise InvalidCommand(undeclared(name, space))
        if space.settings.offline:
            raise InvalidCommand("`larder update` asks upstream, and LARDER_OFFLINE is set: unset it")
        names = dict.fromkeys(pos_args or declaration.images)
        images = [image for name in names for image in declaration.images[name].values()]
        progress = console(sys.stderr, space.stop)
        try:
            latest, failed = _latest(space, images, progress)
            after = pins.edited(before, declaration, latest, space.settings.images)
            show(pins.diff(before.decode(), after.decode(), str(declare.shown(space.settings.images))))
            if after != before and not check:
                pins.replace(space.settings.images, before, after)
            if after == before and not failed:
                followed = sum(bool(image.source.digest) and pins.is_followed(image) for image in images)
                progress.write(_nothing(followed))
        except LarderError as error:
            progress.write(f"{error}\n")
            return FAILED
        finally:
            progress.close()
        return FAILED if failed or (check and after != before) else 0


def _nothing(followed: int) -> str:
    if not followed:
        return "nothing to update: none of them is pinned and followed\n"
    pins_are = "1 pin is" if followed == 1 else f"{followed} pins are"
    return f"nothing to update: {pins_are} what upstream serves\n"


def _latest(space: Workspace, images: Collection[Image], progress: Console) -> tuple[dict[Image, Source], bool]:
    """Return the sources of the images that upstream serves anew, and whether one could not be found out."""
    latest: dict[Image, Source] = {}
    failed = False
    followed = [image for image in images if image.source.digest and pins.is_followed(image)]
    refused = pins.refresh(space, followed, progress, pinned=True)
    for image in images:
        label = f"{image.name} ({image.arch})"
        if not pins.is_followed(image):
            what = "no tag is" if image.source.urls[0].startswith(SCHEME) else "no `checksums` are"
            progress.write(f"{label}: skipped, {what} declared to follow\n")
        elif image.source.digest is None:
            what = "list" if image.source.checksums else "tag"
            progress.write(f"{label}: skipped, it is not pinned and follows its {what} already\n")
        else:
            try:
                if image in refused:
                    raise refused[image]
                source = pins.repinned(space, image)
            except LarderError as error:
                failed = True
                progress.write(f"{label}: {error}\n")
            else:
                if source != image.source:
                    latest[image] = source
    return latest, failed
