"""What a url tells, without a command around it; the lists of a real nginx are in tests/graph/commands/test_add.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, LarderError
from recipes.model import Digest
from recipes.project.find import Wish, arch_of, find
from recipes.sources.access import Access
from tests.kit import upstreams
from tests.kit.project import disk, sha256
from tests.kit.registries import Fake, image, index, layer, write_layout
from tests.kit.registry_disks import artifact, listing
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

ACCESS = Access()


@pytest.fixture(autouse=True)
def _quick(quick_and_alone: None) -> None:
    """See tests/conftest.py."""


@pytest.mark.parametrize(
    ("url", "arch"),
    [
        ("https://h/noble-server-cloudimg-amd64.img", "x86_64"),
        ("https://h/aarch64/disk.img", "aarch64"),
        ("https://h/x86_64/disk.arm64.img", "aarch64"),
        ("https://h/disk-X64.img", "x86_64"),
        ("https://h/disk.img", None),
        ("https://h/farm64x/disk.img", None),
    ],
)
def test_the_architecture_in_a_name(url: str, arch: str | None) -> None:
    assert arch_of(url) == arch


class TestAFile:
    def test_with_a_list(self, tmp_path: Path) -> None:
        (tmp_path / "disk").write_bytes(disk("a"))
        upstreams.shape("SHA512SUMS", tmp_path / "disk")
        found = find((tmp_path / "disk").as_uri(), Wish(), "aarch64", ACCESS)
        assert found.digest is not None
        assert (found.kind, found.arches, found.digest.algorithm) == ("disk", ("aarch64",), "sha512")
        assert found.checksums == (tmp_path / "SHA512SUMS").as_uri()

    def test_a_known_digest_stands_above_one_of_another_algorithm(self, tmp_path: Path) -> None:
        (tmp_path / "disk").write_bytes(disk("a"))
        upstreams.shape("SHA512SUMS", tmp_path / "disk")
        digest = Digest.parse(sha256(disk("a")))
        assert find((tmp_path / "disk").as_uri(), Wish(digest), "x86_64", ACCESS).digest == digest

    def test_or_none(self, tmp_path: Path) -> None:
        (tmp_path / "disk").write_bytes(disk("a"))
        found = find((tmp_path / "disk").as_uri(), Wish(), "x86_64", ACCESS)
        assert (found.digest, found.checksums) == (None, None)

    def test_what_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "notes").write_text("a note\n" * 100)
        with pytest.raises(LarderError, match="expected a disk image or an archive, found"):
            find((tmp_path / "notes").as_uri(), Wish(), "x86_64", ACCESS)


class TestARegistry:
    def test_disks_alone_are_a_disk(self) -> None:
        fake = Fake()
        raw = fake.add(artifact(b"x", titles=("a.raw",)), "alone")
        entry = {**raw.descriptor({"os": "linux", "architecture": "aarch64"}), "annotations": {"disktype": "raw"}}
        container = fake.add(image(layer({"a": b"x"}))).descriptor({"os": "linux", "architecture": "amd64"})
        fake.add(listing(entry), "disks")
        fake.add(listing(entry, container), "both")
        fake.add(listing({**entry, "annotations": {}, "artifactType": "application/x"}), "other")
        vdi = fake.add(artifact(b"y")).descriptor({"os": "linux", "architecture": "aarch64"})
        two = {**entry, "annotations": {"disktype": "vmdk"}}, {**vdi, "annotations": {"disktype": "vdi"}}
        fake.add(listing(*two), "unclear")
        with misbehaving(fake) as server:
            base = f"oci://{server.url.removeprefix('http://')}/acme/thing"

            def found(tag: str) -> tuple[str, tuple[str, ...], bool]:
                it = find(f"{base}:{tag}", Wish(), "x86_64", ACCESS)
                return it.kind, it.arches, any("kind = " in note for note in it.notes)

            assert found("disks") == ("disk", ("aarch64",), False)
            assert found("alone") == ("disk", ("x86_64",), False)
            assert found("other")[0] == "oci"
            assert found("both") == ("oci", ("x86_64",), True)
            with pytest.raises(LarderError, match="several disks for linux/arm64/v8: vdi/arm64, vmdk/arm64"):
                find(f"{base}:unclear", Wish(), "x86_64", ACCESS)

    def test_an_index_is_for_the_machines_that_it_names(self) -> None:
        fake = Fake()
        one = fake.add(image(layer({"a": b"x"})), "one")
        both = fake.add(index((one, {"os": "linux", "architecture": "amd64"})), "both")
        with misbehaving(fake) as server:
            base = f"oci://{server.url.removeprefix('http://')}/acme/thing"
            found = find(f"{base}:both", Wish(), "aarch64", ACCESS)
            assert (found.url, found.arches, found.kind) == (f"{base}:both@{both.digest}", ("x86_64",), "oci")
            alone = find(f"{base}:one", Wish(), "aarch64", ACCESS)
            assert alone.arches == ("x86_64",)
            with pytest.raises(DigestMismatch):
                find(f"{base}:one", Wish(Digest.parse(sha256(b"other"))), "x86_64", ACCESS)

    def test_what_is_no_reference(self) -> None:
        with pytest.raises(LarderError, match="expected oci://HOST/NAME"):
            find("oci://nothing", Wish(), "x86_64", ACCESS)

    def test_the_folder_of_a_layout(self, tmp_path: Path) -> None:
        document = image(layer({"a": b"x"}))
        write_layout(tmp_path / "layout", document)
        found = find(f"{(tmp_path / 'layout').as_uri()}/", Wish(), "x86_64", ACCESS)
        assert found.kind == "oci"
        assert found.digest is not None
        assert found.url.endswith("/layout/")
