"""`pull:NAME`, which derivations wait for, and `push:NAME`: from and to the registry that images.toml declares."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from recipes.cache import usage
from recipes.derive import engine
from recipes.errors import LarderError, StoreError
from recipes.graph.failure import failure
from recipes.kinds import DERIVABLE, IMAGES
from recipes.project import workspace
from recipes.project.look import asked_of
from recipes.units import format_size

from .optional import OptionTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doit.exceptions import TaskFailed

    from recipes.exchange.pull import Remote
    from recipes.model import Image
    from recipes.project.workspace import Workspace

PARAMS: tuple[dict[str, Any], ...] = (
    {
        "name": "kind",
        "long": "kind",
        "type": list,
        "default": [],
        "metavar": "KIND",
        "help": "what to push, made first where it is not there; again for more (default: what is asked for)",
    },
)


class Settled:
    """`pull:NAME` is up to date when there is nothing to pull, or nothing to pull it from."""

    # See tasks.Current.
    __signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("task", "values")]
    )

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, task: object, values: object) -> bool:
        """Answer doit."""
        from recipes.exchange import pull

        space = workspace.current()
        if space.settings.offline or space.remote is None or space.remote.is_gone:
            return True
        image = space.images[self.name]
        try:
            identity = space.identity(image)
            return not any(pull.lacking(kind, image, identity, space.session) for kind in _wanted(space, image))
        except LarderError:
            return False


def task_pull() -> Iterator[dict[str, Any]] | None:
    """What the registry has of each image, in place of making it."""
    space = workspace.current()
    return _pulls(space, space.remote) if space.remote else None


def _pulls(space: Workspace, remote: Remote) -> Iterator[dict[str, Any]]:
    yield {"basename": "pull", "name": None, "doc": task_pull.__doc__}
    for name, image in space.needed.items():
        yield {
            "basename": "pull",
            "name": name,
            "doc": f"what {remote.namespace} has of {image.title or name}",
            "actions": [(pull_image, [name])],
            "task_dep": [f"resolve:{name}"],
            "uptodate": [Settled(name)],
            "io": {"capture": False},
        }


def pull_image(name: str) -> dict[str, Any] | TaskFailed:
    """Pull what the registry has of what this run wants of the image `name`; that it has nothing is no failure."""
    space = workspace.current()
    image = space.images[name]
    assert space.remote is not None, "there is no such task without a registry"
    try:
        wanted = _wanted(space, image)
        pulled = space.remote.pull(wanted, image, space.identity(image), space.session)
    except LarderError as error:
        return failure(error)
    if not pulled and name not in space.session.wanted and not space.remote.is_gone:
        # Asked for by its own name, and so worth an answer.
        kinds = ", ".join(wanted)
        space.session.progress.note(f"pull:{name}: {space.remote.namespace} has nothing of it ({kinds})")
    return {}


def _wanted(space: Workspace, image: Image) -> list[str]:
    """Return what this run wants of `image`: what it works towards, and if that is nothing, what is asked for."""
    kinds = space.session.wanted.get(image.name) or asked_of(space, image)
    return [kind for kind in DERIVABLE[image.kind] if kind in kinds]


class PushTask(OptionTask):
    """The artifacts of one image that go to the registry."""

    def __init__(self, image: Image) -> None:
        super().__init__("push", image, f"{image.title or image.name} in the registry", PARAMS)

    def read(self, options: dict[str, Any]) -> tuple[str, ...]:
        """Find out which artifacts are meant."""
        possible = DERIVABLE[self.image.kind]
        for kind in options["kind"]:
            if kind not in possible:
                raise StoreError(f"a {IMAGES[self.image.kind]} has no {kind}, but {', '.join(possible)}")
        kinds = set(options["kind"]) or asked_of(workspace.current(), self.image)
        if not kinds:
            raise StoreError("nothing is asked for of it", hint=f"larder {self.name} --kind KIND")
        return tuple(kind for kind in possible if kind in kinds)

    def act(self) -> None:
        """Push them."""
        from recipes.exchange import push
        from recipes.formats.io.context import Context

        space = workspace.current()
        assert space.remote is not None, "there is no such task without a registry"
        entry, identity = space.session.store.entry(self.image), space.identity(self.image)
        receipts = []
        for kind in self.kinds:
            receipt = entry.current(kind, engine.key_of(kind, self.image, identity))
            if receipt is None:
                raise StoreError(f"{kind}:{self.image.name} is not in the cache any more", hint="push it again")
            usage.record(entry, kind)
            receipts.append(receipt)
        done = push.push(
            space.remote.namespace,
            entry,
            receipts,
            Context(space.session.progress, self.name, space.settings.jobs),
            twins={receipt.kind: _twins(space, self.image, receipt.kind, receipt.key) for receipt in receipts},
            offline=space.settings.offline,
        )
        for each in done:
            sent = f"{format_size(each.sent)} sent" if each.sent else "nothing to send"
            space.session.progress.note(f"{self.name}: {each.kind}: {each.reference}, {sent}")


def _twins(space: Workspace, image: Image, kind: str, key: str) -> list[str]:
    """Return the names of other images that have the same artifact of `kind`."""
    found = []
    for other in space.images.values():
        if other.name != image.name and kind in DERIVABLE[other.kind]:
            try:
                same = engine.key_of(kind, other, space.identity(other)) == key
            except LarderError:
                continue
            if same:
                found.append(other.name)
    return found


def task_push() -> Iterator[dict[str, Any] | PushTask] | None:
    """What is asked for of each image, in the registry: larder push:NAME."""
    space = workspace.current()
    return _pushes(space) if space.remote else None


def _pushes(space: Workspace) -> Iterator[dict[str, Any] | PushTask]:
    yield {"basename": "push", "name": None, "doc": task_push.__doc__}
    for image in space.images.values():
        yield PushTask(image)
