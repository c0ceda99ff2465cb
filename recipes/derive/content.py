"""content: the wrapper without its outer compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.cache import store
from recipes.model import Artifact
from recipes.reference import serves_by_digest

from .recipe import Made, Recipe

if TYPE_CHECKING:
    from .recipe import Ahead, Work


def make(work: Work) -> Made:
    """Undo gzip, xz, bzip2 or zstd; an uncompressed wrapper gets a second name instead of a copy.

    Of a disk's archive, also of one that was compressed, and of a container image it is the file that is the disk.
    """
    from recipes.formats.codec import compression
    from recipes.formats.io import digests
    from recipes.formats.io.bounds import content_limit
    from recipes.formats.oci import disk_file
    from recipes.formats.wrapper import archived, streamed, unwrap

    from . import ahead

    path, receipt = work.input()
    wrapper = receipt.wrapper
    if work.image.kind == "disk" and serves_by_digest(work.identity.urls[0]) and disk_file.is_archive(path):
        context, name = work.context("content"), work.image.source.disktype
        disk_file.extract(path, work.temporary, context, arch=work.image.arch, name=name)
        digest = digests.of_file(work.temporary, "sha256")
        with work.temporary.open("rb") as file:
            content = unwrap.describe(file.fileno(), work.temporary.stat().st_size, digest)
        return Made(work.temporary, Artifact(digest=digest), content)
    is_disk = work.image.kind == "disk"
    if is_disk and archived.is_archive(path):
        return ahead.disk_of(work, path, wrapper.size)
    if compression.probe_codec(path) is None:
        with path.open("rb") as file:
            content = unwrap.describe(file.fileno(), wrapper.size, wrapper.digest)
        store.link(path, work.temporary)
        ahead.verify(work, work.temporary, content)
        return Made(work.temporary, Artifact(digest=content.digest), content)
    context = work.context("content")
    if is_disk and ahead.published(work) is None:
        found = streamed.take(path, work.temporary, context, pattern=work.image.source.member)
        if found is not None:
            return Made(work.temporary, Artifact(digest=found.digest, blkhash=found.blkhash), found.content)
    limit = content_limit(wrapper.size, context.limit)
    unwrapped = unwrap.unwrap(path, work.temporary, context._replace(limit=limit), published=ahead.published(work))
    content = unwrapped.content
    ahead.verify(work, work.temporary, content)
    if is_disk and content.format in archived.FORMATS:
        try:
            return ahead.disk_of(work, work.temporary, wrapper.size)
        finally:
            work.temporary.unlink()
    return Made(work.temporary, Artifact(digest=content.digest, blkhash=unwrapped.blkhash), content)


def _ahead(work: Work) -> Ahead:
    from .ahead import Ahead

    return Ahead(work)


RECIPE = Recipe(
    kind="content",
    version=1,
    make=make,
    # Only where it is said: the keys of everything else are as they were.
    parameters=lambda image, identity: {"member": image.source.member} if image.source.member else {},
    ahead=_ahead,
)
