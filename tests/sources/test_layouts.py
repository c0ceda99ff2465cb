"""Image layouts in folders: known by digest, verified, and in the cache what a registry would have given."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, DigestMismatch, FetchError, LarderError, UnsupportedFeature
from recipes.formats.io.digests import of_file
from recipes.formats.oci import layout as oci_layout
from recipes.formats.oci.spec import REF_NAME
from recipes.model import Digest, Image, Source
from recipes.sources.access import Access
from recipes.sources.lists import ListRef, Lists
from recipes.sources.oci_fetch import outline, pull
from recipes.sources.repin import repinned
from recipes.sources.resolve import resolve
from tests.kit.oci_images import AMD64, ARM64, Layout, file, sha256, tar, write_folder
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from recipes.model import Arch, Identity

ONE = tar(file("etc/one", b"1" * 1000))
TWO = tar(file("etc/two"))


class Folder:
    """A layout in a folder, and an image that is declared to be in it."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "layout"
        self.url = f"{self.path.as_uri()}/"
        self.part = tmp_path / "part"
        self.lists = Lists(tmp_path / "lists")
        self.layout = Layout()

    def write(self, *entries: Mapping[str, Any]) -> Digest:
        """Write index.json with these entries; return its digest."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.layout.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        write_folder(self.path, self.layout.files)
        return Digest("sha256", sha256(self.layout.files["index.json"]))

    def source(self, digest: Digest | None = None) -> Source:
        return Source((self.url,), digest)

    def resolved(self, arch: Arch = "x86_64") -> Identity:
        source = self.source()
        ref = ListRef.of(source)
        assert ref is not None
        assert not self.lists.is_fresh(ref)
        self.lists.refresh(ref, Access(offline=True, strict=False))
        return resolve(Image("a", arch, "oci", source), self.lists)

    def pull(self, digest: Digest, arch: Arch = "x86_64") -> str:
        pulled = pull(
            [self.url], self.part, Access(offline=True, progress=Watch()), digest=digest, arch=arch, label="fetch:a"
        )
        assert pulled.digest == of_file(self.part, "sha256")
        return pulled.served

    def layers(self) -> int:
        with oci_layout.open_image(self.part, arch="x86_64") as image:
            return len(image.layers)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def of(described: Mapping[str, Any]) -> Digest:
    return Digest.parse(described["digest"])


def test_what_index_json_names_is_what_is_there(folder: Folder) -> None:
    folder.write(one := folder.layout.image(ONE))
    identity = folder.resolved()
    assert (identity.urls, identity.digest) == ((folder.url,), of(one))
    assert folder.pull(identity.digest) == f"{folder.url}blobs/sha256/{identity.digest.hex}"
    assert folder.layers() == 1
    folder.write(two := folder.layout.image(ONE, TWO))
    assert folder.resolved().digest == of(two)


def test_the_image_for_the_machine(folder: Folder) -> None:
    intel = folder.layout.image(ONE, platform=AMD64)
    arm = folder.layout.image(TWO, runs_on=ARM64, platform=ARM64)
    folder.write(intel, arm)
    assert folder.resolved().digest == of(intel)
    assert folder.resolved("aarch64").digest == of(arm)


def test_an_index_within_the_index(folder: Folder) -> None:
    intel, arm = folder.layout.image(ONE, platform=AMD64), folder.layout.image(TWO, runs_on=ARM64, platform=ARM64)
    below = folder.layout.index(intel, arm)
    whole = folder.write(below)
    assert folder.resolved().digest == whole
    for digest in (whole, of(below), of(intel)):
        folder.pull(digest)
        assert folder.layers() == 1
        folder.part.unlink()
    assert outline([folder.url], digest=whole, arch="aarch64", label="a", offline=True).size > 0


def test_the_same_archive_as_from_elsewhere(folder: Folder, tmp_path: Path) -> None:
    folder.write(one := folder.layout.image(ONE))
    folder.pull(of(one))
    first = folder.part.read_bytes()
    # As after a kill.
    folder.part.write_bytes(first[: len(first) // 2])
    folder.pull(of(one))
    assert folder.part.read_bytes() == first


def test_one_image_by_two_names(folder: Folder) -> None:
    """As skopeo writes it: without a platform."""
    one = folder.layout.image(ONE)
    whole = folder.write(*({**one, "annotations": {REF_NAME: name}} for name in ("1.0", "latest")))
    assert folder.resolved().digest == of(one)
    folder.pull(whole)
    assert folder.layers() == 1


class TestRefused:
    def test_several_images_for_the_machine(self, folder: Folder) -> None:
        one = folder.layout.image(ONE, annotations={REF_NAME: "1.0"})
        two = folder.layout.image(TWO, annotations={REF_NAME: "2.0"})
        whole = folder.write(one, two)
        with pytest.raises(UnsupportedFeature, match=r"expected one image for linux/amd64, found 2: .*1\.0.*2\.0"):
            folder.resolved()
        with pytest.raises(LarderError, match="declare the digest of the one that you want"):
            folder.pull(whole)
        folder.pull(of(two))

    def test_other_bytes_of_a_layer(self, folder: Folder) -> None:
        folder.write(one := folder.layout.image(ONE))
        blob = folder.path / "blobs/sha256" / sha256(ONE)
        blob.write_bytes(ONE.replace(b"1", b"2"))
        with pytest.raises(DigestMismatch, match=sha256(ONE)):
            folder.pull(of(one))

    def test_other_bytes_of_a_manifest(self, folder: Folder) -> None:
        folder.write(one := folder.layout.image(ONE))
        blob = folder.path / "blobs/sha256" / of(one).hex
        blob.write_bytes(blob.read_bytes() + b" ")
        with pytest.raises(DigestMismatch, match="a manifest with the wrong digest"):
            folder.pull(of(one))

    def test_what_is_not_in_it(self, folder: Folder) -> None:
        folder.write(folder.layout.image(ONE))
        with pytest.raises(FetchError, match="neither a manifest nor an index with the digest sha256:0000"):
            folder.pull(Digest("sha256", "0" * 64))

    def test_a_folder_that_is_none(self, folder: Folder) -> None:
        folder.path.mkdir()
        with pytest.raises(FetchError, match=r"image layout file:.*/layout/: .*index.json: no such file"):
            folder.resolved()

    def test_an_image_for_another_machine(self, folder: Folder) -> None:
        folder.write(folder.layout.image(ONE, runs_on=ARM64, platform=ARM64))
        with pytest.raises(UnsupportedFeature, match="there is no image for linux/amd64, only for linux/arm64"):
            folder.resolved()


def test_the_last_look_serves_while_it_is_away(folder: Folder) -> None:
    folder.write(one := folder.layout.image(ONE))
    folder.resolved()
    shutil.rmtree(folder.path)
    assert folder.resolved().digest == of(one)


def test_a_pin_is_moved(folder: Folder) -> None:
    folder.write(one := folder.layout.image(ONE))
    pinned = folder.source(of(one))
    ref = ListRef.declared(pinned)
    assert ref is not None
    assert ListRef.of(pinned) is None
    folder.resolved()
    assert repinned(pinned, "x86_64", folder.lists.read(ref)) == pinned
    whole = folder.write(folder.layout.image(TWO))
    folder.resolved()
    assert repinned(pinned, "x86_64", folder.lists.read(ref)) == pinned._replace(digest=whole)


def test_a_symbolic_link_tells_nothing(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame")
    folder.write(folder.layout.image(ONE))
    (folder.path / "index.json").unlink()
    (folder.path / "index.json").symlink_to(tmp_path / "secret")
    with pytest.raises((FetchError, CorruptImage)) as caught:
        folder.resolved()
    assert "sesame" not in str(caught.value)
