from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from recipes.cache import roots
from recipes.errors import StoreError


def test_projects_are_remembered(tmp_path: Path) -> None:
    assert roots.registered(tmp_path) == {}
    for name in ("one", "two", "one"):
        roots.register(tmp_path, tmp_path / name / "images.toml")
    assert sorted(roots.registered(tmp_path).values()) == [
        tmp_path / "one" / "images.toml",
        tmp_path / "two" / "images.toml",
    ]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9" / "images.toml"
    roots.register(tmp_path, path)
    assert list(roots.registered(tmp_path).values()) == [path]


def test_a_cache_that_cannot_be_written_to() -> None:
    roots.register(Path("/proc"), Path("/images.toml"))
    assert roots.registered(Path("/proc")) == {}


def test_what_a_loss_of_power_left_empty_is_written_anew(tmp_path: Path) -> None:
    roots.register(tmp_path, tmp_path / "images.toml")
    (file,) = roots.registered(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(StoreError, match=r"expected the path of an images\.toml, found b''"):
        roots.registered(tmp_path)
    roots.register(tmp_path, tmp_path / "images.toml")
    assert list(roots.registered(tmp_path).values()) == [tmp_path / "images.toml"]


def test_a_project_whose_processes_begin_at_once_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def late(draft: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        roots.register(tmp_path, tmp_path / "images.toml")
        return replace(draft, target)

    monkeypatch.setattr(Path, "replace", late)
    roots.register(tmp_path, tmp_path / "images.toml")
    assert list(roots.registered(tmp_path).values()) == [tmp_path / "images.toml"]
    assert len(list((tmp_path / "roots").iterdir())) == 1


def test_others_can_see_whose_the_cache_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        roots.register(tmp_path, tmp_path / "images.toml")
    finally:
        os.umask(before)
    (file,) = roots.registered(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_project_that_may_not_be_seen_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots.register(tmp_path, tmp_path / "images.toml")

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(StoreError, match="Permission denied: it says which projects share this cache"):
        roots.registered(tmp_path)
