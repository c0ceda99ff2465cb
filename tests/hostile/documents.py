"""What is text: checksum lists, manifests, images.toml, receipts."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.cache.receipt import Receipt, Served
from recipes.cache.store import Store
from recipes.declare.declaration import loads
from recipes.errors import LarderError, StoreError
from recipes.kinds import KINDS
from recipes.model import Artifact, BlockHash, Content, Digest, Identity, Wrapper
from recipes.sources import checksums, disks
from recipes.sources.manifests import Named
from tests.kit.oci_images import AMD64, ARM64, Layout, tar
from tests.kit.oci_images import file as tar_file
from tests.kit.registry_disks import artifact, listing

from .mutate import damage_document, damage_text
from .target import Target

if TYPE_CHECKING:
    from random import Random

_LISTS = Path(__file__).parents[1] / "sources/lists"
_IMAGES = Path(__file__).parents[2] / "images.toml"


def _list_seeds(_: Path) -> list[bytes]:
    digests = ("a" * 32, "b" * 64, "c" * 128)
    made = [
        "".join(f"{digest}  disk.img\n" for digest in digests),
        "".join(f"SHA256 (disk-{number}.img) = {'d' * 64}\n" for number in range(9)),
        f"# disk.img: 500 bytes\n\\{'e' * 64} *disk\\\\\\n.img\n",
        json.dumps({"products": [{"path": "a/disk.img", "sha256": "f" * 64, "size": 5, "sha512": "f" * 128}]}),
        "1" * 64,
    ]
    # The lists of real upstreams, the small ones.
    real = [path.read_bytes() for path in sorted(_LISTS.iterdir()) if path.stat().st_size < 50_000]
    return [text.encode() for text in made] + real


def _damage_list(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    if data[:1] in (b"{", b"["):
        return damage_document(rng, data, others)
    return damage_text(rng, data, others)


def _read_list(path: Path, _: Path) -> None:
    found = checksums.parse(path.read_bytes().decode("utf-8", "replace"))
    for name in ("disk.img", "disk-*.img", "a/disk.img", "nothing"):
        with suppress(LarderError):
            found.lookup(name)


def _manifest_seeds(_: Path) -> list[bytes]:
    layout = Layout()
    layer = tar(tar_file("a", b"a"))
    images = [layout.image(layer, runs_on=each, platform=each) for each in (AMD64, ARM64)]
    index = layout.index(*images)
    return [layout.files[f"blobs/sha256/{each['digest'][7:]}"] for each in (*images, index)]


def _read_manifest(path: Path, _: Path) -> None:
    Named.parse(path.read_bytes()).digest_for("x86_64", "oci://example.org/a:1")


def _disk_seeds(_: Path) -> list[bytes]:
    """Return an index of podman's disks and one of CoreOS', and manifests as oras and KubeVirt have them."""
    one = artifact(b"a", titles=("a.raw.zst",))
    podman, coreos = ([one.descriptor({"os": os, "architecture": "x86_64"})] * 2 for os in ("linux", "qemu"))
    return [
        listing(
            *({**each, "annotations": {"disktype": kind}} for each, kind in zip(podman, ("raw", "tar"), strict=True))
        ).data,
        listing(*({**each, "artifactType": "application/vnd.diskimage.qcow2"} for each in coreos)).data,
        one.data,
        artifact(b"a", names=("a",), types=("application/vnd.kubevirt.disk.raw+zstd",)).data,
    ]


def _read_disk(path: Path, _: Path) -> None:
    disks.chosen(Named.parse(path.read_bytes()), "x86_64", "", "oci://example.org/a:1")


def _toml_seeds(_: Path) -> list[bytes]:
    return [
        _IMAGES.read_bytes(),
        b'[cache]\nmax-virtual-size = "1TiB"\n[images.a]\nderive = ["raw", "oci"]\n[images.a.x86_64]\n'
        b'url = ["https://example.org/a.img", "https://example.com/a.img"]\nsize = 5\n'
        b'digest = "sha256:' + b"a" * 64 + b'"\n[mirrors]\n"https://example.org/" = ["https://example.com/"]\n',
        b'images.a.aarch64 = {url = "https://example.org/a-*.img", checksums = "https://example.org/SUMS"}\n',
    ]


def _read_toml(path: Path, _: Path) -> None:
    loads(path.read_bytes(), path)


def _receipt_seeds(_: Path) -> list[bytes]:
    digest = Digest("sha256", "a" * 64)
    receipt = Receipt(
        kind="raw",
        key="k",
        recipe="raw/1",
        image="a",
        arch="x86_64",
        identity=Identity(("https://example.org/a.img",), digest, 5),
        when="2026-01-01T00:00:00Z",
        served=Served("https://example.org/a.img"),
        wrapper=Wrapper(digest, 5),
        artifact=Artifact(5, 5, 0, digest=digest, blkhash=BlockHash("larder-blkhash-1", 65536, "blake3", "a" * 64)),
        made="2026-01-01T00:00:00Z",
        content=Content(digest, 5, "raw", 512),
        durations={"fetch": 1.5},
    )
    return [json.dumps(each.to_json()).encode() for each in (receipt, dataclasses.replace(receipt, content=None))]


def _read_receipt(path: Path, _: Path) -> None:
    entry = Store(path.parent).entry_of("a", "x86_64")
    entry.path.mkdir(parents=True)
    (entry.path / "raw.json").write_bytes(path.read_bytes())
    (entry.path / KINDS["raw"].file).write_bytes(b"bytes")
    try:
        receipt = entry.receipt("raw")
        if receipt is None:
            raise StoreError("no receipt")
        entry.matches(receipt)
        json.dumps(receipt.to_json())
    finally:
        for each in list(entry.path.iterdir()):
            each.unlink()
        for folder in (entry.path, *entry.path.parents):
            if folder == path.parent:
                break
            folder.rmdir()


TARGETS = (
    Target("checksums", _list_seeds, _damage_list, _read_list),
    Target("manifests", _manifest_seeds, damage_document, _read_manifest),
    Target("registry-disks", _disk_seeds, damage_document, _read_disk),
    Target("images.toml", _toml_seeds, damage_text, _read_toml),
    Target("receipts", _receipt_seeds, damage_document, _read_receipt),
)
