"""What a template names, and what Lima's cache lacks; tests/graph/tasks/test_lima.py fills a cache over HTTP."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from recipes.cache.store import Store
from recipes.derive.engine import Session
from recipes.derive.recipe import Limits
from recipes.errors import StoreError
from recipes.export import lima_supply
from recipes.model import Digest, Identity, Image, Source

DISK = bytes(510) + b"\x55\xaa" + b"data" * 128


def session(folder: Path) -> Session:
    return Session(Store(folder / "cache"), Limits(mirrors={}, max_virtual_size=1 << 30, jobs=1, offline=False))


def local(folder: Path) -> tuple[Image, Identity]:
    """Return an image that Lima reads where it is, and would not cache."""
    file = folder / "disk.img"
    file.write_bytes(DISK)
    digest = Digest("sha256", hashlib.sha256(DISK).hexdigest())
    return Image("a", "x86_64", "disk", Source((file.as_uri(),), digest)), Identity((file.as_uri(),), digest)


def test_a_local_image_is_named_by_its_raw_which_is_kept(tmp_path: Path) -> None:
    given = session(tmp_path)
    image, identity = local(tmp_path)
    entry = given.store.entry(image)
    for _ in range(2):
        found = lima_supply.locations(given, image, identity, tmp_path / "lima")
        assert found == ((str(entry.artifact("raw")),), None, False)
        assert entry.artifact("raw").read_bytes() == DISK
        assert entry.asked() == {"raw"}
        assert entry.kinds() == ["raw"]
    assert not (tmp_path / "lima").exists()


def test_what_lima_does_not_cache_is_refused_with_the_way_out(tmp_path: Path) -> None:
    image, identity = local(tmp_path)
    with pytest.raises(StoreError, match="downloads with http") as caught:
        lima_supply.fill(session(tmp_path), image, identity, tmp_path / "lima")
    assert "--template" in (caught.value.hint or "")


def test_misses_are_the_urls_without_an_entry(tmp_path: Path) -> None:
    image, identity = local(tmp_path)
    urls = ("https://one.example/a.img", "https://two.example/a.img")
    image = image._replace(source=image.source._replace(urls=urls))
    identity = identity._replace(urls=urls)
    assert lima_supply.misses(image, identity, tmp_path / "lima") == urls


def test_without_a_home_folder_the_cache_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lima_supply, "user_cache", lambda name: Path("/home/me/.cache") / name)
    assert lima_supply.default_cache() == Path("/home/me/.cache/lima")
    monkeypatch.setattr(lima_supply, "user_cache", lambda name: None)
    with pytest.raises(StoreError, match="no home folder"):
        lima_supply.default_cache()
