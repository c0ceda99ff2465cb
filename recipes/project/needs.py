"""Which images and kinds the words of a command line can need: one image among a thousand needs no other's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.derive.engine import inputs
from recipes.kinds import DERIVABLE, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from recipes.model import Image


class Needs(NamedTuple):
    """All that may be made, and looked at, in a run."""

    images: Mapping[str, Image]
    kinds: frozenset[str]


def of(words: Iterable[str], images: Mapping[str, Image]) -> Needs | None:
    """Return what ``KIND:IMAGE``, ``KIND`` and ``IMAGE`` need, with what it is made from.

    None where a word is anything else: an option, a pattern, the task of somebody's, or a slip, which is answered by
    what there is.
    """
    found: dict[str, Image] = {}
    kinds: set[str] = set()
    for word in words:
        kind, colon, name = word.partition(":")
        if word in images:
            found[word] = images[word]
            kinds |= inputs(images[word], [each for each in images[word].derive if each in KINDS])
        elif kind in KINDS and not colon:
            having = {name: image for name, image in images.items() if kind in DERIVABLE[image.kind]}
            found |= having
            kinds.add(kind)
            for image in {image.kind: image for image in having.values()}.values():
                kinds |= inputs(image, [kind])
        elif name in images and kind in DERIVABLE[images[name].kind]:
            found[name] = images[name]
            kinds |= inputs(images[name], [kind])
        else:
            return None
    return Needs(found, frozenset(kinds))
