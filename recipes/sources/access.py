"""How upstream may be asked: what travels together through everything that does."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from recipes.progress import SILENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from recipes.progress import Progress


class Access(NamedTuple):
    """The settings of a run, for whoever goes out."""

    #: Prefixes of urls, and what may stand in their place; see `urls.with_mirrors`.
    mirrors: Mapping[str, Sequence[str]] = MappingProxyType({})
    #: Whether nobody may be asked over a network.
    offline: bool = False
    #: Whether the last good copy of a list is not good enough.
    strict: bool = False
    #: Whether those in between are told to ask the server (RFC 9111, 5.2.1.4).
    past_caches: bool = False
    progress: Progress = SILENCE
