"""The cached checksum lists, without doit: what is one list, and what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError, LarderError, OfflineError
from recipes.model import Digest, Source
from recipes.sources import lists as module
from recipes.sources.access import Access
from recipes.sources.checksums import ChecksumList
from recipes.sources.lists import ListRef, Lists

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a1" * 32, "b2" * 32


@pytest.fixture(autouse=True)
def _keyrings_change(monkeypatch: pytest.MonkeyPatch) -> None:
    module._digest_of.cache_clear()


def ref(source: Source) -> ListRef:
    found = ListRef.of(source)
    assert found is not None
    return found


def refresh(lists: Lists, which: ListRef, *, offline: bool = False, strict: bool = False) -> None:
    lists.refresh(which, Access(offline=offline, strict=strict))


def listed(lists: Lists, source: Source) -> str:
    """Return the digest of ``a`` in the list as last seen."""
    found = lists.read(ref(source))
    assert isinstance(found, ChecksumList)
    return found.lookup("a").digest.hex


class TestWhatIsOneList:
    def test_a_pin_has_none_that_decides(self) -> None:
        source = Source(("https://h/a",), Digest("sha256", A), checksums="https://h/SUMS")
        assert ListRef.of(source) is None
        declared = ListRef.declared(source)
        assert declared
        assert declared == ref(Source(("https://h/b",), checksums="https://h/SUMS"))
        assert ListRef.declared(Source(("https://h/a",), Digest("sha256", A))) is None

    def test_trust_is_a_part_of_it(self, tmp_path: Path) -> None:
        keys = [tmp_path / name for name in ("one.asc", "copy.asc", "other.asc")]
        for key, text in zip(keys, ("one", "one", "other"), strict=True):
            key.write_text(text)
        plain = Source(("https://h/a",), checksums="https://h/SUMS")
        found = [
            ref(plain).key,
            *(ref(Source(("https://h/a",), checksums="https://h/SUMS", keyring=key)).key for key in keys),
            ref(Source(("https://h/a",), checksums="https://h/SUMS", keyring=keys[0], signature="https://h/S.gpg")).key,
        ]
        assert found[1] == found[2]
        assert len(set(found)) == 4

    @pytest.mark.parametrize(
        "url", ["https://h/com.ubuntu.cloud:released:download.json", f"https://h/{'x' * 300}?a=/../b"]
    )
    def test_its_key_is_a_file_name_on_any_system(self, url: str) -> None:
        key = ref(Source(("https://h/a",), checksums=url)).key
        assert len(key) < 80
        assert not set(key) & set('/\\:*?"<>| ')

    def test_a_tag_in_a_registry_is_one(self) -> None:
        floating = Source(("oci://docker.io/alpine:3", "oci://mirror.example/alpine:3"))
        tag = ref(floating)
        assert tag.is_tag
        assert tag.url == "oci://docker.io/library/alpine:3"
        assert tag.key.startswith("alpine-3-")
        pinned = Source((f"oci://docker.io/library/alpine:3@sha256:{A}",), Digest("sha256", A))
        assert ListRef.of(pinned) is None
        assert ListRef.declared(pinned) == tag
        assert ListRef.declared(Source((f"oci://docker.io/alpine@sha256:{A}",), Digest("sha256", A))) is None

    def test_a_keyring_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(LarderError, match=r"cannot read the keyring .*none\.asc: No such file"):
            ListRef.of(Source(("https://h/a",), checksums="https://h/SUMS", keyring=tmp_path / "none.asc"))


class TestWhatIsKept:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        (tmp_path / "SUMS").write_text(f"{A}  a\n")
        return Source(("https://h/a",), checksums=(tmp_path / "SUMS").as_uri())

    def test_what_was_never_fetched(self, tmp_path: Path, source: Source) -> None:
        lists = Lists(tmp_path / "lists")
        assert lists.version(source) == 0
        assert not lists.is_fresh(ref(source))
        with pytest.raises(FetchError, match="was not fetched yet"):
            lists.read(ref(source))

    def test_what_changes_is_read_anew(self, tmp_path: Path, source: Source) -> None:
        lists = Lists(tmp_path / "lists")
        refresh(lists, ref(source))
        before = lists.version(source)
        assert listed(lists, source) == A
        (tmp_path / "SUMS").write_text(f"{B}  a\n")
        refresh(lists, ref(source))
        assert lists.version(source) != before
        assert listed(lists, source) == B
        assert [path.suffix for path in (tmp_path / "lists").iterdir()] == [".json"]

    def test_how_long_it_is_fresh(self, tmp_path: Path, source: Source) -> None:
        lists = Lists(tmp_path / "lists")
        refresh(lists, ref(source))
        assert lists.is_fresh(ref(source))
        assert not Lists(tmp_path / "lists", ttl=0.0).is_fresh(ref(source))
        lists.expire()
        assert not lists.is_fresh(ref(source))

    def test_offline(self, tmp_path: Path) -> None:
        source = Source(("https://h.invalid/a",), checksums="https://h.invalid/SUMS")
        with pytest.raises(OfflineError, match="was never fetched, and LARDER_OFFLINE is set"):
            refresh(Lists(tmp_path / "lists"), ref(source), offline=True)

    def test_a_file_that_is_gone(self, tmp_path: Path, source: Source) -> None:
        lists = Lists(tmp_path / "lists")
        refresh(lists, ref(source))
        (tmp_path / "SUMS").unlink()
        refresh(lists, ref(source))
        refresh(lists, ref(source), offline=True)
        with pytest.raises(FetchError, match="SUMS: no such file"):
            refresh(lists, ref(source), strict=True)
        assert listed(lists, source) == A
