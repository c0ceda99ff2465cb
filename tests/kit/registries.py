"""Container images for the tests, and a registry that serves them well, or badly as it is told."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .servers import Exchange

OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar",
}
DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar",
}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: Mapping[str, bytes]) -> bytes:
    """Return a layer with these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@dataclass(frozen=True)
class Document:
    """A manifest or an index, and the blobs that it refers to."""

    data: bytes
    media_type: str
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return sha256(self.data)

    def descriptor(self, platform: Mapping[str, str] | None = None) -> dict[str, Any]:
        found = {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}
        return {**found, "platform": dict(platform)} if platform else found


def image(*layers: bytes, arch: str = "amd64", types: Mapping[str, str] = OCI) -> Document:
    """Return an image of these uncompressed layers, the lowest first."""
    diff_ids = [sha256(one) for one in layers]
    # As long as real ones are.
    config = {"architecture": arch, "os": "linux", "comment": "x" * 2000}
    data = json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    parts = [("config", data), *(("layer", one) for one in layers)]
    described = [{"mediaType": types[kind], "digest": sha256(data), "size": len(data)} for kind, data in parts]
    document = {"schemaVersion": 2, "mediaType": types["manifest"], "config": described[0], "layers": described[1:]}
    return Document(json.dumps(document).encode(), types["manifest"], {sha256(data): data for _, data in parts})


def index(*entries: tuple[Document, Mapping[str, str] | None], types: Mapping[str, str] = OCI) -> Document:
    """Return an index of documents, each with the platform that it is for."""
    document = {
        "schemaVersion": 2,
        "mediaType": types["index"],
        "manifests": [document.descriptor(platform) for document, platform in entries],
    }
    return Document(json.dumps(document).encode(), types["index"])


AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64", "variant": "v8"}


def write_layout(folder: Path, document: Document, *below: Document) -> None:
    """Write an OCI image layout whose tag ``t`` is `document`; `below` are the ones that an index refers to."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for one in (document, *below):
        for data in (one.data, *one.blobs.values()):
            (blobs / sha256(data).removeprefix("sha256:")).write_bytes(data)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {**document.descriptor(), "annotations": {"org.opencontainers.image.ref.name": "t"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


class Fake:
    """A registry with one repository, ``acme/thing``; `hook` answers first, and says whether it did."""

    def __init__(self, hook: Callable[[Exchange], bool] | None = None) -> None:
        self.hook = hook or (lambda exchange: False)
        self.documents: dict[str, Document] = {}
        self.blobs: dict[str, bytes] = {}

    def add(self, document: Document, *tags: str) -> Document:
        for name in (document.digest, *tags):
            self.documents[name] = document
        self.blobs.update(document.blobs)
        return document

    def __call__(self, exchange: Exchange) -> None:
        if self.hook(exchange):
            return
        kind, name = _split(exchange.path)
        if exchange.path == "/v2/":
            exchange.reply(200, b"{}")
        elif kind == "manifests" and name in self.documents:
            document = self.documents[name]
            exchange.reply(200, document.data, Content_Type=document.media_type, Docker_Content_Digest=document.digest)
        elif kind == "blobs" and name in self.blobs:
            exchange.file(self.blobs[name], etag=None)
        else:
            refuse(exchange, 404, "MANIFEST_UNKNOWN", "manifest unknown")


def _split(path: str) -> tuple[str, str]:
    prefix = "/v2/acme/thing/"
    kind, _, name = path.removeprefix(prefix).partition("/") if path.startswith(prefix) else ("", "", "")
    return kind, name


def refuse(exchange: Exchange, status: int, code: str, message: str, **headers: object) -> None:
    """Answer with an error as the distribution-spec has it."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    exchange.reply(status, body, Content_Type="application/json", **headers)


class Keeping:
    """A registry that keeps what is pushed to it, by repository; `hook` answers first, and says whether it did."""

    def __init__(self, hook: Callable[[Exchange], bool] | None = None) -> None:
        self.hook = hook or (lambda exchange: False)
        self.blobs: dict[str, dict[str, bytes]] = defaultdict(dict)
        #: By tag and by digest, with their media types.
        self.manifests: dict[str, dict[str, tuple[bytes, str]]] = defaultdict(dict)
        self.uploads: dict[str, bytearray] = {}
        self._numbers = itertools.count()
        #: What an upload's Location begins with.
        self.elsewhere = ""

    def __call__(self, exchange: Exchange) -> None:
        if self.hook(exchange):
            return
        url = urlsplit(exchange.path)
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs/uploads|blobs)/(.*)", url.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if found is None:
            exchange.reply(200, b"{}")
        elif found[2] == "manifests":
            self._manifest(exchange, found[1], found[3])
        elif found[2] == "blobs":
            self._blob(exchange, found[1], found[3])
        elif exchange.command == "POST":
            self._begin(exchange, found[1], query)
        else:
            self._upload(exchange, found[1], found[3], query)

    def _manifest(self, exchange: Exchange, name: str, what: str) -> None:
        if exchange.command == "PUT":
            data = exchange.seen.body
            document = json.loads(data)
            needed = [each["digest"] for each in [*document.get("layers", []), *filter(None, [document.get("config")])]]
            if set(needed) - set(self.blobs[name]):
                refuse(exchange, 400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
            elif {each["digest"] for each in document.get("manifests", [])} - set(self.manifests[name]):
                refuse(exchange, 400, "MANIFEST_UNKNOWN", "manifest unknown")
            else:
                for key in (what, sha256(data)):
                    self.manifests[name][key] = (data, exchange.headers["Content-Type"])
                exchange.reply(201)
        elif what in self.manifests[name]:
            data, media_type = self.manifests[name][what]
            exchange.reply(200, data, Content_Type=media_type, Docker_Content_Digest=sha256(data))
        else:
            refuse(exchange, 404, "MANIFEST_UNKNOWN", "manifest unknown")

    def _blob(self, exchange: Exchange, name: str, digest: str) -> None:
        if digest not in self.blobs[name]:
            refuse(exchange, 404, "BLOB_UNKNOWN", "blob unknown to registry")
        elif exchange.command == "HEAD":
            exchange.reply(200, self.blobs[name][digest])
        else:
            exchange.file(self.blobs[name][digest], etag=None)

    def _begin(self, exchange: Exchange, name: str, query: Mapping[str, str]) -> None:
        mounted = self.blobs[query.get("from", "")].get(query.get("mount", ""))
        if mounted is not None:
            self.blobs[name][query["mount"]] = mounted
            exchange.reply(201)
            return
        upload = f"u{next(self._numbers)}"
        self.uploads[upload] = bytearray()
        exchange.reply(202, Location=self._location(name, upload), Range="0-0")

    def _upload(self, exchange: Exchange, name: str, upload: str, query: Mapping[str, str]) -> None:
        if upload not in self.uploads:
            refuse(exchange, 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
            return
        data = self.uploads[upload]
        if exchange.command == "PATCH":
            assert "Content-Range" not in exchange.headers
            data += exchange.seen.body
            if exchange.partial:
                exchange.cut()
                return
        elif exchange.command == "PUT":
            data += exchange.seen.body
            if sha256(bytes(data)) != query["digest"]:
                refuse(exchange, 400, "DIGEST_INVALID", "provided digest did not match uploaded content")
                return
            self.blobs[name][query["digest"]] = bytes(self.uploads.pop(upload))
            exchange.reply(201)
            return
        status = 204 if exchange.command == "GET" else 202
        exchange.start(status, {"Location": self._location(name, upload), "Range": f"0-{max(0, len(data) - 1)}"})

    def _location(self, name: str, upload: str) -> str:
        return f"{self.elsewhere}/v2/{name}/blobs/uploads/{upload}"
