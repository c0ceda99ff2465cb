"""What an artifact is in a registry: a manifest with one layer, under the tag of its key, and an index of the newest.

The manifest is an OCI artifact (image-spec 1.1, manifest.md, "Guidelines for Artifact Usage"). Its layer is the
artifact: as zstd what compresses and may have holes, as it is what is compressed already. One annotation is the whole
receipt, so that nothing but the manifest is needed to make one of what is pulled.

The index, under the moving tag, is laid out like those of podman's machine images (containers/podman-machine-os;
podman, pkg/machine/ocipull): a manifest per architecture and ``disktype``, the architecture as the kernel calls it, one
layer with a title.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from recipes.cache.receipt import Receipt
from recipes.declare import validate
from recipes.errors import CorruptImage
from recipes.formats.io import digests
from recipes.formats.oci import spec as oci_spec
from recipes.formats.oci.spec import INDEX, MANIFEST, Descriptor
from recipes.kinds import DERIVABLE, KINDS
from recipes.redact import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from recipes.model import Digest

ARTIFACT_TYPE = "application/vnd.larder.artifact.v1"
#: The config of a manifest that has none (manifest.md, "Guidance for an Empty Descriptor").
EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_ZSTD = "application/zstd"
_PLAIN = "application/octet-stream"
_RECEIPT = "vnd.larder.receipt"
_KIND = "vnd.larder.kind"
_DISKTYPE = "disktype"
_TITLE = "org.opencontainers.image.title"


class Layer(NamedTuple):
    """The blob of an artifact."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Shared:
    """An artifact as its manifest describes it; nothing of it is verified."""

    receipt: Receipt
    layer: Layer
    is_zstd: bool


def is_compressed(kind: str) -> bool:
    """Say whether artifacts of `kind` travel as zstd."""
    return not KINDS[kind].is_compressed


def manifest(receipt: Receipt, layer: Layer, *, is_qcow2: bool = False) -> bytes:
    """Return the manifest of an artifact; `is_qcow2` tells that it is a wrapper of that format."""
    # Times of its own would make two machines' manifests of one artifact differ for no reader's good.
    said = dataclasses.replace(
        receipt,
        identity=receipt.identity._replace(urls=(shown(receipt.identity.urls[0]),)),
        served=dataclasses.replace(receipt.served, url=shown(receipt.served.url)),
        pulled=None,
    )
    disktype = _disktype(receipt.kind, is_qcow2)
    annotations = {
        _RECEIPT: json.dumps(said.to_json(), sort_keys=True, separators=(",", ":")),
        _KIND: receipt.kind,
        "org.opencontainers.image.created": receipt.made,
        "org.opencontainers.image.source": said.identity.urls[0],
        "org.opencontainers.image.revision": str(receipt.identity.digest),
        **({_DISKTYPE: disktype} if disktype else {}),
    }
    described = {
        "mediaType": _ZSTD if is_compressed(receipt.kind) else _PLAIN,
        "digest": str(layer.digest),
        "size": layer.size,
        "annotations": {_TITLE: _title(receipt, disktype)},
    }
    return oci_spec.dump(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": {
                "mediaType": _EMPTY_TYPE,
                "digest": str(digests.of_bytes(EMPTY)),
                "size": len(EMPTY),
                "data": "e30=",
            },
            "layers": [described],
            "annotations": annotations,
        }
    )


def read(data: bytes) -> Shared:
    """Read what `manifest` gave; raise CorruptImage for anything else."""
    where = "manifest"
    document = oci_spec.parse(data, dict, where)
    found = document.get("artifactType")
    if found != ARTIFACT_TYPE:
        raise CorruptImage(f"{where}: expected artifactType {ARTIFACT_TYPE}, found {str(found)[:100]!r}")
    layers = oci_spec.get(document, "layers", list, where)
    if len(layers) != 1:
        raise CorruptImage(f"{where}: expected one layer, found {len(layers)}")
    layer = Descriptor.read(layers[0], f"{where}: layers")
    if layer.media_type not in (_ZSTD, _PLAIN) or layer.size <= 0:
        raise CorruptImage(f"{where}: expected a layer of zstd or of bytes, found {layer.media_type}, {layer.size}")
    annotations = oci_spec.get(document, "annotations", dict, where)
    where = f"{where}: {_RECEIPT}"
    said = oci_spec.parse(oci_spec.get(annotations, _RECEIPT, str, where).encode(), dict, where)
    wrong = next(validate.problems(said, validate.schema("receipt")), None)
    if wrong is not None:
        raise CorruptImage(f"{where}: {wrong.path}: {wrong.message}")
    try:
        receipt = Receipt.from_json(said)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptImage(f"{where}: {error}") from error
    return Shared(receipt, Layer(layer.digest, layer.size), layer.media_type == _ZSTD)


def entry(data: bytes) -> dict[str, Any]:
    """Return what the index says of the artifact whose manifest is `data`."""
    document = json.loads(data)
    receipt = read(data).receipt
    annotations = document["annotations"]
    return {
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "digest": str(digests.of_bytes(data)),
        "size": len(data),
        "platform": {"architecture": receipt.arch, "os": "linux"},
        "annotations": {each: annotations[each] for each in (_KIND, _DISKTYPE) if each in annotations},
    }


def index(present: bytes | None, entries: Sequence[dict[str, Any]], gone: Collection[str] = ()) -> bytes:
    """Return the index `present` with `entries`, each in the place of the one for its architecture and kind.

    What others have put into it stays, but for manifests with the digests `gone`. Raise CorruptImage where it is no
    index.
    """
    where = "index"
    document = oci_spec.parse(present, dict, where) if present is not None else {}
    if present is not None and document.get("mediaType") != INDEX:
        raise CorruptImage(f"{where}: expected {INDEX}, found {str(document.get('mediaType'))[:100]!r}")
    others = oci_spec.get(document, "manifests", list, where, [])
    for each in others:
        Descriptor.read(each, where)
    replaced = {_place(each) for each in entries}
    kept = [each for each in others if _place(each) not in replaced and each.get("digest") not in gone]
    return oci_spec.dump(
        {
            **document,
            "schemaVersion": 2,
            "mediaType": INDEX,
            "artifactType": ARTIFACT_TYPE,
            "manifests": sorted([*kept, *entries], key=_order),
        }
    )


def manifests_in(index: bytes) -> list[Digest]:
    """Return the digests of the manifests that an index names."""
    where = "index"
    document = oci_spec.parse(index, dict, where)
    return [Descriptor.read(each, where).digest for each in oci_spec.get(document, "manifests", list, where)]


def _place(entry: Any) -> tuple[str, str] | None:
    """Return architecture and kind of an entry; None for one that is not ours."""
    try:
        return entry["platform"]["architecture"], entry["annotations"][_KIND]
    except (KeyError, TypeError):
        return None


def _order(entry: Any) -> tuple[bool, list[int], str]:
    """Put what podman takes first: the RAW, before other kinds that happen to be one."""
    place = _place(entry)
    kinds = ["raw", *DERIVABLE["disk"]]
    rank = [kinds.index(place[1])] if place and place[1] in kinds else []
    return place is None, rank, place[0] if place else ""


def _disktype(kind: str, is_qcow2: bool) -> str | None:
    """Return what podman calls the artifact, if it can make a machine of it: of a wrapper if that is a QCOW2."""
    return "qcow2" if kind == "fetch" and is_qcow2 else KINDS[kind].disktype


def _title(receipt: Receipt, disktype: str | None) -> str:
    """Return the name of the file that clients make of the layer."""
    url = urlsplit(receipt.identity.urls[0])
    if receipt.kind == "fetch" and url.scheme != "oci" and (name := PurePosixPath(unquote(url.path)).name):
        return name
    ending = f"{disktype or receipt.kind}.zst" if is_compressed(receipt.kind) else KINDS[receipt.kind].file
    return f"{receipt.image}.{receipt.arch}.{ending}"
