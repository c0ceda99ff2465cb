from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import ChecksumError, FetchError, UnsupportedFeature
from recipes.formats.oci.spec import INDEX, MANIFEST
from recipes.model import Digest, Source
from recipes.sources import checksums
from recipes.sources.manifests import Named
from recipes.sources.repin import announced, repinned
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://example.org/20260101/disk.img"
OLD, NEW = Digest("sha256", "a" * 64), Digest("sha256", "b" * 64)


def source(**changes: Any) -> Source:
    return Source((URL,), OLD, checksums="https://example.org/SHA256SUMS")._replace(**changes)


def listed(digest: Digest, name: str = "disk.img", size: int | None = None) -> checksums.ChecksumList:
    said = "" if size is None else f"# {name}: {size} bytes\n"
    return checksums.parse(f"{said}{digest.hex}  {name}\n")


class TestLists:
    def test_the_same_bytes_are_the_same_source(self) -> None:
        assert repinned(source(), "x86_64", listed(OLD)) == source()
        assert repinned(source(size=5), "x86_64", listed(OLD)) == source(size=5)

    def test_new_bytes(self) -> None:
        assert repinned(source(), "x86_64", listed(NEW)).digest == NEW

    def test_a_size_is_declared_or_not(self) -> None:
        assert repinned(source(), "x86_64", listed(NEW, size=7)).size is None
        assert repinned(source(size=5), "x86_64", listed(NEW, size=7)).size == 7
        assert repinned(source(size=5), "x86_64", listed(NEW)).size is None
        assert repinned(source(size=5), "x86_64", listed(OLD, size=7)).size == 7

    def test_a_list_that_does_not_name_it(self) -> None:
        with pytest.raises(ChecksumError, match="does not name"):
            repinned(source(), "x86_64", listed(NEW, "other.img"))


def index(*architectures: str) -> Named:
    manifests = [
        {
            "mediaType": MANIFEST,
            "digest": f"sha256:{number:064}",
            "size": 5,
            "platform": {"os": "linux", "architecture": each},
        }
        for number, each in enumerate(architectures)
    ]
    return Named.parse(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode())


class TestTags:
    def pinned(self, digest: Digest, *, in_url: bool) -> Source:
        url = f"oci://registry.test/acme/thing:1@{digest}" if in_url else "oci://registry.test/acme/thing:1"
        return Source((url, "oci://mirror.test/acme/thing:1"), digest)

    def test_the_same_image_is_the_same_source(self) -> None:
        named = index("amd64", "arm64")
        for digest in (named.digest, Digest("sha256", f"{0:064}")):
            for in_url in (True, False):
                assert repinned(self.pinned(digest, in_url=in_url), "x86_64", named) == self.pinned(
                    digest, in_url=in_url
                )

    @pytest.mark.parametrize("in_url", [True, False])
    def test_a_new_one_is_pinned_where_the_old_one_was(self, in_url: bool) -> None:
        named = index("amd64", "arm64")
        assert repinned(self.pinned(OLD, in_url=in_url), "x86_64", named) == self.pinned(named.digest, in_url=in_url)

    def test_one_that_has_nothing_for_us_any_more(self) -> None:
        with pytest.raises(UnsupportedFeature, match="arm64"):
            repinned(self.pinned(OLD, in_url=True), "x86_64", index("arm64"))


@pytest.mark.usefixtures("quick_and_alone")
class TestAnnounced:
    def test_a_length(self) -> None:
        with misbehaving(lambda exchange: exchange.reply(body=b"12345")) as server:
            assert announced([f"{server.url}/a"], label="x") == 5
        assert [seen.method for seen in server.seen] == ["GET"]

    def test_none(self) -> None:
        def behave(exchange: Any) -> None:
            exchange.start(200, {"Transfer-Encoding": "chunked"})
            exchange.chunk(b"")

        with misbehaving(behave) as server:
            assert announced([f"{server.url}/a"], label="x") is None

    def test_the_first_that_serves_it(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"123")
        with misbehaving(lambda exchange: exchange.reply(404)) as server:
            assert announced([f"{server.url}/a", path.as_uri()], label="x") == 3
            with pytest.raises(FetchError, match="404"):
                announced([f"{server.url}/a"], label="x")
