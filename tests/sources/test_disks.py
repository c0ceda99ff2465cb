"""Which disk of an index, which layer of a manifest: the shapes that others write, and what is none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import UnsupportedFeature
from recipes.formats.io.digests import of_bytes
from recipes.sources import disks, manifests
from recipes.sources.manifests import Index, Manifest, Named
from tests.kit.registries import AMD64, Document, image, layer, sha256
from tests.kit.registry_disks import artifact, listing

if TYPE_CHECKING:
    from recipes.model import Arch

RAW, QCOW2, VHDX, TAR = (artifact(name.encode()) for name in ("raw", "qcow2", "vhdx", "tar"))


def podman(*entries: tuple[Document, str], arch: str = "x86_64") -> list[dict[str, Any]]:
    platform = {"os": "linux", "architecture": arch}
    return [{**one.descriptor(platform), "annotations": {"disktype": kind}} for one, kind in entries]


def coreos(*entries: tuple[Document, str, str], arch: str = "amd64") -> list[dict[str, Any]]:
    return [
        {
            **one.descriptor({"os": purpose, "architecture": arch}),
            "artifactType": f"application/vnd.diskimage.{kind}",
        }
        for one, purpose, kind in entries
    ]


def pick(entries: list[dict[str, Any]], disktype: str = "", arch: Arch = "x86_64") -> str:
    document = manifests.parse(listing(*entries).data)
    assert isinstance(document, Index)
    (found,) = disks.candidates(document, arch, disktype, "here")
    return str(found.digest)


BOTH = [
    *podman((TAR, "tar"), (VHDX, "vhdx"), (QCOW2, "qcow2"), (RAW, "raw")),
    *podman((artifact(b"arm"), "raw"), arch="aarch64"),
]
METALS = coreos((RAW, "metal", "raw.gzip"), (QCOW2, "qemu", "qcow2"), (VHDX, "live", "iso"))


class TestPodman:
    def test_the_one_that_costs_least(self) -> None:
        assert pick(BOTH) == RAW.digest
        assert pick(BOTH[:3]) == QCOW2.digest

    @pytest.mark.parametrize(("disktype", "found"), [("qcow2", QCOW2), ("vhdx", VHDX), ("raw", RAW)])
    def test_by_name(self, disktype: str, found: Document) -> None:
        assert pick(BOTH, disktype) == found.digest

    def test_architectures_by_either_name(self) -> None:
        assert pick(BOTH, arch="aarch64") == sha256(artifact(b"arm").data)
        assert pick(podman((RAW, "raw"), arch="amd64")) == RAW.digest

    def test_the_first_of_the_same_name(self) -> None:
        assert pick(podman((RAW, "raw"), (QCOW2, "raw"))) == RAW.digest

    def test_a_container_beside_disks_is_none(self) -> None:
        container = image(layer({"etc/os-release": b""}))
        assert pick([container.descriptor(AMD64), *BOTH]) == RAW.digest

    def test_an_archive_is_no_disk(self) -> None:
        with pytest.raises(UnsupportedFeature, match=r"no disk for linux/amd64, only tar/amd64"):
            pick(podman((TAR, "tar")))

    def test_none_lists_what_there_is(self) -> None:
        with pytest.raises(UnsupportedFeature, match=r"with disktype 'vdi', only qcow2/amd64, raw/amd64, raw/arm64"):
            pick(BOTH, "vdi")

    def test_control_characters_are_not_shown(self) -> None:
        with pytest.raises(UnsupportedFeature) as caught:
            pick(podman((RAW, "\x1b[2J"), arch="ppc64le"))
        assert "\x1b" not in caught.value.message


class TestCoreos:
    def test_a_machine_s(self) -> None:
        assert pick(METALS) == QCOW2.digest

    @pytest.mark.parametrize(
        ("disktype", "found"), [("metal", RAW), ("raw.gzip", RAW), ("metal/raw.gzip", RAW), ("live", VHDX)]
    )
    def test_by_purpose_and_type(self, disktype: str, found: Document) -> None:
        assert pick(METALS, disktype) == found.digest

    def test_several_are_an_error_that_lists_them(self) -> None:
        several = coreos((RAW, "metal", "raw.gzip"), (VHDX, "live", "iso"))
        with pytest.raises(
            UnsupportedFeature, match=r"several disks for linux/amd64: live/iso/amd64, metal/raw"
        ) as caught:
            pick(several)
        assert caught.value.hint == "declare disktype to say which"

    def test_the_only_one(self) -> None:
        assert pick(coreos((RAW, "metal", "raw.gzip"))) == RAW.digest


def test_an_index_of_neither_is_one_by_platform() -> None:
    assert pick([RAW.descriptor(AMD64)]) == RAW.digest
    with pytest.raises(UnsupportedFeature, match="no image for linux/arm64/v8, only for linux/amd64"):
        pick([RAW.descriptor(AMD64)], arch="aarch64")


def disk_of(document: Document, disktype: str = "") -> bytes:
    found = manifests.parse(document.data)
    assert isinstance(found, Manifest)
    layer = disks.layer(found, disktype, "here")
    assert layer
    return document.blobs[str(layer.digest)]


class TestLayer:
    def test_the_only_one(self) -> None:
        assert disk_of(artifact(b"disk")) == b"disk"

    def test_the_only_one_that_is_called_as_disks_are(self) -> None:
        assert disk_of(artifact(b"notes", b"disk", titles=("README.md", "../../a.qcow2.zst"))) == b"disk"

    def test_of_several(self) -> None:
        with pytest.raises(UnsupportedFeature, match=r"expected one layer that is a disk, found a\.raw, b\.raw"):
            disk_of(artifact(b"a", b"b", titles=("a.raw", "b.raw")))

    def test_the_first_of_coreos(self) -> None:
        found = artifact(b"disk", b"more", artifact_type="application/vnd.diskimage.qcow2")
        assert disk_of(found) == b"disk"

    def test_kubevirt_s_by_name(self) -> None:
        types = ("application/vnd.kubevirt.disk.raw+zstd",) * 2
        found = artifact(b"root", b"data", types=types, names=("root", "data"))
        assert disk_of(found, "data") == b"data"
        with pytest.raises(UnsupportedFeature, match="found root, data") as caught:
            disk_of(found)
        assert caught.value.hint == "declare the disk's name as disktype"
        with pytest.raises(UnsupportedFeature, match="found root, data"):
            disk_of(found, "swap")

    def test_nothing(self) -> None:
        with pytest.raises(UnsupportedFeature, match="found nothing at all"):
            disk_of(artifact())

    def test_a_container(self) -> None:
        found = manifests.parse(image(layer({"a": b""})).data)
        assert isinstance(found, Manifest)
        assert disks.layer(found, "", "here") is None

    def test_tart(self) -> None:
        with pytest.raises(UnsupportedFeature, match="tart's pieces of a disk are not read"):
            disk_of(artifact(b"a", types=("application/vnd.cirruslabs.tart.disk.v2",)))


def test_what_a_tag_names() -> None:
    alone = Named.parse(RAW.data)
    assert disks.chosen(alone, "x86_64", "", "here") is alone.document
    found = disks.chosen(Named.parse(listing(*BOTH).data), "x86_64", "qcow2", "here")
    assert not isinstance(found, Manifest)
    assert found.digest == of_bytes(QCOW2.data)
