"""The receipt: the JSON beside an artifact that says what it is and what it came from.

It is the truth about the cache (doit's database is only an index over it), and a public contract:
schema/receipt.schema.json describes it, `SCHEMA_VERSION` counts its incompatible changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from .model import Artifact, BlockHash, Content, Digest, Identity, Wrapper

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1


def derivation_key(recipe: str, digest: Digest) -> str:
    """Return the key of what `recipe` (name and version) makes of the wrapper with `digest`.

    The url is no part of it: a mirror, a moved file or a second name serve the same bytes.
    """
    text = json.dumps({"recipe": recipe, "wrapper": str(digest)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Served:
    """What the server said of the bytes that were downloaded."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an artifact is and what it came from; sizes are bytes, durations seconds, times RFC 3339 in UTC."""

    kind: str
    key: str
    #: Name and version of the recipe that made it.
    recipe: str
    image: str
    arch: str
    identity: Identity
    #: When upstream served it.
    when: str
    served: Served
    wrapper: Wrapper
    artifact: Artifact
    made: str
    content: Content | None = None
    durations: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document that schema/receipt.schema.json describes."""
        document: dict[str, Any] = {"larder": SCHEMA_VERSION, **_plain(self)}
        document["identity"]["url"] = document["identity"].pop("urls")[0]
        document["identity"]["when"] = document.pop("when")
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the document; raise KeyError, TypeError or ValueError where it is not a receipt of this version."""
        if document["larder"] != SCHEMA_VERSION:
            raise ValueError(f"receipt version {document['larder']!r}, expected {SCHEMA_VERSION}")
        identity, wrapper = document["identity"], document["wrapper"]
        content, artifact = document["content"], document["artifact"]
        blkhash = artifact["blkhash"]
        return cls(
            kind=document["kind"],
            key=document["key"],
            recipe=document["recipe"],
            image=document["image"],
            arch=document["arch"],
            identity=Identity(
                (identity["url"],), Digest.parse(identity["digest"]), identity["size"], _digest(identity["content"])
            ),
            when=identity["when"],
            served=Served(**document["served"]),
            wrapper=Wrapper(Digest.parse(wrapper["digest"]), int(wrapper["size"])),
            artifact=Artifact(
                size=int(artifact["size"]),
                allocated=int(artifact["allocated"]),
                mtime_ns=int(artifact["mtime_ns"]),
                digest=_digest(artifact["digest"]),
                blkhash=BlockHash(**blkhash) if blkhash else None,
            ),
            made=document["made"],
            content=Content(**{**content, "digest": Digest.parse(content["digest"])}) if content else None,
            durations=dict(document["durations"]),
        )


def _digest(text: str | None) -> Digest | None:
    return Digest.parse(text) if text else None


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it: dataclasses become objects, digests their text."""
    if isinstance(value, Digest):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def plain(value: Artifact | Content) -> dict[str, Any]:
    """Return one section of a receipt as JSON has it, for reports that are not about the cache."""
    section: dict[str, Any] = _plain(value)
    return section
