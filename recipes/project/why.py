"""Why an artifact would be made, or not: the facts behind `larder info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.derive.engine import RECIPES
from recipes.errors import LarderError
from recipes.kinds import DERIVABLE
from recipes.redact import shown
from recipes.units import format_size

from . import look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.cache.receipt import Receipt
    from recipes.model import Identity, Image

    from .look import Found
    from .workspace import Workspace


class Answer(NamedTuple):
    """What a run would do about an artifact, and why."""

    text: str
    is_current: bool = False


def answer(space: Workspace, kind: str, image: Image) -> Answer:
    """Return what a run would do about an artifact; nothing is asked of upstream."""
    try:
        identity = space.identity(image)
    except LarderError:
        return Answer("not known: upstream's list was not asked for yet, `larder plan` does that")
    found = look.look_at(space, image).found[kind]
    if found.state == "current":
        assert found.receipt is not None, "that is what makes it current"
        return Answer(f"up to date, made {found.receipt.made}", is_current=True)
    if twin := space.session.twin(kind, next(iter(found.keys))):
        return Answer(f"would be taken from {twin[0].image}, which has the same bytes")
    return Answer(_why(kind, found, identity))


def _why(kind: str, found: Found, identity: Identity) -> str:
    if found.state == "changed":
        return "would be looked at: its file has another size or time than its receipt says"
    if found.state == "partial":
        return f"would run: of the download {format_size(found.path.stat().st_size)} are here"
    if found.state == "stale" and found.receipt is not None:
        return f"would run: {_difference(kind, found.receipt, identity)}"
    return "would run: it is not in the cache"


def _difference(kind: str, receipt: Receipt, identity: Identity) -> str:
    """Say what tells the artifact that is here from the one that would be made."""
    if receipt.identity.digest != identity.digest:
        return f"upstream has {identity.digest}, and this was made from {receipt.identity.digest}"
    recipe = f"{kind}/{RECIPES[kind].version}"
    if receipt.recipe != recipe:
        return f"it was made as {receipt.recipe}, and this larder makes it as {recipe}"
    return "it was made with other settings than images.toml has now, or from an input that was made anew"


def facts(space: Workspace, kind: str, image: Image) -> Iterator[tuple[str, str]]:
    """Yield what there is to know of an artifact beside its reason, by name."""
    entry = space.session.store.entry(image)
    try:
        identity = space.identity(image)
        yield "upstream", f"{identity.digest} from {shown(identity.urls[0])}"
    except LarderError:
        yield "upstream", f"what {shown(image.source.checksums or image.source.urls[0])} says"
    if made_from := DERIVABLE[image.kind][kind]:
        yield "made from", f"{made_from}:{image.name}"
    askers = ["the command line"] if kind in entry.asked() else []
    askers += [f"derive of {space.settings.images}"] if kind in image.derive else []
    yield "asked for by", " and ".join(askers) or "nobody: it goes when what is made of it is there"
    yield "file", str(entry.artifact(kind))
