from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError, UnsupportedFeature
from recipes.sources import machines
from recipes.sources.access import Access
from recipes.sources.manifests import Named
from tests.kit.registries import Document, Fake, image, index, layer, write_layout
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

AMD64, ARM64 = ({"os": "linux", "architecture": arch} for arch in ("amd64", "arm64"))
LAYER = layer({"a": b"x"})


@pytest.fixture(autouse=True)
def _quick(quick_and_alone: None) -> None:
    """See tests/conftest.py."""


def asked(document: Document, *below: Document) -> tuple[str, ...]:
    """Return what `machines.of` says of `document` in a registry that has those `below` it as well."""
    fake = Fake()
    for each in (document, *below):
        fake.add(each, "t")
    with misbehaving(fake) as server:
        url = f"oci://{server.url.removeprefix('http://')}/acme/thing:t"
        return machines.of(Named.parse(document.data), url, Access())


def test_an_index_says() -> None:
    both = [image(LAYER, arch=arch) for arch in ("amd64", "arm64")]
    assert asked(index((both[0], AMD64), (both[1], ARM64))) == ("x86_64", "aarch64")
    assert asked(index((both[1], ARM64))) == ("aarch64",)


@pytest.mark.parametrize(("arch", "found"), [("amd64", ("x86_64",)), ("arm64", ("aarch64",))])
def test_a_manifests_config_says(arch: str, found: tuple[str, ...]) -> None:
    assert asked(image(LAYER, arch=arch)) == found


def test_what_is_for_other_machines() -> None:
    with pytest.raises(UnsupportedFeature, match="mips64le"):
        asked(image(LAYER, arch="mips64le"))
    with pytest.raises(UnsupportedFeature, match="no image for any machine"):
        asked(index((image(LAYER), {"os": "windows", "architecture": "amd64"})))


def test_a_layout_whose_index_does_not_say(tmp_path: Path) -> None:
    document = image(LAYER, arch="arm64")
    write_layout(tmp_path / "layout", document)
    named = Named.parse((tmp_path / "layout" / "index.json").read_bytes())
    assert machines.of(named, f"{(tmp_path / 'layout').as_uri()}/", Access()) == ("aarch64",)


def test_a_config_that_cannot_be_had() -> None:
    document = image(LAYER)
    fake = Fake()
    fake.add(document, "t")
    fake.blobs.clear()
    with misbehaving(fake) as server, pytest.raises(FetchError):
        machines.of(Named.parse(document.data), f"oci://{server.url.removeprefix('http://')}/acme/thing:t", Access())
