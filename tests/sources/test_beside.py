"""Lists beside an image, on a real nginx: every shape that they have, and what is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import ChecksumError, FetchError, OfflineError
from recipes.project import catalogue
from recipes.sources import beside
from recipes.sources.access import Access
from tests.kit.servers import Exchange, misbehaving, nginx

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://h.example/a/disk-x86_64.qcow2.xz?token=1"
SHA256 = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def _quick(quick_and_alone: None) -> None:
    """See tests/conftest.py."""


def test_candidates_are_in_the_folder_of_the_image() -> None:
    found = beside.candidates(URL)
    assert all(each.startswith("https://h.example/a/") and "?" not in each for each in found)
    names = [each.rpartition("/")[2] for each in found]
    assert names[0] == "SHA256SUMS"
    assert {"CHECKSUM.sha256", "disk-x86_64.qcow2.xz.sha512", "disk-x86_64.json", "sha256sum.txt"} <= set(names)
    assert len(set(names)) == len(names)


def test_the_lists_of_the_catalogue_would_be_found() -> None:
    known = 0
    for by_arch in catalogue.images().values():
        for image in by_arch.values():
            url, checksums = image.source.urls[0], image.source.checksums or ""
            # Fedora's has a name of its own, which the index of the folder tells.
            if checksums.rpartition("/")[0] == url.rpartition("/")[0] and not checksums.endswith("-CHECKSUM"):
                assert checksums in beside.candidates(url)
                known += 1
    assert known >= 10


@pytest.mark.parametrize(
    ("content", "at", "found"),
    [
        (f"{SHA256}  disk.img\n", "h/SHA256SUMS", True),
        (f"{SHA256}  other.img\n", "h/SHA256SUMS", False),
        (f"{SHA256}\n", "h/disk.img.sha256", True),
        # Nothing says that it is of this image.
        (f"{SHA256}\n", "h/SHA256SUMS", False),
        ("<html>no such file</html>", "h/SHA256SUMS", False),
        ("", "h/SHA256SUMS", False),
        ("{", "h/disk.json", False),
    ],
)
def test_what_a_list_says(content: str, at: str, found: bool) -> None:
    listed = beside.said("https://h/disk.img", content.encode(), at=f"https://{at}")
    assert (listed is not None) == found
    assert listed is None or listed.digest.hex == SHA256


@pytest.mark.parametrize(
    "content",
    [f"{SHA256}  disk.img\n{'f' * 64}  disk.img\n", f"{'a' * 32}  disk.img\n"],
    ids=["two digests", "md5 only"],
)
def test_one_that_cannot_be_used_is_no_silence(content: str) -> None:
    with pytest.raises(ChecksumError):
        beside.said("https://h/disk.img", content.encode(), at="https://h/SHA256SUMS")


def test_the_index_of_a_folder_names_lists(tmp_path: Path) -> None:
    root, prefix = tmp_path / "root", tmp_path / "nginx"
    root.mkdir()
    prefix.mkdir()
    for name in ("Fedora-44-x86_64-CHECKSUM", "SHA256SUMS", "disk.img", "a CHECKSUM", "Fedora-CHECKSUM.asc"):
        (root / name).write_text("x")
    with nginx(root, prefix, server="autoindex on;") as server:
        found = beside.in_index(f"{server.url}/disk.img", Access())
    assert found == [f"{server.url}/Fedora-44-x86_64-CHECKSUM", f"{server.url}/a%20CHECKSUM"]


def test_signatures_stand_behind_the_lists_name(tmp_path: Path) -> None:
    root, prefix = tmp_path / "root", tmp_path / "nginx"
    root.mkdir()
    prefix.mkdir()
    (root / "SHA256SUMS.sign").write_bytes(b"signature")
    with nginx(root, prefix) as server:
        url = f"{server.url}/SHA256SUMS"
        assert beside.signature(url, Access()) == (f"{url}.sign", b"signature")
        assert beside.signature(f"{server.url}/OTHER", Access()) is None


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there(status: int) -> None:
    with misbehaving(lambda exchange: exchange.reply(status)) as server:
        assert beside.get(f"{server.url}/SHA256SUMS", Access()) is None


def test_a_page_is_no_list() -> None:
    def behave(exchange: Exchange) -> None:
        exchange.reply(200, b"<!doctype html><title>Not found</title>")

    with misbehaving(behave) as server:
        assert beside.get(f"{server.url}/SHA256SUMS", Access()) is None
        assert beside.get(f"{server.url}/", Access(), html=True) is not None


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_what_cannot_be_told_is_not_missing(status: int) -> None:
    with misbehaving(lambda exchange: exchange.reply(status)) as server, pytest.raises(FetchError):
        beside.get(f"{server.url}/SHA256SUMS", Access())


def test_offline() -> None:
    with pytest.raises(OfflineError):
        beside.get(URL, Access(offline=True))


def test_files(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text("x")
    assert beside.get((tmp_path / "SHA256SUMS").as_uri(), Access()) == b"x"
    assert beside.get((tmp_path / "other").as_uri(), Access()) is None
    assert beside.in_index((tmp_path / "disk.img").as_uri(), Access()) == []
