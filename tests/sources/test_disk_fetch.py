"""Downloading a disk from a registry: found through an index, resumed, and nothing but what its digests say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, FetchError, ImageError, OfflineError, UnsupportedFeature
from recipes.model import Digest
from recipes.sources.access import Access
from recipes.sources.disk_fetch import Wanted, pull, size
from tests.kit.registries import Document, Fake, index, sha256
from tests.kit.registry_disks import artifact, listing
from tests.kit.servers import Exchange, Server, misbehaving
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nobody")

DATA = random.Random(18).randbytes(2_000_000)
DISK, OTHER = artifact(DATA), artifact(b"another")
PLATFORM = {"os": "linux", "architecture": "x86_64"}
INDEX = listing(
    {**OTHER.descriptor(PLATFORM), "annotations": {"disktype": "vhdx"}},
    {**DISK.descriptor(PLATFORM), "annotations": {"disktype": "raw"}},
)
BLOB = sha256(DATA)


def holding(*documents: Document, hook: Callable[[Exchange], bool] | None = None) -> Fake:
    fake = Fake(hook)
    for each in documents:
        fake.add(each)
    return fake


def thing(server: Server) -> str:
    return f"oci://127.0.0.1:{server.port}/acme/thing:ignored"


def wanted(document: Document = INDEX, disktype: str = "") -> Wanted:
    return Wanted(Digest.parse(document.digest), "x86_64", disktype)


def access(*, offline: bool = False) -> Access:
    return Access(offline=offline, progress=Watch())


def test_it_is_found_and_downloaded(tmp_path: Path) -> None:
    with misbehaving(holding(INDEX, DISK, OTHER)) as server:
        assert size([thing(server)], access(), wanted(), "thing") == len(DATA)
        assert not any("/blobs/" in seen.path for seen in server.seen)
        pulled = pull([thing(server)], tmp_path / "part", access(), wanted(), "thing")
    assert pulled.served == f"{thing(server).removesuffix(':ignored')}@{BLOB}"
    assert (str(pulled.digest), pulled.size) == (BLOB, len(DATA))
    assert (tmp_path / "part").read_bytes() == DATA


def test_the_one_that_is_declared(tmp_path: Path) -> None:
    with misbehaving(holding(INDEX, DISK, OTHER)) as server:
        pull([thing(server)], tmp_path / "part", access(), wanted(disktype="vhdx"), "thing")
    assert (tmp_path / "part").read_bytes() == b"another"


def test_a_cut_is_resumed(tmp_path: Path) -> None:
    cut: list[str] = []

    def hook(exchange: Exchange) -> bool:
        if "/blobs/" not in exchange.path or cut:
            return False
        cut.append(exchange.path)
        exchange.reply(200, DATA[:700_000], Content_Length=len(DATA), ETag=f'"{BLOB}"', Accept_Ranges="bytes")
        return True

    with misbehaving(holding(INDEX, DISK, hook=hook)) as server:
        pull([thing(server)], tmp_path / "part", access(), wanted(), "thing")
    assert cut
    assert (tmp_path / "part").read_bytes() == DATA


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    fake = holding(INDEX, DISK)
    fake.blobs[BLOB] = bytes(len(DATA))
    with misbehaving(fake) as server, pytest.raises(DigestMismatch):
        pull([thing(server)], tmp_path / "part", access(), wanted(), "thing")
    assert not (tmp_path / "part").exists()


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    fake = holding(INDEX, DISK)
    fake.documents[DISK.digest] = OTHER
    with misbehaving(fake) as server, pytest.raises(DigestMismatch, match="wrong digest"):
        pull([thing(server)], tmp_path / "part", access(), wanted(), "thing")


def test_a_cut_blob_is_refused(tmp_path: Path) -> None:
    fake = holding(INDEX, DISK)
    fake.blobs[BLOB] = DATA[:-1]
    with misbehaving(fake) as server, pytest.raises(FetchError, match=rf"expected {len(DATA)} bytes"):
        pull([thing(server)], tmp_path / "part", access(), wanted(), "thing")


def test_one_that_lacks_it_is_passed_over(tmp_path: Path) -> None:
    with misbehaving(holding()) as empty, misbehaving(holding(INDEX, DISK)) as server:
        pulled = pull([thing(empty), thing(server)], tmp_path / "part", access(), wanted(), "thing")
    assert str(server.port) in pulled.served


def test_offline(tmp_path: Path) -> None:
    with misbehaving(holding(INDEX, DISK)) as server:
        with pytest.raises(OfflineError):
            pull([thing(server)], tmp_path / "part", access(offline=True), wanted(), "thing")
        assert not server.seen


def test_indexes_have_an_end() -> None:
    below = index((DISK, None))
    documents = [below]
    for _ in range(20):
        below = index((below, None))
        documents.append(below)
    with (
        misbehaving(holding(DISK, *documents)) as server,
        pytest.raises(FetchError, match="more than 16 indexes within one another"),
    ):
        size([thing(server)], access(), wanted(below), "thing")


def test_what_is_no_disk_is_named() -> None:
    broken = Document(b'{"schemaVersion": 1}', DISK.media_type)
    with misbehaving(holding(broken, INDEX)) as server:
        with pytest.raises(ImageError, match=rf"thing: oci://.*{broken.digest}: the manifest is of docker's schema 1"):
            size([thing(server)], access(), wanted(broken), "thing")
        with pytest.raises(UnsupportedFeature, match="no disk for linux/amd64 with disktype 'vmdk', only"):
            size([thing(server)], access(), wanted(disktype="vmdk"), "thing")
