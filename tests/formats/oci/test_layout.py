from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import CorruptImage, ImageError, LimitExceeded, StoreError, UnsupportedFeature
from recipes.formats.oci.layout import is_image, open_image
from recipes.formats.oci.spec import CONFIG, INDEX, LAYER, MANIFEST
from tests.kit.oci_images import (
    AMD64,
    ARM64,
    Layout,
    docker_archive,
    file,
    hardlink,
    sha256,
    symlink,
    tar,
    write_folder,
    write_tar,
)

if TYPE_CHECKING:
    from recipes.model import Arch

ONE = tar(file("one", b"1" * 1000))
TWO = tar(file("two", b"2"))
THREE = tar(file("three", b"3"))


def read(path: Path, arch: Arch = "x86_64") -> list[bytes]:
    """Return the layers of the image, as they are stored."""
    with open_image(path, arch=arch) as image:
        return [os.pread(layer.blob.fd, layer.blob.size, layer.blob.offset) for layer in image.layers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image"


class TestLayouts:
    def test_in_a_tar(self, path: Path) -> None:
        layout = Layout()
        layout.write(path, layout.image(ONE, TWO, config={"config": {"Cmd": ["/bin/sh"]}}))
        with open_image(path, arch="x86_64") as image:
            assert image.config["config"] == {"Cmd": ["/bin/sh"]}
            assert [str(layer.diff_id) for layer in image.layers] == [f"sha256:{sha256(each)}" for each in (ONE, TWO)]
            assert [layer.digest for layer in image.layers] == [layer.diff_id for layer in image.layers]
        assert read(path) == [ONE, TWO]

    def test_in_a_folder(self, path: Path) -> None:
        layout = Layout()
        layout.write(path.with_name("tar"), layout.image(ONE, TWO))
        write_folder(path, layout.files)
        assert read(path) == [ONE, TWO]

    def test_one_that_is_a_docker_archive_too(self, path: Path) -> None:
        layout = Layout()
        layout.files["manifest.json"] = b"[]"
        layout.write(path, layout.image(ONE))
        assert read(path) == [ONE]

    def test_docker_s_media_types(self, path: Path) -> None:
        layout = Layout()
        config = {**AMD64, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(ONE)}"]}}
        manifest = {
            "schemaVersion": 2,
            "config": layout.document(config, "application/vnd.docker.container.image.v1+json"),
            "layers": [layout.blob(ONE, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
        }
        image = layout.document(manifest, "application/vnd.docker.distribution.manifest.v2+json", platform=AMD64)
        index = {"schemaVersion": 2, "manifests": [image]}
        layout.write(path, layout.document(index, "application/vnd.docker.distribution.manifest.list.v2+json"))
        assert read(path) == [ONE]

    def test_a_sha512_digest(self, path: Path) -> None:
        layout = Layout()
        image = layout.image(ONE)
        data = layout.files.pop(f"blobs/sha256/{image['digest'].removeprefix('sha256:')}")
        digits = hashlib.sha512(data).hexdigest()
        layout.files[f"blobs/sha512/{digits}"] = data
        layout.write(path, image | {"digest": f"sha512:{digits}"})
        assert read(path) == [ONE]
        layout.files[f"blobs/sha512/{digits}"] = data.replace(b"2", b"3", 1)
        layout.write(path, image | {"digest": f"sha512:{digits}"})
        with pytest.raises(CorruptImage, match=f"blobs/sha512/{digits}: has the digest sha512:"):
            read(path)


class TestChoice:
    def test_by_platform(self, path: Path) -> None:
        layout = Layout()
        entries = [layout.image(ONE, platform=AMD64), layout.image(TWO, runs_on=ARM64, platform=ARM64)]
        attestation = layout.image(THREE, platform={"os": "unknown", "architecture": "unknown"})
        for index in (entries, [attestation, *entries], [layout.index(attestation, *entries)]):
            layout.write(path, *index)
            assert read(path, "x86_64") == [ONE]
            assert read(path, "aarch64") == [TWO]

    def test_by_the_config_where_the_index_names_no_platform(self, path: Path) -> None:
        layout = Layout()
        entries = [layout.image(ONE), layout.image(TWO, runs_on=ARM64)]
        for index in (entries, [layout.index(*entries)], [layout.index(layout.index(*entries))]):
            layout.write(path, *index)
            assert read(path, "x86_64") == [ONE]
            assert read(path, "aarch64") == [TWO]

    @pytest.mark.parametrize(
        ("arch", "platform", "fits"),
        [
            ("x86_64", AMD64, True),
            ("x86_64", AMD64 | {"variant": "v1"}, True),
            ("x86_64", AMD64 | {"variant": "v3"}, False),
            ("x86_64", AMD64 | {"os": "windows"}, False),
            ("x86_64", {"os": "linux", "architecture": "386"}, False),
            ("aarch64", ARM64, True),
            ("aarch64", {"os": "linux", "architecture": "arm64"}, True),
            ("aarch64", ARM64 | {"variant": "v9"}, False),
            ("aarch64", {"os": "linux", "architecture": "arm", "variant": "v7"}, False),
        ],
    )
    def test_what_runs_on_every_such_machine(
        self, arch: Arch, platform: dict[str, str], fits: bool, path: Path
    ) -> None:
        layout = Layout()
        for entry in (layout.image(ONE, runs_on=platform), layout.image(ONE, platform=platform)):
            layout.write(path, entry)
            if fits:
                assert read(path, arch) == [ONE]
            else:
                with pytest.raises(UnsupportedFeature, match="found " + "/".join(platform.values())):
                    read(path, arch)

    def test_the_first_of_several_in_one_index(self, path: Path) -> None:
        layout = Layout()
        layout.write(path, layout.index(layout.image(TWO, platform=AMD64), layout.image(ONE, platform=AMD64)))
        assert read(path) == [TWO]

    def test_several_images_by_name(self, path: Path) -> None:
        layout = Layout()
        one = layout.image(ONE, annotations={"org.opencontainers.image.ref.name": "22.04"})
        two = layout.image(TWO, annotations={"io.containerd.image.name": "a/b:24.04"})
        three = layout.image(THREE)
        layout.write(path, one, two, three)
        with pytest.raises(UnsupportedFeature, match=f"found 3: 22.04, a/b:24.04, {three['digest']}") as raised:
            read(path)
        assert "skopeo copy" in str(raised.value.hint)
        layout.write(path, one, two | {"platform": ARM64})
        assert read(path) == [ONE]

    def test_the_same_image_under_two_names(self, path: Path) -> None:
        layout = Layout()
        image = layout.image(ONE)
        layout.write(path, image | {"annotations": {"org.opencontainers.image.ref.name": "1"}}, image)
        assert read(path) == [ONE]

    def test_artifacts_are_no_images(self, path: Path) -> None:
        layout = Layout()
        empty = layout.blob(b"{}", "application/vnd.oci.empty.v1+json")
        artifact = layout.document({"schemaVersion": 2, "config": empty, "layers": [empty]}, MANIFEST)
        unknown = layout.blob(b"?", "application/x-what")
        layout.write(path, artifact, unknown, layout.image(ONE))
        assert read(path) == [ONE]
        layout.write(path, artifact, unknown)
        with pytest.raises(
            UnsupportedFeature, match=r"linux/amd64, found application/vnd.oci.empty.v1\+json, application/x-what"
        ):
            read(path)
        layout.write(path)
        with pytest.raises(UnsupportedFeature, match="linux/arm64/v8, found nothing"):
            read(path, "aarch64")


class TestDockerArchives:
    def test_layers_in_folders(self, path: Path) -> None:
        listing, files = docker_archive([ONE, TWO])
        write_tar(path, {**files, "manifest.json": json.dumps([listing]).encode()})
        with open_image(path, arch="x86_64") as image:
            assert [layer.digest for layer in image.layers] == [None, None]
        assert read(path) == [ONE, TWO]

    def test_a_layer_that_is_a_link_to_another_image_s(self, path: Path) -> None:
        listing, files = docker_archive([ONE, TWO])
        first, second = listing["Layers"]
        data = files.pop(second)
        files = {**files, "manifest.json": json.dumps([listing]).encode(), "other/layer.tar": data}
        for link in ("../other/layer.tar", "/other/layer.tar"):
            write_tar(path, files, symlink(second, link))
            assert read(path) == [ONE, TWO]
        write_tar(path, files, hardlink(second, "other/layer.tar"))
        assert read(path) == [ONE, TWO]
        for link in ("layer.tar", "../nowhere"):
            write_tar(path, files, symlink(second, link))
            with pytest.raises(CorruptImage, match="image: expected"):
                read(path)
        assert first

    def test_several_images(self, path: Path) -> None:
        one, files = docker_archive([ONE])
        two, more = docker_archive([TWO], ARM64)
        three, even_more = docker_archive([THREE])
        files = {**files, **more, **even_more}
        write_tar(path, {**files, "manifest.json": json.dumps([one, two]).encode()})
        assert read(path) == [ONE]
        assert read(path, "aarch64") == [TWO]
        three["RepoTags"] = None
        write_tar(path, {**files, "manifest.json": json.dumps([one, two, three]).encode()})
        with pytest.raises(UnsupportedFeature, match=f"found 2: {three['Config']}, a/b:1|a/b:1, {three['Config']}"):
            read(path)

    def test_a_config_with_another_digest_than_its_name(self, path: Path) -> None:
        listing, files = docker_archive([ONE])
        files[listing["Config"]] += b" "
        write_tar(path, {**files, "manifest.json": json.dumps([listing]).encode()})
        with pytest.raises(CorruptImage, match="has the digest sha256:"):
            read(path)
        files["config"] = files.pop(listing["Config"])
        listing["Config"] = "config"
        write_tar(path, {**files, "manifest.json": json.dumps([listing]).encode()})
        assert read(path) == [ONE]

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, ""])
    @pytest.mark.parametrize("key", ["Config", "Layers"])
    def test_names_that_lead_elsewhere(self, name: str, key: str, path: Path) -> None:
        listing, files = docker_archive([ONE])
        listing[key] = name if key == "Config" else [name]
        write_tar(path, {**files, "manifest.json": json.dumps([listing]).encode()})
        with pytest.raises(CorruptImage):
            read(path)

    @pytest.mark.parametrize("listing", ["{}", '["x"]', "[{}]", '[{"Config": 1}]', '[{"Config": "c", "Layers": 1}]'])
    def test_a_listing_that_is_none(self, listing: str, path: Path) -> None:
        _, files = docker_archive([ONE])
        config = next(data for name, data in files.items() if name.endswith(".json"))
        write_tar(path, {"manifest.json": listing.encode(), "c": config})
        with pytest.raises(CorruptImage, match=r"manifest.json"):
            read(path)

    def test_in_a_folder_it_is_not_read(self, path: Path) -> None:
        listing, files = docker_archive([ONE])
        write_folder(path, {**files, "manifest.json": json.dumps([listing]).encode()})
        with pytest.raises(UnsupportedFeature, match=r'(?s)neither index.json.*kind = "rootfs"'):
            read(path)


class TestHostile:
    def test_a_document_with_another_digest(self, path: Path) -> None:
        layout = Layout()
        image = layout.index(layout.image(ONE))
        for name, data in list(layout.files.items()):
            if name.startswith("blobs/") and data != ONE:
                layout.files[name] = data.replace(b"sha256", b"sha512", 1).replace(b"amd64", b"amd46")
                layout.write(path, image)
                with pytest.raises(CorruptImage, match=f"{name}: has the digest sha256:"):
                    read(path)
                layout.files[name] = data

    @pytest.mark.parametrize("size", [0, 1, -1, 1 << 70])
    def test_a_blob_of_another_size(self, size: int, path: Path) -> None:
        layout = Layout()
        image = layout.image(ONE)
        layout.write(path, image | {"size": size})
        with pytest.raises(CorruptImage, match=f"expected {size} bytes, found {image['size']}"):
            read(path)

    def test_a_layer_of_another_size(self, path: Path) -> None:
        layout = Layout()
        image = layout.image(ONE)
        layout.files[f"blobs/sha256/{sha256(ONE)}"] += b"\0"
        layout.write(path, image)
        with pytest.raises(CorruptImage, match=f"{sha256(ONE)}: expected {len(ONE)} bytes, found {len(ONE) + 1}"):
            read(path)

    def test_a_missing_blob(self, path: Path) -> None:
        layout = Layout()
        image = layout.image(ONE)
        for name in [each for each in layout.files if each.startswith("blobs/")]:
            data = layout.files.pop(name)
            layout.write(path, image)
            with pytest.raises(CorruptImage, match=f"expected '{name}' to be there"):
                read(path)
            layout.files[name] = data

    @pytest.mark.parametrize(
        "digest",
        ["sha256:../../x", "sha256:" + "../" * 21 + "x", "md5:00", "../x:00", "sha256:" + "0" * 63, "", None, 7, {}],
    )
    def test_a_digest_that_is_none(self, digest: object, path: Path) -> None:
        layout = Layout()
        layout.write(path, layout.image(ONE) | {"digest": digest})
        with pytest.raises(CorruptImage, match=r"index.json: manifests: "):
            read(path)

    def test_indexes_within_indexes(self, path: Path) -> None:
        layout = Layout()
        entry = layout.image(ONE)
        for _ in range(7):
            entry = layout.index(entry)
        layout.write(path, entry)
        assert read(path) == [ONE]
        layout.write(path, layout.index(layout.index(entry)))
        with pytest.raises(LimitExceeded, match="more than 8 indexes"):
            read(path)

    def test_an_index_that_lists_itself(self, path: Path) -> None:
        layout = Layout()
        index = layout.index()
        data = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
        layout.files[f"blobs/sha256/{index['digest'].removeprefix('sha256:')}"] = data
        layout.write(path, index | {"size": len(data)})
        with pytest.raises(CorruptImage, match="has the digest"):
            read(path)

    def test_many_ways_to_the_same_index(self, path: Path) -> None:
        layout = Layout()
        entry = layout.image(ONE, runs_on=ARM64)
        for _ in range(7):
            entry = layout.index(*[entry] * 1000)
        layout.write(path, *[entry] * 1000)
        with pytest.raises(UnsupportedFeature, match="found linux/arm64/v8"):
            read(path)

    @pytest.mark.parametrize(
        "document",
        [b"", b"{", b"\xff", b"[]", b"1", b"[" * 100_000, b"9" * 10_000, b'{"manifests": 1}', b'{"manifests": [1]}'],
    )
    def test_documents_that_are_none(self, document: bytes, path: Path) -> None:
        layout = Layout()
        write_tar(path, {**layout.files, "index.json": document})
        with pytest.raises(CorruptImage, match=r"index.json"):
            read(path)
        layout.write(path, layout.blob(document, INDEX))
        with pytest.raises(CorruptImage, match=sha256(document)):
            read(path)

    def test_a_document_beyond_the_limit(self, path: Path) -> None:
        layout = Layout()
        layout.write(path, layout.blob(b" " * ((4 << 20) + 1), MANIFEST))
        with pytest.raises(LimitExceeded, match="4194305 bytes"):
            read(path)

    def test_a_document_that_is_index_and_image(self, path: Path) -> None:
        layout = Layout()
        image = layout.image(ONE)
        both = json.loads(layout.files[f"blobs/sha256/{image['digest'].removeprefix('sha256:')}"]) | {"manifests": []}
        for media_type in (INDEX, MANIFEST):
            layout.write(path, layout.document(both, media_type))
            with pytest.raises(CorruptImage, match="expected an"):
                read(path)

    @pytest.mark.parametrize(
        "rootfs", [None, 1, {}, {"diff_ids": 1}, {"diff_ids": []}, {"diff_ids": [1]}, {"diff_ids": ["sha256:x"]}]
    )
    def test_diff_ids_that_are_none(self, rootfs: Any, path: Path) -> None:
        layout = Layout()
        layout.write(path, layout.image(ONE, config={"rootfs": rootfs}))
        with pytest.raises(CorruptImage, match="the image's config: "):
            read(path)

    def test_more_layers_than_the_limit(self, path: Path) -> None:
        layout = Layout()
        layout.write(path, layout.image(*[ONE] * 500))
        assert len(read(path)) == 500
        layout.write(path, layout.image(*[ONE] * 501))
        with pytest.raises(LimitExceeded, match="501 layers"):
            read(path)

    @pytest.mark.parametrize(
        ("media_type", "why"),
        [
            (LAYER + "+gzip+encrypted", "is encrypted"),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "not distributed"),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "not distributed"),
            ("application/vnd.oci.image.layer.v1.tar+lzma", "larder does not know"),
        ],
    )
    def test_layers_that_cannot_be_read(self, media_type: str, why: str, path: Path) -> None:
        layout = Layout()
        config = {**AMD64, "rootfs": {"diff_ids": [f"sha256:{sha256(ONE)}"]}}
        manifest = {"config": layout.document(config, CONFIG), "layers": [layout.blob(ONE, media_type)]}
        layout.write(path, layout.document(manifest, MANIFEST))
        with pytest.raises(UnsupportedFeature, match=f"the layer sha256:{sha256(ONE)} .*{why}"):
            read(path)

    def test_another_version_of_the_layout(self, path: Path) -> None:
        layout = Layout()
        layout.files["oci-layout"] = b'{"imageLayoutVersion": "2.0.0"}'
        layout.write(path, layout.image(ONE))
        with pytest.raises(UnsupportedFeature, match=r"expected version 1.0.0, found '2.0.0'"):
            read(path)

    @pytest.mark.parametrize("linked", ["blobs", "blobs/sha256", "index.json"])
    def test_a_folder_that_leads_elsewhere(self, path: Path, linked: str) -> None:
        layout = Layout()
        layout.write(path.with_name("tar"), layout.image(ONE))
        write_folder(path, layout.files)
        read(path)
        (path / linked).rename(path.with_name("elsewhere"))
        (path / linked).symlink_to(path.with_name("elsewhere"))
        with pytest.raises(StoreError, match=f"{path / linked}.*: (Not a directory|Too many levels)"):
            read(path)

    def test_blobs_that_are_no_files(self, path: Path) -> None:
        layout = Layout()
        image = layout.image(ONE)
        blob = f"blobs/sha256/{sha256(ONE)}"
        layout.write(path.with_name("tar"), image)
        write_folder(path, layout.files)
        (path / blob).unlink()
        os.mkfifo(path / blob)
        with pytest.raises(CorruptImage, match="expected a regular file"):
            read(path)
        (path / blob).unlink()
        (path / blob).symlink_to(path.with_name("tar"))
        with pytest.raises(StoreError, match=blob):
            read(path)
        del layout.files[blob]
        layout.write(path.with_name("other"), image)
        write_tar(path.with_name("other"), layout.files, symlink(blob, "layer"), symlink("layer", blob))
        with pytest.raises(CorruptImage, match=r"expected 'blobs/.*' to be there|regular file"):
            read(path.with_name("other"))


class TestWhatItIs:
    def test_images(self, tmp_path: Path) -> None:
        layout = Layout()
        assert is_image(layout.write(tmp_path / "layout", layout.image(ONE)))
        assert is_image(write_folder(tmp_path / "folder", layout.files))
        listing, files = docker_archive([ONE])
        assert is_image(write_tar(tmp_path / "docker", {**files, "manifest.json": json.dumps([listing]).encode()}))

    def test_what_is_none(self, tmp_path: Path) -> None:
        rootfs = write_tar(tmp_path / "rootfs", {"etc/os-release": b"ID=debian", "manifest.json": b'{"name": "app"}'})
        assert not is_image(rootfs)
        with pytest.raises(ImageError):
            read(rootfs)
        bare = write_tar(tmp_path / "bare", {"etc/os-release": b"ID=debian"})
        assert not is_image(bare)
        with pytest.raises(UnsupportedFeature, match="expected a container image"):
            read(bare)

    @pytest.mark.parametrize("kind", ["tar", "folder"])
    def test_no_file_stays_open_after_an_error(self, kind: str, path: Path) -> None:
        layout = Layout()
        layout.write(path.with_name("tar"), layout.image(ONE) | {"size": 1})
        write_folder(path.with_name("folder"), layout.files)
        before = len(list(Path("/dev/fd").iterdir()))
        with pytest.raises(CorruptImage):
            read(path.with_name(kind))
        assert len(list(Path("/dev/fd").iterdir())) == before

    def test_no_file_at_all(self, path: Path) -> None:
        with pytest.raises(StoreError, match="No such file"):
            read(path)
