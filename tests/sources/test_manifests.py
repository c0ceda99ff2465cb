from __future__ import annotations

import json
from typing import Any

import pytest

from recipes.errors import CorruptImage, ImageError, UnsupportedFeature
from recipes.model import Digest
from recipes.sources.manifests import Index, Manifest, Named, parse
from tests.kit.registries import AMD64, ARM64, DOCKER, OCI, Document, image, index, layer

AMD, ARM = image(layer({"a": b"amd"})), image(layer({"a": b"arm"}), arch="arm64")
OLD = {"os": "linux", "architecture": "arm", "variant": "v7"}
ATTESTATION = {"os": "unknown", "architecture": "unknown"}


def chosen(*entries: tuple[Document, dict[str, str] | None], arch: Any = "x86_64") -> list[str]:
    document = parse(index(*entries).data)
    assert isinstance(document, Index)
    return [str(each.digest) for each in document.candidates(arch)]


class TestWhichImage:
    @pytest.mark.parametrize("types", [OCI, DOCKER])
    def test_the_one_for_the_machine(self, types: dict[str, str]) -> None:
        amd, arm = (image(b"x" * 512, arch=arch, types=types) for arch in ("amd64", "arm64"))
        document = parse(index((arm, ARM64), (amd, AMD64), types=types).data)
        assert isinstance(document, Index)
        assert [str(each.digest) for each in document.candidates("x86_64")] == [amd.digest]
        assert [str(each.digest) for each in document.candidates("aarch64")] == [arm.digest]

    def test_the_first_of_several(self) -> None:
        assert chosen((AMD, AMD64), (ARM, AMD64)) == [AMD.digest]

    @pytest.mark.parametrize(
        ("platform", "runs"),
        [
            ({**AMD64, "variant": "v1"}, True),
            ({**AMD64, "variant": "v2"}, True),
            ({**AMD64, "architecture": "x86_64"}, True),
            ({**AMD64, "variant": "v3"}, False),
            ({**AMD64, "os": "windows"}, False),
            (OLD, False),
        ],
    )
    def test_not_every_variant_runs(self, platform: dict[str, str], runs: bool) -> None:
        assert chosen((ARM, ARM64), (AMD, platform)) == ([AMD.digest] if runs else [])

    def test_what_every_machine_runs_goes_first(self) -> None:
        assert chosen((AMD, {**AMD64, "variant": "v2"}), (ARM, AMD64)) == [ARM.digest]

    def test_one_without_a_platform_if_it_is_the_only_one(self) -> None:
        assert chosen((AMD, None)) == [AMD.digest]
        assert chosen((AMD, None), (ARM, None)) == []
        assert chosen((ARM, ATTESTATION)) == []

    def test_indexes_that_may_have_one(self) -> None:
        inner, other = index((AMD, AMD64)), index((ARM, ARM64))
        assert chosen((inner, None), (other, ARM64)) == [inner.digest]
        assert chosen((inner, None), (AMD, AMD64)) == [AMD.digest]


class TestNamed:
    def test_what_a_tag_names_for_a_machine(self) -> None:
        assert str(Named.parse(AMD.data).digest_for("x86_64", "here")) == AMD.digest
        both = Named.parse(index((AMD, AMD64), (ARM, ARM64)).data)
        assert str(both.digest_for("aarch64", "here")) == ARM.digest
        # The inner one would have to be fetched to know more.
        outer = index((index((AMD, AMD64)), None))
        assert str(Named.parse(outer.data).digest_for("x86_64", "here")) == outer.digest

    def test_nothing_for_the_machine(self) -> None:
        named = Named.parse(index((ARM, ARM64), (AMD, OLD), (AMD, ATTESTATION)).data)
        with pytest.raises(UnsupportedFeature) as caught:
            named.digest_for("x86_64", "oci://h/a:1")
        assert (
            str(caught.value) == "oci://h/a:1: there is no image for linux/amd64, only for linux/arm64/v8, linux/arm/v7"
        )

    def test_what_it_has(self) -> None:
        document = index((AMD, AMD64))
        named = Named.parse(document.data)
        assert named.has(Digest.parse(document.digest))
        assert named.has(Digest.parse(AMD.digest))
        assert not named.has(Digest.parse(ARM.digest))


def test_a_blob_that_is_there_twice() -> None:
    one = layer({"a": b"1"})
    document = parse(image(one, layer({}), one).data)
    assert isinstance(document, Manifest)
    assert len(document.blobs) == 3
    assert document.blobs[0] == document.config


def edited(**changes: Any) -> bytes:
    fields = {**json.loads(AMD.data), **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


CONFIG = json.loads(AMD.data)["config"]


def test_the_media_type_may_be_missing() -> None:
    document = parse(edited(mediaType=None))
    assert isinstance(document, Manifest)
    assert document.media_type == OCI["manifest"]


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"", CorruptImage, "expected a JSON document"),
        (b"\xff\xfe", CorruptImage, "expected a JSON document"),
        (b"[" * 100_000, CorruptImage, "expected a JSON document"),
        (b"[]", CorruptImage, "expected an object"),
        (b"{}", CorruptImage, "schemaVersion"),
        (edited(schemaVersion=1), UnsupportedFeature, "docker's schema 1"),
        (edited(schemaVersion=3), UnsupportedFeature, "found 3"),
        (edited(manifests=[]), CorruptImage, "a manifest and an index at once"),
        (edited(mediaType="application/vnd.example+json"), UnsupportedFeature, r"found application/vnd\.example"),
        (edited(mediaType=OCI["index"]), UnsupportedFeature, "found application/vnd.oci.image.index"),
        (edited(config=None), CorruptImage, "config"),
        (edited(layers=None), CorruptImage, "layers"),
        (edited(layers={}), CorruptImage, "layers"),
        (edited(config={**CONFIG, "digest": "sha256:12"}), CorruptImage, "64 hexadecimal digits"),
        (edited(config={**CONFIG, "digest": "sha256:../../etc"}), CorruptImage, "hexadecimal"),
        (edited(config={**CONFIG, "size": -1}), CorruptImage, "expected a number of bytes, found -1"),
        (edited(config={**CONFIG, "size": 0}), CorruptImage, "expected a number of bytes, found 0"),
        (edited(config={**CONFIG, "size": 1 << 60}), CorruptImage, "expected a number of bytes"),
        (edited(config={**CONFIG, "size": "1"}), CorruptImage, "expected a number"),
        (edited(layers=[CONFIG, {**CONFIG, "size": 5}]), CorruptImage, "has two sizes"),
    ],
)
def test_what_cannot_be_used(data: bytes, error: type[ImageError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        parse(data)
