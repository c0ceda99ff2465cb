from __future__ import annotations

import pytest

from recipes.model import Digest
from recipes.reference import Namespace, Reference, component

HEX = "ab" * 32
PIN = Digest("sha256", HEX)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oci://ghcr.io/acme/thing:1.2", Reference("ghcr.io", "acme/thing", "1.2")),
        ("oci://ghcr.io/acme/thing", Reference("ghcr.io", "acme/thing", "latest")),
        (f"oci://ghcr.io/acme/thing@sha256:{HEX}", Reference("ghcr.io", "acme/thing", None, PIN)),
        (f"oci://ghcr.io/acme/thing:1.2@sha256:{HEX}", Reference("ghcr.io", "acme/thing", "1.2", PIN)),
        ("oci://127.0.0.1:5000/a__b/c-d.e:T_1", Reference("127.0.0.1:5000", "a__b/c-d.e", "T_1")),
        ("oci://[::1]:5000/a:1", Reference("[::1]:5000", "a", "1")),
        ("oci://GHCR.io/a:1", Reference("ghcr.io", "a", "1")),
        ("oci://docker.io/alpine:3", Reference("docker.io", "library/alpine", "3")),
        ("oci://docker.io/library/alpine:3", Reference("docker.io", "library/alpine", "3")),
        ("oci://index.docker.io/acme/thing:3", Reference("docker.io", "acme/thing", "3")),
    ],
)
def test_what_is_one(url: str, expected: Reference) -> None:
    assert Reference.parse(url) == expected
    assert Reference.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "oci://alpine:3",
        "oci:///alpine:3",
        "https://ghcr.io/a:1",
        "oci://user:secret@ghcr.io/a:1",
        "oci://ghcr.io/Acme/thing:1",
        "oci://ghcr.io/a//b:1",
        "oci://ghcr.io/a/../b:1",
        "oci://ghcr.io/a:",
        "oci://ghcr.io/a:.1",
        f"oci://ghcr.io/a:{'x' * 129}",
        "oci://ghcr.io/a@sha256:12",
        f"oci://ghcr.io/a@md5:{'0' * 32}",
        f"oci://ghcr.io/a@sha256:{HEX}:1",
        "oci://ghcr.io/a:1?b",
        "oci://ghcr.io/a:1\n",
    ],
)
def test_what_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|takes"):
        Reference.parse(url)


def test_what_is_made_of_one() -> None:
    both = Reference.parse(f"oci://docker.io/alpine:3@sha256:{HEX}")
    assert str(both.tagged()) == "oci://docker.io/library/alpine:3"
    other = Digest("sha256", "cd" * 32)
    assert str(both.pinned(other)) == f"oci://docker.io/library/alpine@{other}"


@pytest.mark.parametrize(
    ("text", "plain", "repository"),
    [
        ("ghcr.io/acme/images", False, "oci://ghcr.io/acme/images/debian-12:latest"),
        ("GHCR.io", False, "oci://ghcr.io/debian-12:latest"),
        ("http://registry.lan:5000/images", True, "oci://registry.lan:5000/images/debian-12:latest"),
        ("localhost/a", False, "oci://localhost/a/debian-12:latest"),
        ("index.docker.io/acme", False, "oci://docker.io/acme/debian-12:latest"),
    ],
)
def test_a_place_to_share(text: str, plain: bool, repository: str) -> None:
    namespace = Namespace.parse(text)
    assert namespace.plain is plain
    assert str(namespace.repository("debian-12")) == repository
    assert str(namespace.repository("debian-12").tag_of("t")) == repository.replace("latest", "t")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "images",
        "acme/images",
        "https://ghcr.io/a",
        "ghcr.io/a:1",
        "ghcr.io/a/",
        "ghcr.io//a",
        "ghcr.io/A",
        "http://",
    ],
)
def test_no_place_to_share(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST/PATH"):
        Namespace.parse(text)


def test_a_name_as_a_component() -> None:
    assert component("debian-12.5+x..y_") == "debian-12.5-x-y"
