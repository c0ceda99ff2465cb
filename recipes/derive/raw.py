"""raw: a disk image as a sparse RAW file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.cache import store
from recipes.formats.io.probe import RAW_FORMATS
from recipes.formats.io.sparse import SECTOR
from recipes.model import Artifact

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Work


def make(work: Work) -> Made:
    """Convert the content to RAW; content that is RAW already becomes it, or is cloned where it is to stay."""
    from recipes.formats.disk import to_raw as disk
    from recipes.formats.io import blkhash

    path, receipt = work.input()
    content = receipt.content
    assert content is not None, "the receipt of a content describes it"
    context = work.context("raw")
    # The receipt may be of an earlier larder, which took more for a disk.
    plain = disk.require_disk(path) in RAW_FORMATS
    # A disk has whole sectors, so an odd size is for to_raw to round up.
    if plain and content.size % SECTOR == 0 and content.size <= context.limit:
        digest = receipt.artifact.blkhash
        if digest is None:
            with context.meter() as meter:
                digest = blkhash.of_file(path, jobs=context.jobs, meter=meter)
        if work.keep_source:
            store.link(path, work.temporary)
            path = work.temporary
        return Made(path, Artifact(blkhash=digest), content)
    made = disk.to_raw(path, work.temporary, context)
    return Made(work.temporary, Artifact(blkhash=made.blkhash), content)


RECIPE = Recipe(
    kind="raw",
    version=1,
    make=make,
)
