from __future__ import annotations

from typing import Any

import pytest

from recipes.errors import CorruptImage
from recipes.formats.oci.spec import Descriptor, Platform, parse

DIGEST = "sha256:" + "a" * 64
DESCRIPTOR: dict[str, Any] = {"mediaType": "application/x", "digest": DIGEST, "size": 7}


@pytest.mark.parametrize(
    ("platform", "arch", "runs"),
    [
        (Platform("linux", "amd64"), "x86_64", True),
        (Platform("linux", "amd64", "v2"), "x86_64", True),
        (Platform("linux", "amd64", "v3"), "x86_64", False),
        (Platform("linux", "arm64"), "aarch64", True),
        (Platform("linux", "arm64", "v8"), "aarch64", True),
        (Platform("linux", "arm64", "v9"), "aarch64", False),
        (Platform("windows", "amd64"), "x86_64", False),
        (Platform("linux", "arm64"), "x86_64", False),
    ],
)
def test_what_runs_where(platform: Platform, arch: Any, runs: bool) -> None:
    assert platform.runs_on(arch) is runs


def test_the_names_of_the_kernel_are_those_of_go() -> None:
    assert Platform.read({"os": "linux", "architecture": "aarch64"}, "x") == Platform("linux", "arm64")
    assert Platform.read({"os": "linux"}, "x") is None


def test_a_descriptor() -> None:
    found = Descriptor.read(DESCRIPTOR | {"platform": {"os": "linux", "architecture": "amd64"}}, "x")
    assert (found.media_type, str(found.digest), found.size) == ("application/x", DIGEST, 7)
    assert found.path == f"blobs/sha256/{'a' * 64}"
    assert found.platform == Platform("linux", "amd64")


@pytest.mark.parametrize(
    "wrong",
    [{"digest": "../../etc/passwd"}, {"digest": "sha256:0"}, {"size": "7"}, {"mediaType": None}, {"platform": 1}],
)
def test_what_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(CorruptImage, match="here"):
        Descriptor.read(DESCRIPTOR | wrong, "here")


def test_documents() -> None:
    assert parse(b'{"a": 1}', dict, "x") == {"a": 1}
    for data in (b"[]", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(CorruptImage, match="here"):
            parse(data, dict, "here")
