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

from recipes.model import Artifact, BlockHash, Content, Digest, Identity, Wrapper
from recipes.redact import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1


def derivation_key(recipe: str, source: str, parameters: Mapping[str, object]) -> str:
    """Return the key of what `recipe` (name and version) makes of `source` with these `parameters`.

    `source` is the key of the input, and for what has no input the digest of the identity. The url is no part of it: a
    mirror, a moved file or a second name serve the same bytes.
    """
    text = json.dumps({"recipe": recipe, "source": source, **parameters}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Served:
    """What the server said of the bytes that were downloaded."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Pulled:
    """Where an artifact that was not made here came from."""

    #: ``oci://HOST/NAME:TAG`` of its manifest.
    reference: str
    #: Digest of its manifest.
    digest: str
    #: RFC 3339, in UTC.
    when: str


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
    #: None for what was made here.
    pulled: Pulled | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document that schema/receipt.schema.json describes."""
        document: dict[str, Any] = {"larder": SCHEMA_VERSION, **_plain(self)}
        # Anybody may read a receipt, and it goes to registries.
        document["identity"]["url"] = shown(document["identity"].pop("urls")[0])
        document["served"]["url"] = shown(document["served"]["url"])
        document["identity"]["when"] = document.pop("when")
        if self.pulled is None:
            del document["pulled"]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the document; raise KeyError, TypeError or ValueError where it is not a receipt of this version."""
        if document["larder"] != SCHEMA_VERSION:
            raise ValueError(f"receipt version {document['larder']!r}, expected {SCHEMA_VERSION}")
        identity, wrapper = _object(document["identity"]), _object(document["wrapper"])
        content, artifact = document["content"], _object(document["artifact"])
        blkhash = artifact["blkhash"]
        return cls(
            kind=_text(document["kind"]),
            key=_text(document["key"]),
            recipe=_text(document["recipe"]),
            image=_text(document["image"]),
            arch=_text(document["arch"]),
            identity=Identity(
                (_text(identity["url"]),),
                Digest.parse(_text(identity["digest"])),
                None if identity["size"] is None else _number(identity["size"]),
                _digest(identity["content"]),
            ),
            when=_text(identity["when"]),
            served=Served(**_texts(document["served"])),
            wrapper=Wrapper(Digest.parse(_text(wrapper["digest"])), _number(wrapper["size"])),
            artifact=Artifact(
                size=_number(artifact["size"]),
                allocated=_number(artifact["allocated"]),
                mtime_ns=_number(artifact["mtime_ns"]),
                digest=_digest(artifact["digest"]),
                blkhash=_blkhash(_object(blkhash)) if blkhash else None,
            ),
            made=_text(document["made"]),
            content=_content(_object(content)) if content else None,
            durations={_text(step): _seconds(spent) for step, spent in _object(document["durations"]).items()},
            pulled=Pulled(**_texts(document["pulled"])) if "pulled" in document else None,
        )


# A receipt comes from a cache that CI restored, or from a registry: nothing in it is believed to be of the right type.


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return value


def _texts(value: Any) -> dict[str, Any]:
    return {key: text if text is None else _text(text) for key, text in _object(value).items()}


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value.bit_length() > 63:
        raise TypeError("expected a number that a file's size or time can be")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 1 << 63:
        raise TypeError("expected a duration")
    return float(value)


def _digest(text: Any) -> Digest | None:
    return Digest.parse(_text(text)) if text else None


def _blkhash(section: Mapping[str, Any]) -> BlockHash:
    algorithm, construction, digits = (_text(section[key]) for key in ("algorithm", "construction", "hex"))
    return BlockHash(algorithm, _number(section["block_size"]), construction, digits)


def _content(section: Mapping[str, Any]) -> Content:
    claimed = section["virtual_size"]
    return Content(
        _digest(section["digest"]),
        _number(section["size"]),
        _text(section["format"]),
        None if claimed is None else _number(claimed),
    )


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it: digests become their text, what else has named fields an object."""
    if isinstance(value, Digest):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def plain(value: Artifact | Content) -> dict[str, Any]:
    """Return one section of a receipt as JSON has it, for reports that are not about the cache."""
    section: dict[str, Any] = _plain(value)
    return section
