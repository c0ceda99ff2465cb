"""The task creators: one task per image and kind, each up to date by its identity and its receipt.

`resolve:NAME` says what upstream serves; derivations depend on that identity, never on bytes, so no large file is ever
a `file_dep`. The input of a derivation is a `setup` task: doit runs it only when the derivation itself must run.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from doit.exceptions import TaskFailed
from doit.tools import result_dep

from recipes.derive import engine
from recipes.errors import LarderError
from recipes.graph.failure import failure
from recipes.kinds import DERIVABLE, KINDS
from recipes.project import workspace
from recipes.redact import shown
from recipes.sources.lists import ListRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recipes.model import Identity

TaskDict = dict[str, Any]
#: Actions report instead of printing, and doit's capture swaps sys.stdout under other threads' feet.
_IO = {"capture": False}


class Current(result_dep):  # type: ignore[misc]
    """Up to date when the receipt is the one that this identity, recipe and parameters give, and its artifact intact.

    A `result_dep`, so that `resolve:NAME` is a task_dep. Its answer does not come from doit's database: after that is
    lost, a stock result_dep calls everything stale and the inputs would be downloaded again.
    """

    # doit inspects every calculator of every task; reading the signature from here halves the time of a no-op run.
    __signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("task", "values")]
    )

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"resolve:{name}")
        self.kind = kind
        self.name = name

    def __call__(self, task: object, values: object) -> bool:
        """Answer doit."""
        space = workspace.current()
        image = space.images[self.name]
        try:
            return engine.ensure_current(self.kind, image, space.identity(image), space.session)
        except LarderError:
            return False


def task__sums() -> Iterator[TaskDict]:
    """The checksum lists and tags that declarations follow, each asked for once a run."""
    yield {"basename": "_sums", "name": None, "doc": task__sums.__doc__}
    for ref in sorted(_lists(), key=lambda ref: ref.key):
        yield {
            "name": ref.key,
            "doc": f"the {ref.what}",
            "actions": [(refresh, [ref])],
            "uptodate": [(is_fresh, [ref])],
            "io": _IO,
        }


def _lists() -> set[ListRef]:
    refs = (ListRef.of(image.source) for image in workspace.current().needed.values())
    return {ref for ref in refs if ref is not None}


def refresh(ref: ListRef) -> dict[str, str] | TaskFailed:
    """Ask upstream for a checksum list, unless it says that the one at hand is still right."""
    space = workspace.current()
    try:
        space.refresh(ref, space.session.progress)
    except LarderError as error:
        return failure(error)
    return {"list": shown(ref.url)}


def is_fresh(task: object, values: object, ref: ListRef) -> bool:
    """Say whether a list was asked for so recently that it need not be again."""
    return workspace.current().lists.is_fresh(ref)


def task_resolve() -> Iterator[TaskDict]:
    """What upstream serves of each image: url, digest, size."""
    yield {"basename": "resolve", "name": None, "doc": task_resolve.__doc__}
    for name, image in workspace.current().needed.items():
        ref = ListRef.of(image.source)
        yield {
            "name": name,
            "doc": f"what upstream serves of {image.title or name}: url, digest, size",
            "task_dep": [f"_sums:{ref.key}"] if ref else [],
            "actions": [(resolve, [name])],
            "uptodate": [(is_resolved, [name])],
            "io": _IO,
        }


def resolve(name: str) -> dict[str, Any] | TaskFailed:
    """Return the identity of the image `name` for doit's database."""
    try:
        return _recorded(_identity(name))
    except LarderError as error:
        return failure(error)


def is_resolved(task: object, values: dict[str, Any], name: str) -> bool:
    """Say whether doit's database holds what `resolve` would return."""
    try:
        return bool(values == _recorded(_identity(name)))
    except LarderError:
        return False


def _identity(name: str) -> Identity:
    space = workspace.current()
    return space.identity(space.images[name])


def _recorded(identity: Identity) -> dict[str, Any]:
    return {
        **identity._asdict(),
        "urls": [shown(url) for url in identity.urls],
        "digest": str(identity.digest),
        "content": str(identity.content) if identity.content else None,
    }


def derivations(kind: str) -> Iterator[TaskDict]:
    """Yield the group of `kind` and a task for each image that can have it."""
    row = KINDS[kind]
    yield {"basename": kind, "name": None, "doc": row.doc.format(title="each image")}
    space = workspace.current()
    for name, image in space.needed.items():
        if kind not in DERIVABLE[image.kind]:
            continue
        made_from = DERIVABLE[image.kind][kind]
        yield {
            "basename": kind,
            "name": name,
            "doc": row.doc.format(title=image.title or name),
            "actions": [(derive, [kind, name])],
            "targets": [str(space.session.store.entry(image).artifact(kind))],
            "task_dep": [f"pull:{name}"] if space.remote else [],
            "setup": [f"{made_from}:{name}"] if made_from else [],
            "uptodate": [Current(kind, name)],
            "clean": [(clean, [kind, name])],
            "io": _IO,
            "meta": {"kind": kind, "image": name},
        }


def creators() -> dict[str, Callable[[], Iterator[TaskDict]]]:
    """Return the task creators of all kinds, by the names that doit looks for in a dodo.py."""
    return {f"task_{kind}": _creator(kind) for kind in KINDS}


def _creator(kind: str) -> Callable[[], Iterator[TaskDict]]:
    # A function, and no partial: doit takes nothing else for a task creator.
    def task() -> Iterator[TaskDict]:
        return derivations(kind)

    task.__doc__ = KINDS[kind].group
    return task


def derive(kind: str, name: str) -> dict[str, str] | TaskFailed:
    """Make the artifact of `kind` of the image `name`, unless it is an input that nobody lacks any more."""
    space = workspace.current()
    try:
        receipt = space.supply(kind, space.images[name])
    except LarderError as error:
        return failure(error)
    if receipt is None:
        space.session.progress.note(f"{kind}:{name}: not needed any more, another process made what it was for")
        return {}
    return {"key": receipt.key}


def clean(kind: str, name: str) -> TaskFailed | None:
    """Delete an artifact from the cache; where another image has the same bytes, that one keeps them."""
    space = workspace.current()
    entry = space.session.store.entry(space.images[name])
    try:
        entry.path.stat()
        with entry.hold(space.session.progress) as held:
            held.discard(kind)
            held.forget(kind)
            if kind == "fetch":
                held.discard_part()
    except FileNotFoundError:
        return None
    except OSError as error:
        return TaskFailed(f"cannot delete {error.filename or entry.path}: {error.strerror}")
    except LarderError as error:
        return failure(error)
    return None
