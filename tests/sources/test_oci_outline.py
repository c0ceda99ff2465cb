from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from recipes.formats.oci.spec import CONFIG, LAYER, MANIFEST
from recipes.sources import manifests
from recipes.sources.manifests import Manifest
from recipes.sources.oci_outline import Outline
from tests.kit.oci_images import sha256

if TYPE_CHECKING:
    from pathlib import Path

BLOBS = [b"{}", b"layer" * 1000, b"x" * 512, b"y"]


def outline(blobs: list[bytes] = BLOBS) -> tuple[Outline, bytes]:
    described = [{"mediaType": LAYER, "digest": f"sha256:{sha256(blob)}", "size": len(blob)} for blob in blobs]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {**described[0], "mediaType": CONFIG},
        "layers": described[1:],
    }
    data = json.dumps(document).encode()
    manifest = manifests.parse(data)
    assert isinstance(manifest, Manifest)
    return Outline.of(manifest, data), data


def archive(made: Outline, blobs: list[bytes] = BLOBS) -> bytes:
    """Fill the outline."""
    whole = bytearray(made.size)
    whole[: len(made.prefix)] = made.prefix
    by_digest = {sha256(blob): blob for blob in blobs}
    for member in made.members:
        whole[member.start - len(member.header) : member.start] = member.header
        blob = by_digest[member.descriptor.digest.hex]
        whole[member.start : member.start + len(blob)] = blob
    return bytes(whole)


def test_it_is_a_tar_with_every_blob_in_its_place() -> None:
    made, data = outline()
    with tarfile.open(fileobj=io.BytesIO(archive(made))) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert json.loads(found.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads(found.pop("index.json"))["manifests"]
    assert described == {"mediaType": MANIFEST, "digest": f"sha256:{sha256(data)}", "size": len(data)}
    assert found == {f"blobs/sha256/{sha256(blob)}": blob for blob in (*BLOBS, data)}


def test_a_blob_that_is_there_twice_is_stored_once() -> None:
    made, _ = outline([b"{}", b"same", b"same"])
    assert len(made.members) == 2


def test_it_depends_on_the_manifest_alone() -> None:
    assert outline()[0] == outline()[0]
    assert outline([b"{}", b"a"])[0].prefix != outline([b"{}", b"b"])[0].prefix


@pytest.mark.parametrize("size", [1, 511, 512, 513])
def test_members_begin_with_blocks(size: int) -> None:
    made, _ = outline([b"{}", b"z" * size, b"last"])
    assert all(member.start % 512 == 0 for member in made.members)
    assert made.size % 512 == 0
    assert made.size >= made.members[-1].start + 4 + 1024


class TestWhatIsThere:
    def test_of_this_image(self, tmp_path: Path) -> None:
        made, _ = outline()
        path = tmp_path / "part"
        for more in (b"", b"x" * 1000):
            path.write_bytes(made.prefix + more)
            assert made.present(path) == len(made.prefix) + len(more)

    def test_of_another_or_none(self, tmp_path: Path) -> None:
        made, _ = outline()
        path = tmp_path / "part"
        assert made.present(path) == 0
        path.write_bytes(made.prefix[:-1])
        assert made.present(path) == 0
        path.write_bytes(outline([b"{}", b"a"])[0].prefix)
        assert made.present(path) == 0
        assert made.present(tmp_path) == 0
