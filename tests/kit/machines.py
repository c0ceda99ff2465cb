"""Machines that share artifacts through a registry: a cache each, within one process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from recipes.cache.store import Store
from recipes.derive import engine
from recipes.derive.engine import Session
from recipes.derive.recipe import Limits
from recipes.exchange import push
from recipes.exchange.pull import Remote
from recipes.formats.io.context import Context
from recipes.model import Digest, Identity, Image, Source
from recipes.progress import SILENT_METER
from recipes.reference import Namespace

from .project import disk, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.exchange.push import Pushed
    from recipes.progress import Meter

    from .servers import Server


class Notes:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        yield SILENT_METER


class Machine:
    """One with the image ``thing``, whose upstream is a file in `folder`."""

    def __init__(self, folder: Path, registry: Server | str, *, data: bytes | None = None, name: str = "thing") -> None:
        folder.mkdir(exist_ok=True)
        data = disk("thing") if data is None else data
        upstream = folder / "upstream.img"
        upstream.write_bytes(data)
        host = registry if isinstance(registry, str) else registry.url.partition("://")[2]
        self.namespace = Namespace.parse(f"{host}/acme")
        self.progress = Notes()
        limits = Limits(mirrors={}, max_virtual_size=1 << 40, jobs=2, offline=False)
        self.session = Session(Store(folder / "cache"), limits, self.progress)
        digest = Digest.parse(sha256(data))
        source = Source((upstream.as_uri(),), digest)
        self.image = Image(name, "x86_64", "disk", source, derive=("raw",))
        self.identity = Identity(source.urls, digest, len(data))
        self.entry = self.session.store.entry(self.image)
        self.remote = Remote(self.namespace)

    def key(self, kind: str = "raw") -> str:
        return engine.key_of(kind, self.image, self.identity)

    def build(self, kind: str = "raw") -> Receipt:
        return engine.derive(kind, self.image, self.identity, self.session)

    def push(self, *kinds: str, twins: tuple[str, ...] = ()) -> list[Pushed]:
        receipts = [self.entry.receipt(kind) for kind in kinds or ("raw",)]
        return push.push(
            self.namespace,
            self.entry,
            [receipt for receipt in receipts if receipt],
            Context(self.progress, f"push:{self.image.name}", 2),
            twins=dict.fromkeys(kinds or ("raw",), twins),
            offline=False,
        )

    def pull(self, *kinds: str) -> list[str]:
        return self.remote.pull(kinds or ("raw",), self.image, self.identity, self.session)
