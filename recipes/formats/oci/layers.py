"""The layers of a container image, made into one root file system (OCI image-spec 1.1, layer.md).

A layer is a tar of what changed. A name in it that begins with ``.wh.`` is a whiteout: it deletes what the layers below
have there, and only that, wherever in the layer it stands. So a layer is applied in two passes, its whiteouts and then
its files.

What the specification leaves open is done as umoci does it: a directory that meets a directory keeps its content and
takes over the attributes, anything else is replaced; parents that are symbolic links are followed; a hard link is to
what its target is at that time, so it outlives that another layer replaces or deletes the target.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage, ImageError, LimitExceeded
from recipes.formats.codec import compression
from recipes.formats.codec.compressed import CompressedFile
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.files import os_errors
from recipes.formats.io.parallel import in_threads
from recipes.formats.io.pipeline import Stage
from recipes.formats.io.sparse import CHUNK, SparseFile
from recipes.formats.tar import read as tar_read
from recipes.formats.tar.read import Member
from recipes.formats.tree.tree import Tree, show, split

from .layout import Blob
from .spec import WHITEOUT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from recipes.formats.io.context import Context
    from recipes.model import Digest
    from recipes.progress import Meter

    from .layout import ContainerImage, Layer

#: In a directory that hides everything the layers below have in it.
_OPAQUE = b".wh..wh..opq"
#: At the root: what aufs kept there, and old releases of docker with it. Hard links may be to what is in it.
_AUFS = b".wh..wh."


def flatten(image: ContainerImage, context: Context) -> Tree:
    """Return the root file system that the layers of `image` make; `image` may be closed then.

    Every layer is verified. A compressed one is decompressed into a new sparse file, whose path `context.scratch`
    gives and which has no name any more once it is open; up to `context.jobs` layers at once. The others stay where
    they are. Together they may have `context.limit` bytes of content, and no more than `content_limit` allows for what
    is stored. The meter is told the bytes of the layers as they are stored.

    Errors: `CorruptImage`, also for a layer that is not what the image says; `LimitExceeded`; those of
    `compression.decompress` and `tar_read.members`; `NoSpace`; `StoreError` for what else the operating system refuses.
    """
    with os_errors(image.path), ExitStack() as undo:
        tree = undo.enter_context(Tree(image.stored))
        with context.meter(sum(layer.blob.size for layer in image.layers)) as meter:
            tars = _Tars(image, tree, context, content_limit(image.stored, context.limit), meter)
            in_threads(tars.todo(), tars.work, jobs=min(context.jobs, max(1, len(image.layers))))
        with context.meter(what="reading") as meter, tree.told(meter):
            for number in range(len(image.layers)):
                source = tars.done[number].source(tars.name(number))
                apply(tree, list(tar_read.members(source, spend=tree.spend)), source.name)
        undo.pop_all()
        return tree


def apply(tree: Tree, members: Sequence[Member], name: str) -> None:
    """Make the changes to `tree` that a layer with these members is; errors call the layer `name`.

    Errors: `CorruptImage` for names and links that leave the root or cannot be, also for whiteouts of them.
    """
    try:
        # The layers below, before they change.
        below = {member.link: tree.find(member.link) for member in members if member.node is None}
        files = [member for member in members if not _whiteout(tree, member.path)]
    except ImageError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error

    def resolved() -> Iterator[Member]:
        for member in files:
            target = below.get(member.link) if member.node is None else None
            if target and not target.is_dir and tree.find(member.link) is None:
                member = Member(member.path, target, b"")
            yield member

    tar_read.extend(tree, resolved(), name)
    # Of this layer: to look at all names at the root, for each of hundreds of layers, takes seconds.
    left = {part for member in files if _AUFS in member.path for part in member.path.split(b"/")}
    for name_at_root in [each for each in left & tree.root.children.keys() if each.startswith(_AUFS)]:
        tree.remove(name_at_root)


def _whiteout(tree: Tree, path: bytes) -> bool:
    """Say whether `path` is a whiteout, and delete what it says."""
    if WHITEOUT not in path:
        return False
    *parents, name = split(path)
    if name == _OPAQUE:
        tree.clear(b"/".join(parents))
        return True
    if not name.startswith(WHITEOUT) or (parents or [name])[0].startswith(_AUFS):
        return False
    hidden = name.removeprefix(WHITEOUT)
    if hidden in (b"", b".", b".."):
        raise CorruptImage(f"{show(path)}: expected a whiteout to name a file")
    tree.remove(b"/".join([*parents, hidden]))
    return True


class _Tars:
    """The tar of each layer: verified, and decompressed where it has to be."""

    def __init__(self, image: ContainerImage, tree: Tree, context: Context, limit: int, meter: Meter) -> None:
        self._image = image
        self._tree = tree
        assert context.scratch is not None, "compressed layers are decompressed into files"
        self._scratch = context.scratch
        self._jobs = context.jobs
        self._limit = self._left = limit
        self._meter = meter
        self._lock = Lock()
        self._greedy = Lock()
        #: By number of the layer.
        self.done: dict[int, Blob] = {}

    def name(self, number: int) -> str:
        """Return what errors call a layer."""
        return f"{self._image.path}: layer {number + 1} of {len(self._image.layers)}"

    def todo(self) -> Iterator[tuple[int, Layer, str | None, SparseFile | None]]:
        """Yield number and layer, and where it is compressed the codec and the file for its tar."""
        for number, layer in enumerate(self._image.layers):
            codec = compression.detect(next(_chunks(layer.blob), b""))
            if codec is None:
                yield number, layer, None, None
                continue
            path = self._scratch()
            file = self._tree.keep(SparseFile(path, durable=False))
            path.unlink()
            yield number, layer, codec, file

    def work(self, items: Iterable[tuple[int, Layer, str | None, SparseFile | None]]) -> None:
        """Do what `todo` says."""
        for number, layer, codec, file in items:
            stored = {layer.digest} if layer.digest else set()
            if codec and file:
                self._expect(stored, number, _chunks(layer.blob))
                self.done[number] = self._decompress(number, layer, codec, file)
            else:
                self._expect(stored | {layer.diff_id}, number, self._plain(layer.blob))
                own = self._tree.keep(os.fdopen(os.dup(layer.blob.fd), "rb", buffering=0))
                self.done[number] = layer.blob._replace(fd=own.fileno())

    def _decompress(self, number: int, layer: Layer, codec: str, file: SparseFile) -> Blob:
        fd, offset, stored = layer.blob

        def pread(at: int, count: int) -> bytes:
            return os.pread(fd, min(count, stored - at), offset + at)

        wrapper = CompressedFile(self.name(number), codec, stored, pread, self._meter.advance)
        with (
            self._greedy if compression.is_greedy(wrapper) else nullcontext(),
            Stage(partial(self._expect, {layer.diff_id}, number)) as hasher,
            Stage(partial(_write, file)) as writer,
            closing(compression.content(wrapper, jobs=self._jobs)) as chunks,
        ):
            for chunk in self._counted(chunks):
                hasher.put(chunk)
                writer.put(chunk)
            writer.finish()
            hasher.finish()
        file.finish(file.position)
        return Blob(file.fileno(), 0, file.position)

    def _plain(self, blob: Blob) -> Iterator[bytes]:
        for chunk in self._counted(_chunks(blob)):
            self._meter.advance(len(chunk))
            yield chunk

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks of a tar, as long as all tars together are within the limit."""
        for chunk in chunks:
            with self._lock:
                self._left -= len(chunk)
                if self._left < 0:
                    raise LimitExceeded(
                        f"{self._image.path}: the layers expand to more than the limit of {self._limit} bytes",
                        hint="the limit is max-virtual-size, and no more than 1 GiB and 1000 times what is stored",
                    )
            yield chunk

    def _expect(self, digests: Collection[Digest], number: int, chunks: Iterable[bytes]) -> None:
        """Raise CorruptImage where the chunks of a layer do not have `digests`."""
        hashers = {digest: digest.hasher() for digest in digests}
        for chunk in chunks:
            for hasher in hashers.values():
                hasher.update(chunk)
            # Minutes of zeros come out of a few bytes: let an interruption through.
            self._meter.advance(0)
        for digest, hasher in hashers.items():
            if hasher.hexdigest() != digest.hex:
                found = f"{digest.algorithm}:{hasher.hexdigest()}"
                raise CorruptImage(
                    f"{self.name(number)}: expected {digest}, found {found}",
                    hint="the image is damaged: fetch it again, and tell its publisher if that does not help",
                )


def _chunks(blob: Blob) -> Iterator[bytes]:
    for at in range(0, blob.size, CHUNK):
        chunk = os.pread(blob.fd, min(CHUNK, blob.size - at), blob.offset + at)
        if not chunk:
            raise CorruptImage(f"expected {blob.size} bytes of a layer, found {at}: the file was cut while it was read")
        yield chunk


def _write(file: SparseFile, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        file.write(chunk)
