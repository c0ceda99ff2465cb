"""Disks as others put them into registries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .registries import OCI, Document, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

_EMPTY = b"{}"


def artifact(
    *layers: bytes,
    titles: Sequence[str] = (),
    names: Sequence[str] = (),
    types: Sequence[str] = (),
    artifact_type: str = "",
) -> Document:
    """Return a manifest of these layers, with their titles, names for KubeVirt and media types, as far as they go."""
    described = []
    for number, data in enumerate(layers):
        annotations = {
            key: values[number]
            for key, values in (("org.opencontainers.image.title", titles), ("io.kubevirt.disk.name", names))
            if number < len(values)
        }
        kind = types[number] if number < len(types) else "application/octet-stream"
        described.append({"mediaType": kind, "digest": sha256(data), "size": len(data), "annotations": annotations})
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI["manifest"],
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(_EMPTY), "size": len(_EMPTY)},
        "layers": described,
    }
    if artifact_type:
        document["artifactType"] = artifact_type
    blobs = {sha256(data): data for data in (_EMPTY, *layers)}
    return Document(json.dumps(document).encode(), OCI["manifest"], blobs)


def listing(*entries: dict[str, Any]) -> Document:
    """Return an index of these descriptors."""
    document = {"schemaVersion": 2, "mediaType": OCI["index"], "manifests": list(entries)}
    return Document(json.dumps(document).encode(), OCI["index"])
