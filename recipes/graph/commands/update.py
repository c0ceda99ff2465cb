"""`larder update`: pins in images.toml, brought to what upstream serves."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from recipes import declare
from recipes.console import console
from recipes.errors import LarderError
from recipes.graph.missing import undeclared
from recipes.project import pins
from recipes.redact import shown
from recipes.reference import SCHEME

from .command import JSON, CacheCommand, show
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
    cmd_options = (_CHECK, JSON)

    def _execute(self, check: bool, json: bool, pos_args: list[str]) -> int:
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
            outcome = _asked(space, images, progress)
            after = pins.edited(before, declaration, outcome.latest, space.settings.images)
            diff = pins.diff(before.decode(), after.decode(), str(declare.shown(space.settings.images)))
            is_written = after != before and not check
            if is_written:
                pins.replace(space.settings.images, before, after)
            if json:
                facts = {"images": str(space.settings.images), **outcome.to_json(), "diff": diff, "written": is_written}
                show(jsonlib.dumps(facts, indent=1))
            else:
                show(diff)
            if after == before and not outcome.failed and not json:
                followed = sum(bool(image.source.digest) and pins.is_followed(image) for image in images)
                progress.write(_nothing(followed))
        except LarderError as error:
            progress.write(f"{error}\n")
            return FAILED
        finally:
            progress.close()
        return FAILED if outcome.failed or (check and after != before) else 0


@dataclass(slots=True)
class _Outcome:
    """What upstream's lists say of the images."""

    #: Of those whose pin is not what upstream serves.
    latest: dict[Image, Source] = field(default_factory=dict)
    #: Why an image was passed over.
    skipped: dict[Image, str] = field(default_factory=dict)
    #: Why nothing could be found out.
    failed: dict[Image, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return {
            "updated": [
                {**_of(image), "from": _source(image.source), "to": _source(source)}
                for image, source in self.latest.items()
            ],
            "skipped": [{**_of(image), "why": why} for image, why in self.skipped.items()],
            "failed": [{**_of(image), "why": why} for image, why in self.failed.items()],
        }


def _of(image: Image) -> dict[str, str]:
    return {"image": image.name, "arch": image.arch}


def _source(source: Source) -> dict[str, Any]:
    digest = str(source.digest) if source.digest else None
    return {"urls": [shown(url) for url in source.urls], "digest": digest, "size": source.size}


def _nothing(followed: int) -> str:
    if not followed:
        return "nothing to update: none of them is pinned and followed\n"
    pins_are = "1 pin is" if followed == 1 else f"{followed} pins are"
    return f"nothing to update: {pins_are} what upstream serves\n"


def _asked(space: Workspace, images: Collection[Image], progress: Console) -> _Outcome:
    """Ask what upstream serves of the images; say what is passed over and what fails."""
    outcome = _Outcome()
    followed = [image for image in images if image.source.digest and pins.is_followed(image)]
    refused = pins.refresh(space, followed, progress, pinned=True)
    for image in images:
        if why := _skipped(image):
            outcome.skipped[image] = why
            progress.write(f"{image.name} ({image.arch}): skipped, {why}\n")
            continue
        try:
            if image in refused:
                raise refused[image]
            source = pins.repinned(space, image)
        except LarderError as error:
            outcome.failed[image] = str(error)
            progress.write(f"{image.name} ({image.arch}): {error}\n")
        else:
            if source != image.source:
                outcome.latest[image] = source
    return outcome


def _skipped(image: Image) -> str | None:
    """Say why there is nothing to update of `image`; None where it is pinned and follows something."""
    if not pins.is_followed(image):
        what = "no tag is" if image.source.urls[0].startswith(SCHEME) else "no `checksums` are"
        return f"{what} declared to follow"
    if image.source.digest is None:
        return f"it is not pinned and follows its {'list' if image.source.checksums else 'tag'} already"
    return None
