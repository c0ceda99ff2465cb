"""From a declaration and a list to what upstream serves, and to what a pin would be today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.errors import ChecksumError
from recipes.model import Digest, Identity, Image, Source
from recipes.sources.access import Access
from recipes.sources.checksums import parse
from recipes.sources.lists import ListRef, Lists
from recipes.sources.repin import announced, repinned
from recipes.sources.resolve import resolve, served
from tests.kit import registries
from tests.kit.registries import Fake, layer
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from recipes.sources.checksums import ChecksumList

SAMPLES = Path(__file__).parent / "lists"
A, B = "a1" * 32, "b2" * 32
LONG = "d4" * 64
PIN = Digest("sha256", "0" * 64)


def sample(name: str) -> ChecksumList:
    return parse((SAMPLES / name).read_text())


#: Sample, declared url, pattern, what it becomes.
MOVES = [
    (
        "ubuntu-simplestreams.json",
        "https://cloud-images.ubuntu.com/releases/noble/release-20260101/ubuntu-24.04-server-cloudimg-amd64.img",
        "release-*/ubuntu-24.04-server-cloudimg-amd64.img",
        "https://cloud-images.ubuntu.com/releases/noble/release-20260705/ubuntu-24.04-server-cloudimg-amd64.img",
    ),
    (
        "debian-sidecar.json",
        "https://cloud.debian.org/images/cloud/trixie/20260101-1/debian-13-genericcloud-amd64-20260101-1.qcow2",
        "*/debian-13-genericcloud-amd64-*.qcow2",
        "https://cloud.debian.org/images/cloud/trixie/20260712-2537/debian-13-genericcloud-amd64-20260712-2537.qcow2",
    ),
    (
        "almalinux-CHECKSUM",
        "https://repo.almalinux.org/almalinux/10/cloud/x86_64/images/AlmaLinux-10-GenericCloud-10.1-1.x86_64.qcow2?a=b",
        "AlmaLinux-10-GenericCloud-10.*.x86_64.qcow2",
        "https://repo.almalinux.org/almalinux/10/cloud/x86_64/images/"
        "AlmaLinux-10-GenericCloud-10.2-20260526.0.x86_64.qcow2?a=b",
    ),
    (
        "fcos-stable.json",
        "https://builds.coreos.fedoraproject.org/prod/streams/stable/builds/43.1/x86_64/"
        "fedora-coreos-43.1-qemu.x86_64.qcow2.xz",
        "fedora-coreos-*-qemu.x86_64.qcow2.xz",
        "https://builds.coreos.fedoraproject.org/prod/streams/stable/builds/44.20260707.3.1/x86_64/"
        "fedora-coreos-44.20260707.3.1-qemu.x86_64.qcow2.xz",
    ),
    (
        "wsl-DistributionInfo.json",
        "https://releases.ubuntu.com/old/ubuntu-26.04-wsl-amd64.wsl",
        None,
        "https://releases.ubuntu.com/26.04/ubuntu-26.04-wsl-amd64.wsl",
    ),
    (
        "oracle-template.json",
        "https://yum.oracle.com/templates/OracleLinux/OL10/u0/x86_64/OL10U0_x86_64-kvm-b266.qcow2",
        "OL10/u*/x86_64/OL10U*_x86_64-kvm-b*.qcow2",
        "https://yum.oracle.com/templates/OracleLinux/OL10/u1/x86_64/OL10U1_x86_64-kvm-b291.qcow2",
    ),
    ("opensuse.sha256", "https://h/x/Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2", None, None),
]


@pytest.mark.parametrize(("name", "url", "pattern", "moved"), MOVES, ids=[move[0] for move in MOVES])
@pytest.mark.parametrize("pin", [None, PIN], ids=["floating", "pinned"])
def test_where_the_file_is_now(name: str, url: str, pattern: str | None, moved: str | None, pin: Digest | None) -> None:
    source = Source((url,), checksums="https://h/list", pattern=pattern, digest=pin)
    assert served(source, sample(name)).urls == (moved or url,)


def test_each_url_keeps_its_server() -> None:
    source = Source(("https://m/x/v1/a.img", "https://h/y/v1/a.img"), pattern="v*/a.img")
    assert served(source, parse(f"{A}  v1/a.img\n{B}  v2/a.img")).urls == (
        "https://m/x/v2/a.img",
        "https://h/y/v2/a.img",
    )
    entry = {"location": "https://h/elsewhere/v2/a.img", "sha256": A}
    assert served(source, parse(json.dumps(entry))).urls == ("https://h/elsewhere/v2/a.img", "https://h/y/v2/a.img")
    entry["location"] = "https://h/y/v2/a.img"
    assert served(source, parse(json.dumps(entry))).urls == ("https://m/x/v2/a.img", "https://h/y/v2/a.img")


def test_a_quoted_name_is_looked_up_unquoted() -> None:
    assert served(Source(("https://h/a%20b%2B.img",)), parse(f"{A}  a b+.img")).digest.hex == A


@pytest.mark.parametrize(
    ("pin", "text", "expected"),
    [
        (None, f"SHA256 (a) = {A}\nSHA512 (a) = {LONG}", f"sha512:{LONG}"),
        (PIN, f"SHA256 (a) = {A}\nSHA512 (a) = {LONG}", f"sha256:{A}"),
        (PIN, f"SHA512 (a) = {LONG}", f"sha512:{LONG}"),
        (Digest("sha512", LONG), f"SHA256 (a) = {A}", f"sha256:{A}"),
    ],
)
def test_which_digest(pin: Digest | None, text: str, expected: str) -> None:
    assert str(served(Source(("https://h/a",), digest=pin), parse(text)).digest) == expected


def test_weak_digests_are_refused() -> None:
    with pytest.raises(ChecksumError, match="with md5 only"):
        served(Source(("https://h/a",), digest=PIN), parse(f"MD5 (a) = {'0' * 32}"))


class TestRepinned:
    SOURCE = Source(("https://h/v1/a",), digest=PIN, checksums="https://h/v1/SUMS", pattern="v*/a")

    def test_the_same_bytes_are_the_same_source(self) -> None:
        assert repinned(self.SOURCE, "x86_64", parse(f"{PIN.hex}  v2/a")) == self.SOURCE
        sized = self.SOURCE._replace(size=7)
        assert repinned(sized, "x86_64", parse(f"{PIN.hex}  v1/a")) == sized

    def test_a_size_that_is_wrong(self) -> None:
        text = f"# v1/a: 8 bytes\nSHA256 (v1/a) = {PIN.hex}"
        assert repinned(self.SOURCE._replace(size=7), "x86_64", parse(text)).size == 8
        assert repinned(self.SOURCE, "x86_64", parse(text)).size is None

    def test_new_bytes(self) -> None:
        text = f"# v2/a: 8 bytes\nSHA256 (v2/a) = {A}"
        expected = self.SOURCE._replace(urls=("https://h/v2/a",), digest=Digest("sha256", A))
        assert repinned(self.SOURCE, "x86_64", parse(text)) == expected
        assert repinned(self.SOURCE._replace(size=7), "x86_64", parse(text)) == expected._replace(size=8)
        assert repinned(self.SOURCE._replace(size=7), "x86_64", parse(f"{A}  v2/a")) == expected

    def test_the_announced_size_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(5))
        assert announced([(tmp_path / "none").as_uri(), (tmp_path / "a").as_uri()], label="a") == 5


class TestResolve:
    @staticmethod
    def lists(folder: Path, source: Source, text: str) -> Lists:
        (folder / "SUMS").write_text(text)
        lists = Lists(folder / "lists")
        ref = ListRef.declared(source)
        assert ref
        lists.refresh(ref, Access(offline=True, strict=False))
        return lists

    def test_a_pin_never_looks_at_the_list(self, tmp_path: Path) -> None:
        source = Source(("https://h/v1/a",), PIN, 7, checksums=(tmp_path / "SUMS").as_uri(), pattern="v*/a")
        identity = resolve(Image("i", "x86_64", "disk", source), self.lists(tmp_path, source, f"{A}  v2/a"))
        assert (identity.urls, identity.digest, identity.size) == (source.urls, PIN, 7)

    @pytest.mark.parametrize("size", [None, 9])
    def test_a_declared_size_counts_more_than_a_listed_one(self, tmp_path: Path, size: int | None) -> None:
        source = Source(("https://h/a",), size=size, checksums=(tmp_path / "SUMS").as_uri())
        lists = self.lists(tmp_path, source, f"# a: 8 bytes\nSHA256 (a) = {A}")
        assert resolve(Image("i", "x86_64", "disk", source), lists).size == (size or 8)


@pytest.mark.usefixtures("nobody")
class TestRegistries:
    def image(self, *urls: str, digest: Digest | None = None) -> Image:
        return Image("thing", "x86_64", "oci", Source(urls, digest))

    def test_a_pin_is_what_is_fetched_whatever_the_tag(self, tmp_path: Path) -> None:
        image = self.image("oci://docker.io/alpine:3", f"oci://m.example/alpine:3@{PIN}", digest=PIN)
        identity = resolve(image, Lists(tmp_path))
        assert identity == Identity((f"oci://docker.io/library/alpine@{PIN}", f"oci://m.example/alpine@{PIN}"), PIN)

    def test_a_tag_is_what_the_first_url_says(self, tmp_path: Path) -> None:
        document = registries.image(layer({}))
        fake = Fake()
        fake.add(document, "1")
        with misbehaving(fake) as server:
            host = f"127.0.0.1:{server.port}"
            floating = self.image(f"oci://{host}/acme/thing:1", "oci://m.example/thing:2")
            ref = ListRef.of(floating.source)
            assert ref
            lists = Lists(tmp_path)
            lists.refresh(ref, Access(offline=False, strict=True))
            identity = resolve(floating, lists)
        digest = Digest.parse(document.digest)
        assert identity.urls == (f"oci://{host}/acme/thing@{digest}", f"oci://m.example/thing@{digest}")
        assert identity.digest == digest
        assert identity.size is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/projects/x/files/disk.img/download",
        "https://example.org/get.php?mirror=eu&file=release/disk.img",
        "https://example.org/disk.img?token=other.img",
    ],
)
def test_a_name_that_is_not_at_the_end_of_the_path(url: str) -> None:
    listed = parse(f"{A}  disk.img\n{B}  other.img\n")
    assert served(Source((url,)), listed).digest.hex == A


def test_what_is_not_listed_is_named_by_the_end_of_the_path() -> None:
    with pytest.raises(ChecksumError, match=r"does not name get\.php"):
        served(Source(("https://example.org/get.php?file=gone.img",)), parse(f"{A}  disk.img\n"))
