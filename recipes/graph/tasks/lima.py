"""`doit lima:NAME`: an image in Lima's own download cache, as limactl would have put it there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doit
from doit.exceptions import TaskFailed

from recipes.cache import usage
from recipes.console import tell
from recipes.derive import engine
from recipes.errors import LarderError, StoreError
from recipes.export import lima
from recipes.export.lima import Supply
from recipes.formats.codec import compression
from recipes.formats.io.digests import of_file
from recipes.graph.failure import failure
from recipes.kinds import DERIVABLE
from recipes.model import DIGEST_LENGTHS
from recipes.project import workspace
from recipes.redact import shown
from recipes.settings import expand, user_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.cache.store import Entry
    from recipes.model import Digest, Identity, Image
    from recipes.project.workspace import Workspace

PARAMS: tuple[dict[str, Any], ...] = (
    {
        "name": "lima_cache",
        "long": "lima-cache",
        "default": "",
        "metavar": "DIR",
        "help": "Lima's cache, where it is not in the platform's folder for caches",
    },
    {
        "name": "template",
        "long": "template",
        "type": bool,
        "default": False,
        "help": "print the `images:` of a Lima template; they name the RAW in larder's cache where Lima's cannot help",
    },
)


def task_lima() -> Iterator[dict[str, Any]]:
    """Each disk image in Lima's download cache."""
    yield {"basename": "lima", "name": None, "doc": task_lima.__doc__}
    for name, image in workspace.current().images.items():
        if "raw" not in DERIVABLE[image.kind]:
            continue
        yield {
            "basename": "lima",
            "name": name,
            "doc": f"{image.title or name} in Lima's download cache",
            "actions": [(export, [name])],
            "params": PARAMS,
            "task_dep": [f"resolve:{name}"],
            "uptodate": [(is_exported, [name])],
            "clean": [(clean, [name])],
            "io": {"capture": False},
        }


def export(name: str, lima_cache: str, template: bool) -> dict[str, str] | TaskFailed:
    """Bring what Lima needs of the image `name` into its cache, and print the template where that is wanted."""
    space = workspace.current()
    try:
        image = space.images[name]
        identity = space.identity(image)
        cache = _folder(lima_cache)
        if template:
            tell(sys.stdout, f"{lima.template(_locations(space, image, identity, cache), image.arch)}\n")
        else:
            _fill(space, image, identity, cache, compressed=True)
    except LarderError as error:
        return failure(error)
    return {"digest": str(identity.digest)}


def is_exported(task: Any, values: object, name: str) -> bool:
    """Say whether Lima's cache has what it needs, and nothing is to be printed."""
    space = workspace.current()
    options = task.options or {}
    if options.get("template"):
        return False
    try:
        image = space.images[name]
        identity = space.identity(image)
        return _misses(image, identity, _folder(options.get("lima_cache", ""))) == ()
    except LarderError:
        return False


def clean(name: str) -> TaskFailed | None:
    """Remove the image from Lima's cache; what Lima has of another release stays."""
    space = workspace.current()
    try:
        image = space.images[name]
        identity = space.identity(image)
        for url in lima.cached_urls(image, identity):
            lima.remove(_folder(""), url, identity.digest, space.session.progress)
    except OSError as error:
        return TaskFailed(f"cannot delete {error.filename}: {error.strerror}")
    except LarderError as error:
        return failure(error)
    return None


def _folder(option: str) -> Path:
    if option:
        # doit has gone to the folder of dodo.py.
        return Path(doit.get_initial_workdir()) / expand(option)
    # Go's os.UserCacheDir, on Linux and macOS.
    found = user_cache("lima")
    if found is None:
        raise StoreError(
            "nothing says where Lima's cache is: this user has no home folder", hint="--lima-cache DIR says it"
        )
    return found


def _misses(image: Image, identity: Identity, cache: Path) -> tuple[str, ...]:
    """Return the urls under which Lima would not find the image; raise StoreError where it would look under none."""
    urls = lima.cached_urls(image, identity)
    if not urls:
        raise StoreError(
            f"Lima caches what it downloads with http, and {shown(identity.urls[0])} is not",
            hint=f"doit lima:{image.name} --template prints what to write into a Lima template instead",
        )
    return tuple(url for url in urls if not lima.is_hit(lima.entry_of(cache, url), identity.digest, identity.size))


def _fill(space: Workspace, image: Image, identity: Identity, cache: Path, *, compressed: bool) -> bool:
    """Put the image into Lima's cache; False, and its RAW is asked for, where it is compressed and not to go there."""
    missing = _misses(image, identity, cache)
    if not missing:
        return True
    progress, entry = space.session.progress, space.session.store.entry(image)
    with engine.lend(("fetch", "raw"), image, identity, space.session) as derive:
        receipt, wrapper = derive("fetch"), entry.artifact("fetch")
        if not compressed and compression.probe_codec(wrapper) is not None:
            entry.ask("raw")
            return False
        with progress.meter(f"lima:{image.name}") as meter:
            digests = {digest.algorithm: digest for digest in (identity.digest, receipt.wrapper.digest)}
            for algorithm in DIGEST_LENGTHS.keys() - digests.keys():
                # These bytes were verified, so any of their digests is: a template may have another than images.toml.
                digests[algorithm] = of_file(wrapper, algorithm, meter)
            raw = None
            if lima.qcow2_header(wrapper) is not None:
                derive("raw")
                path = entry.artifact("raw")
                raw = path, of_file(path, identity.digest.algorithm, meter)
        for url in missing:
            lima.place(cache, url, Supply(wrapper, tuple(digests.values()), receipt.served, raw), progress)
    for kind in {"fetch", "raw"} & set(entry.kinds()):
        usage.record(entry, kind)
    return True


def _locations(space: Workspace, image: Image, identity: Identity, cache: Path) -> list[tuple[str, Digest | None]]:
    """Return what a template names: the urls, of which Lima's cache has what it needs, else the RAW in larder's cache.

    That is for what Lima does not cache (local files), decompresses for each instance, or cannot convert (QCOW2 with
    zstd clusters, without qemu-img).
    """
    entry, urls = space.session.store.entry(image), lima.cached_urls(image, identity)
    if urls and not _is_compressed(entry, image, identity) and _fill(space, image, identity, cache, compressed=False):
        data = lima.entry_of(cache, urls[0]) / "data"
        header = lima.qcow2_header(data)
        if compression.probe_codec(data) is None and (header is None or header.compression != "zstd"):
            return [(url, identity.digest) for url in urls]
    entry.ask("raw")
    if not engine.ensure_current("raw", image, identity, space.session):
        engine.derive("raw", image, identity, space.session)
    usage.record(entry, "raw")
    return [(str(entry.artifact("raw")), None)]


def _is_compressed(entry: Entry, image: Image, identity: Identity) -> bool:
    """Say whether the RAW at hand tells that the wrapper is compressed."""
    receipt = entry.current("raw", engine.key_of("raw", image, identity))
    return receipt is not None and receipt.content is not None and receipt.content.digest != receipt.wrapper.digest
