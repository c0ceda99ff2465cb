"""Image layouts and docker archives, made by hand and so as their authors would not."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import zstandard

from recipes.formats.oci.spec import CONFIG, INDEX, LAYER, MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64", "variant": "v8"}

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    # Without the time of day, which would tell equal layers apart.
    "+gzip": lambda data: gzip.compress(data, mtime=0),
    "+zstd": zstandard.ZstdCompressor().compress,
}

Entry = tuple[tarfile.TarInfo, bytes]


def sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "", mode: int = 0o644) -> Entry:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname, member.mode = kind, len(data), link, mode
    return member, data


def file(name: str, data: bytes = b"") -> Entry:
    return entry(name, data=data)


def folder(name: str, mode: int = 0o755) -> Entry:
    return entry(name, tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, link=target)


def tar(*entries: Entry) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in entries:
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes], *others: Entry) -> Path:
    path.write_bytes(tar(*(file(name, data) for name, data in files.items()), *others))
    return path


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


class Layout:
    """The files of an image layout, as far as they were asked for."""

    def __init__(self) -> None:
        self.files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Add a blob and return its descriptor."""
        self.files[f"blobs/sha256/{sha256(data)}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data), **more}

    def document(self, value: Any, media_type: str, **more: Any) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media_type, **more)

    def image(
        self,
        *layers: bytes,
        runs_on: Mapping[str, str] = AMD64,
        suffix: str = "",
        config: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Add an image with these tars as layers; return the descriptor of its manifest."""
        diff_ids = [f"sha256:{sha256(layer)}" for layer in layers]
        document = {**runs_on, "rootfs": {"type": "layers", "diff_ids": diff_ids}, **(config or {})}
        manifest = {
            "schemaVersion": 2,
            "config": self.document(document, CONFIG),
            "layers": [self.blob(COMPRESS[suffix](layer), LAYER + suffix) for layer in layers],
        }
        return self.document(manifest, MANIFEST, **more)

    def index(self, *entries: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return self.document({"schemaVersion": 2, "manifests": entries}, INDEX, **more)

    def write(self, path: Path, *entries: Mapping[str, Any]) -> Path:
        """Write the layout, with these entries in its index, to a tar."""
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        return write_tar(path, self.files)


def docker_archive(layers: list[bytes], runs_on: Mapping[str, str] = AMD64) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what manifest.json says of an image with these tars as layers, and its files, as docker 20 names them."""
    diff_ids = [f"sha256:{sha256(layer)}" for layer in layers]
    config = json.dumps({**runs_on, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    files = {f"{sha256(layer)}/layer.tar": layer for layer in layers}
    listing = {"Config": f"{sha256(config)}.json", "RepoTags": ["a/b:1"], "Layers": list(files)}
    return listing, {f"{sha256(config)}.json": config, **files}
